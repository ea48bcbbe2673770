"""Queries of training pairs, without the answer in them."""

import polars as pl

from stages.core.params import Pairs
from stages.enrich.text.lines import one_line

MIN_WORDS = 3
"""A query of fewer words, once the title is taken out, is no query."""


def queries_of(reviews: pl.DataFrame, keywords: pl.DataFrame, settings: Pairs) -> pl.DataFrame:
    """Return pair_id, event_id, user_id, item_id and query: one row a review and kind of query."""
    kinds = {"both": ("keywords", "review_text")}.get(settings.query_type, (settings.query_type,))
    named = keywords.select(
        "event_id", words=pl.col("keywords").list.head(settings.max_keywords).list.join(", ")
    )
    rows = reviews.join(named, on="event_id", how="left", maintain_order="left")
    text = {"keywords": pl.col("words"), "review_text": one_line(pl.col("text"))}
    frames = [
        rows.select(
            pl.format(f"{{}}#{kind}", "event_id").alias("pair_id"),
            "event_id",
            "user_id",
            "item_id",
            text[kind].alias("query"),
        )
        for kind in kinds
    ]
    return pl.concat(frames).filter(pl.col("query").str.len_chars() > 0).sort("pair_id")


def hide_titles(pairs: pl.DataFrame, titles: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, int]]:
    """Take the item's title out of queries that hold it, since they would give the answer away.

    Title and query are compared by their words alone, without case and punctuation. A query that
    has fewer than three words left is dropped.

    Returns:
        the pairs, and how many were masked and dropped.
    """
    frame = pairs.join(titles, on="item_id", how="left", maintain_order="left")
    title, words = _words(pl.col("title").fill_null("")), _words(pl.col("query"))
    frame = frame.with_columns(title=title, words=words)
    frame = frame.with_columns(
        given=(pl.col("title").str.len_chars() > 2)
        & pl.col("words").str.contains(pl.col("title"), literal=True)
    )
    masked = [
        _without(said, name) if given else query
        for said, name, given, query in frame.select("words", "title", "given", "query").iter_rows()
    ]
    frame = frame.with_columns(query=pl.Series(masked, dtype=pl.String))
    left = frame.filter(~pl.col("given") | (pl.col("query").str.split(" ").list.len() >= MIN_WORDS))
    counts = {"masked": int(left["given"].sum()), "dropped": frame.height - left.height}
    return left.select(pairs.columns), counts


def _words(text: pl.Expr) -> pl.Expr:
    spaced = text.str.to_lowercase().str.replace_all(r"[^\p{L}\p{N}]+", " ").str.strip_chars()
    return pl.format(" {} ", spaced)


def _without(said: str, name: str) -> str:
    while name in said:  # again: taking one out may bring the next together
        said = said.replace(name, " ")
    return " ".join(said.split())
