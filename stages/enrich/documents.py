"""Items, reviews, keywords and summaries in, documents out: one text an item and window."""

from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from stages.core import files, tables
from stages.core.log import get_logger, run
from stages.core.params import Documents, load_params

log = get_logger(__name__)

SPLITS_OF_WINDOW = {"fit": ("fit",), "train": ("fit", "rank")}


def rank_keywords(keywords: pl.DataFrame, limit: int | None = None) -> pl.DataFrame:
    """Rank each item's keywords by how many of its reviews name them, ties alphabetically.

    Args:
        keywords: event_id, item_id and the list keywords, one row a review.
        limit: ranks to keep; None for all.

    Returns:
        item_id, keyword, reviews, rank (from 1), sorted by item and rank.
    """
    ranked = (
        keywords.select("item_id", pl.col("keywords").list.unique(maintain_order=True))
        .explode("keywords", empty_as_null=False)
        .group_by("item_id", pl.col("keywords").alias("keyword"))
        .agg(pl.len().alias("reviews"))
        .sort("item_id", "reviews", "keyword", descending=[False, True, False])
        .with_columns((pl.int_range(pl.len(), dtype=pl.UInt32).over("item_id") + 1).alias("rank"))
    )
    return ranked if limit is None else ranked.filter(pl.col("rank") <= limit)


def quote_reviews(reviews: pl.DataFrame, limit: int) -> pl.DataFrame:
    """Return item_id and quotes: each item's newest reviews that have text, newest first.

    A quote is one line, "title. text"; of two reviews at one time the smaller event_id comes first.
    """
    title = one_line(pl.col("title")).str.strip_chars_end(". ")
    return (
        reviews.with_columns(one_line(pl.col("text")), title)
        .filter(pl.col("text").is_not_null())
        .sort("timestamp", "event_id", descending=[True, False])
        .group_by("item_id", maintain_order=True)
        .head(limit)
        .group_by("item_id", maintain_order=True)
        .agg(
            pl.concat_str(
                pl.when(pl.col("title").str.len_chars() > 0).then("title"),
                "text",
                separator=". ",
                ignore_nulls=True,
            ).alias("quotes")
        )
    )


def one_line(text: pl.Expr) -> pl.Expr:
    """Return `text` with every run of white space made one space, null where nothing is left."""
    line = text.str.replace_all(r"\s+", " ").str.strip_chars()
    return pl.when(line.str.len_chars() > 0).then(line)


def document_text(
    title: pl.Expr, keywords: pl.Expr, summary: pl.Expr, features: pl.Expr, quotes: pl.Expr
) -> pl.Expr:
    """Join the parts that exist into a document's text, null where none does.

    The first line is `[Title] ... [Review Keywords] a, b [Description Summary] ... [Features] a;
    b`; each quote is a line, the first of them opened by `[Reviews] `.

    Args:
        title: a line or null.
        keywords: a list of keywords, best first, or null.
        summary: a line or null.
        features: a list of lines or null.
        quotes: a list of lines or null.
    """
    parts = {
        "Title": title,
        "Review Keywords": keywords.list.join(", "),
        "Description Summary": summary,
        "Features": features.list.join("; "),
    }
    first_line = pl.concat_str(
        [
            pl.when(text.str.len_chars() > 0).then(pl.format(f"[{name}] {{}}", text))
            for name, text in parts.items()
        ],
        separator=" ",
        ignore_nulls=True,
    )
    more_lines = quotes.list.join("\n")
    text = pl.concat_str(
        pl.when(first_line.str.len_chars() > 0).then(first_line),
        pl.when(more_lines.str.len_chars() > 0).then(pl.format("[Reviews] {}", more_lines)),
        separator="\n",
        ignore_nulls=True,
    )
    return pl.when(text.str.len_chars() > 0).then(text)


def compose(
    items: pl.DataFrame,
    keywords: pl.DataFrame,
    summaries: pl.DataFrame,
    reviews: pl.DataFrame,
    settings: Documents,
) -> pl.DataFrame:
    """Return item_id and text, sorted, for every item that has any part.

    Args:
        items: item_id, title and the list features.
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
        items.select("item_id", "title", "features")
        .join(named, on="item_id", how="left")
        .join(summaries.select("item_id", "summary"), on="item_id", how="left")
        .join(quote_reviews(reviews, settings.reviews), on="item_id", how="left")
        .select(
            "item_id",
            document_text(
                one_line(pl.col("title")),
                pl.col("keywords"),
                one_line(pl.col("summary")),
                features.list.head(settings.max_features),
                pl.col("quotes"),
            ).alias("text"),
        )
        .drop_nulls("text")
        .sort("item_id")
    )


def compose_windows(
    items: pl.DataFrame,
    events: pl.DataFrame,
    keywords: pl.DataFrame,
    summaries: pl.DataFrame,
    settings: Documents,
) -> pl.DataFrame:
    """Return the documents table: for each window, what only its own events say.

    Args:
        items: see `compose`.
        events: the reviews of all splits, with the column split.
        keywords: keywords of any of the events.
        summaries: see `compose`.
        settings: see `compose`.
    """
    frames = []
    for window in tables.WINDOWS:
        splits = SPLITS_OF_WINDOW[window]
        reviews = events.filter(pl.col("split").cast(pl.String).is_in(splits))
        read = keywords.join(reviews.select("event_id"), on="event_id", how="semi")
        frames.append(
            compose(items, read, summaries, reviews, settings).select(
                pl.lit(window).cast(tables.DOCUMENTS.columns["window"]).alias("window"),
                "item_id",
                "text",
            )
        )
    return pl.concat(frames)


def main(
    params_file: Annotated[Path, typer.Option("--params")] = files.PARAMS,
    items_file: Annotated[Path, typer.Option("--items")] = files.ITEMS,
    events_file: Annotated[Path, typer.Option("--events")] = files.SPLIT_EVENTS,
    keywords_file: Annotated[Path, typer.Option("--keywords")] = files.KEYWORDS,
    summaries_file: Annotated[Path, typer.Option("--summaries")] = files.SUMMARIES,
    documents_file: Annotated[Path, typer.Option("--documents")] = files.DOCUMENTS,
) -> None:
    """Compose the text of each item from what is known of it in each window."""
    params = load_params(params_file)
    items = tables.read(items_file, tables.ITEMS, ["item_id", "title", "features"])
    columns = ["event_id", "item_id", "timestamp", "title", "text", "split"]
    events = tables.read(events_file, tables.SPLIT_EVENTS, columns)
    keywords = tables.read(keywords_file, tables.KEYWORDS, ["event_id", "item_id", "keywords"])
    summaries = tables.read(summaries_file, tables.SUMMARIES, ["item_id", "summary"])
    documents = compose_windows(items, events, keywords, summaries, params.documents)
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
