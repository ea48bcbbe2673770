"""Positive passages, written without the review that asks for them."""

import polars as pl

from stages.core.log import progress
from stages.core.params import Documents
from stages.enrich.documents import (
    document_text,
    in_order,
    quote_reviews,
    rank_keywords,
    with_attributes,
)
from stages.enrich.text.lines import has_characters, one_line

_CHUNK = 20_000
"""Pairs whose item's keywords are held at once."""


def positives(
    pairs: pl.DataFrame,
    items: pl.DataFrame,
    reviews: pl.DataFrame,
    keywords: pl.DataFrame,
    summaries: pl.DataFrame,
    documents: Documents,
) -> pl.DataFrame:
    """Add `positive`: a passage of the item's document, written without the pair's own review.

    An encoder reads a document line by line: the item's parts are the first line, each quoted
    review one more. A pair gets one of these lines, in turn over the item's pairs, so that training
    sees what retrieval sees. Pairs of an item of which nothing else is known are left out.
    """
    features = pl.col("features").list.eval(one_line(pl.element())).list.drop_nulls()
    quotes = quote_reviews(reviews, reviews.height)
    numbered = _numbered(reviews)
    frame = (
        pairs.join(numbered, on="event_id", how="left", maintain_order="left")
        .join(
            with_attributes(items, documents.attributes).select(
                "item_id", "title", features.list.head(documents.max_features)
            ),
            on="item_id",
            how="left",
            maintain_order="left",
        )
        .join(
            summaries.select("item_id", "summary"), on="item_id", how="left", maintain_order="left"
        )
        .join(
            other_keywords(pairs, keywords, documents.max_keywords),
            on="pair_id",
            how="left",
            maintain_order="left",
        )
        .join(quotes, on="item_id", how="left", maintain_order="left")
    )
    head = document_text(
        one_line(pl.col("title")),
        in_order(pl.col("keywords"), documents.keyword_order),
        one_line(pl.col("summary")),
        pl.col("features"),
        pl.lit(None, pl.List(pl.String)),
    )
    count = pl.col("quotes").list.len().fill_null(0).cast(pl.Int64)
    lines = pl.min_horizontal(count - 1, documents.reviews).clip(0)
    turn = pl.col("place") % (lines + 1)
    step = pl.when((turn == 0) & (lines > 0)).then(1).otherwise(turn)
    quote = pl.when(lines > 0).then(
        pl.col("quotes").list.get((pl.col("place") + step) % count, null_on_oob=True)
    )
    frame = frame.with_columns(head=head, quote=quote, turn=turn)
    first = pl.when(pl.col("turn") == 0).then(pl.col("head")).otherwise(pl.col("quote"))
    positive = pl.coalesce(first, "quote", "head")
    return frame.select(*pairs.columns, positive=positive).drop_nulls("positive")


def other_keywords(pairs: pl.DataFrame, keywords: pl.DataFrame, limit: int) -> pl.DataFrame:
    """Return pair_id and keywords: the item's, ranked as in documents, without the pair's review.

    A review must not find its item by words that it put into the item's document itself: a model
    trained on such pairs learns to match a text with its own copy.
    """
    own = keywords.select("event_id", keyword="keywords").explode("keyword").drop_nulls()
    longest = int(keywords["keywords"].list.len().to_numpy().max(initial=0))
    ranked = rank_keywords(keywords, limit + longest).select("item_id", "keyword", "reviews")
    parts = []
    for start in progress(range(0, pairs.height, _CHUNK), desc="pairs"):
        chunk = pairs.slice(start, _CHUNK).select("pair_id", "event_id", "item_id")
        mine = own.join(chunk.select("event_id"), on="event_id", how="semi").unique()
        mine = mine.with_columns(named=pl.lit(1, pl.UInt32))
        parts.append(
            chunk.join(ranked, on="item_id", how="inner", maintain_order="left")
            .join(mine, on=["event_id", "keyword"], how="left", maintain_order="left")
            .with_columns(reviews=pl.col("reviews") - pl.col("named").fill_null(0))
            .filter(pl.col("reviews") > 0)
            .sort("pair_id", "reviews", "keyword", descending=[False, True, False])
            .group_by("pair_id", maintain_order=True)
            .agg(keywords=pl.col("keyword").head(limit))
        )
    schema = pl.Schema([("pair_id", pl.String()), ("keywords", pl.List(pl.String))])
    return pl.concat(parts) if parts else pl.DataFrame(schema=schema)


def _numbered(reviews: pl.DataFrame) -> pl.DataFrame:
    """Return event_id and place: where `quote_reviews` quotes the review, counted from 0."""
    return (
        reviews.filter(has_characters(pl.col("text")))
        .sort("timestamp", "event_id", descending=[True, False])
        .select("event_id", place=pl.int_range(pl.len()).over("item_id"))
    )
