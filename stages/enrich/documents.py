"""Items, reviews, keywords and summaries in, documents out: one text an item and window."""

from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from stages.core import catalogue, files, tables
from stages.core.log import get_logger, run
from stages.core.params import Documents, load_params
from stages.enrich.text.lines import one_line
from stages.enrich.text.parts import (
    document_text,
    in_order,
    quote_reviews,
    rank_keywords,
    with_attributes,
)

log = get_logger(__name__)


def compose(
    items: pl.DataFrame,
    keywords: pl.DataFrame,
    summaries: pl.DataFrame,
    reviews: pl.DataFrame,
    settings: Documents,
) -> pl.DataFrame:
    """Return item_id and text, sorted, for every item that has any part.

    Args:
        items: item_id, title, the list features and the columns of `attributes`.
        keywords: event_id, item_id and the list keywords, one row a review that may be read.
        summaries: item_id and summary.
        reviews: event_id, item_id, timestamp, title and text of the reviews that may be quoted.
        settings: how many keywords, features and reviews.
    """
    named = (
        rank_keywords(keywords, settings.max_keywords)
        .group_by("item_id", maintain_order=True)
        .agg(pl.col("keyword").alias("keywords"))
    )
    features = pl.col("features").list.eval(one_line(pl.element())).list.drop_nulls()
    return (
        with_attributes(items, settings.attributes)
        .select("item_id", "title", "features")
        .join(named, on="item_id", how="left")
        .join(summaries.select("item_id", "summary"), on="item_id", how="left")
        .join(quote_reviews(reviews, settings.reviews), on="item_id", how="left")
        .select(
            "item_id",
            document_text(
                one_line(pl.col("title")),
                in_order(pl.col("keywords"), settings.keyword_order),
                one_line(pl.col("summary")),
                features.list.head(settings.max_features),
                pl.col("quotes"),
            ).alias("text"),
        )
        .drop_nulls("text")
        .sort("item_id")
    )


def keywords_of_window(
    keywords: pl.DataFrame, events: pl.DataFrame, window: str, settings: Documents
) -> pl.DataFrame:
    """Return the keywords that documents of a window are made of; see `Documents.keyword_window`.

    Args:
        keywords: event_id, item_id and the list keywords of any reviews.
        events: event_id and split of any reviews.
        window: whose documents.
        settings: whether window train keeps what fit knows.
    """

    def read(window: str) -> pl.DataFrame:
        inside = pl.col("split").cast(pl.String).is_in(tables.PARTS_OF_WINDOW[window])
        return keywords.join(events.filter(inside).select("event_id"), on="event_id", how="semi")

    mine = read(window)
    if settings.keyword_window == "own":
        return mine
    first = read("fit").filter(pl.col("keywords").list.len() > 0)
    return pl.concat([first, mine.join(first.select("item_id"), on="item_id", how="anti")])


def compose_windows(
    items: pl.DataFrame,
    events: pl.DataFrame,
    keywords: pl.DataFrame,
    summaries: pl.DataFrame,
    settings: Documents,
    properties: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Return the documents table: for each window, what only its own events say.

    Args:
        items: see `compose`.
        events: the reviews of all splits, with the column split.
        keywords: keywords of any of the events.
        summaries: see `compose`.
        settings: see `compose`.
        properties: of items, as the windows knew them; without, items are the same in all.
    """
    frames = []
    for window in tables.WINDOWS:
        splits = tables.PARTS_OF_WINDOW[window]
        reviews = events.filter(pl.col("split").cast(pl.String).is_in(splits))
        read = keywords_of_window(keywords, events, window, settings)
        known = items
        if properties is not None:
            known = catalogue.of_window(items, properties, window)
        frames.append(
            compose(known, read, summaries, reviews, settings).select(
                pl.lit(window).cast(tables.DOCUMENTS.columns["window"]).alias("window"),
                "item_id",
                "text",
            )
        )
    return pl.concat(frames)


def main(
    params_file: Annotated[Path, typer.Option("--params")] = files.PARAMS,
    items_file: Annotated[Path, typer.Option("--items")] = files.ITEMS,
    properties_file: Annotated[Path, typer.Option("--properties")] = files.SPLIT_PROPERTIES,
    events_file: Annotated[Path, typer.Option("--events")] = files.SPLIT_EVENTS,
    keywords_file: Annotated[Path, typer.Option("--keywords")] = files.KEYWORDS,
    summaries_file: Annotated[Path, typer.Option("--summaries")] = files.SUMMARIES,
    documents_file: Annotated[Path, typer.Option("--documents")] = files.DOCUMENTS,
) -> None:
    """Compose the text of each item from what is known of it in each window."""
    params = load_params(params_file)
    items = tables.read(items_file, tables.ITEMS)
    properties = tables.read(properties_file, tables.SPLIT_PROPERTIES)
    columns = ["event_id", "item_id", "timestamp", "title", "text", "split"]
    events = tables.read(events_file, tables.SPLIT_EVENTS, columns)
    keywords = tables.read(keywords_file, tables.KEYWORDS, ["event_id", "item_id", "keywords"])
    summaries = tables.read(summaries_file, tables.SUMMARIES, ["item_id", "summary"])
    documents = compose_windows(items, events, keywords, summaries, params.documents, properties)
    tables.write(documents, documents_file, tables.DOCUMENTS)
    log.info(
        "%d items, %d events, %d reviews with keywords: %s documents",
        items.height,
        events.height,
        keywords.height,
        dict(documents["window"].value_counts().sort("window").iter_rows()),
    )


if __name__ == "__main__":
    run(main)
