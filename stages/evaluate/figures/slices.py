"""Slices of the queries: cold and warm users and items, head and tail."""

import math

import polars as pl

from stages.core.tables import PARTS_OF_WINDOW, WINDOW_OF_SPLIT

SLICES = ("cold_users", "warm_users", "cold_items", "warm_items", "head_items", "tail_items")


def slices_of(
    queries: pl.DataFrame, events: pl.DataFrame, catalogue: pl.DataFrame, split: str, tail: float
) -> pl.DataFrame:
    """Return (query_id, one boolean column a slice) for the split's queries, sorted by query_id.

    A user or an item is warm when the window behind the split holds an event of theirs; a query
    without a user is cold. Tail items are the least reviewed in the window, up to the share `tail`
    of the catalogue, with all that are reviewed as little as the last of them. A query of several
    targets is warm, and head, when all of its targets are.

    Args:
        queries: query_id, user_id, targets, split.
        events: user_id, item_id, split.
        catalogue: item_id of every item.
        split: whose queries.
        tail: share of the catalogue.
    """
    behind = events.filter(pl.col("split").is_in(PARTS_OF_WINDOW[WINDOW_OF_SPLIT[split]]))
    counts = catalogue.select("item_id").join(
        behind.group_by("item_id").len("reviews"), on="item_id", how="left"
    )
    counts = counts.with_columns(pl.col("reviews").fill_null(0)).sort("reviews")
    last = counts["reviews"].slice(max(math.ceil(tail * counts.height) - 1, 0), 1)
    limit = last.item() if len(last) else 0
    asked = queries.filter(split=split).sort("query_id")
    items = (
        asked.select("query_id", item_id="targets")
        .explode("item_id")
        .join(counts, on="item_id", how="left")
        .group_by("query_id")
        .agg(fewest=pl.col("reviews").fill_null(0).min())
    )
    users = behind.select("user_id").unique().with_columns(warm_users=True)
    return (
        asked.select("query_id", "user_id")
        .join(users, on="user_id", how="left", maintain_order="left")
        .join(items, on="query_id", how="left", maintain_order="left")
        .with_columns(
            pl.col("warm_users").fill_null(False),
            warm_items=pl.col("fewest") > 0,
            head_items=pl.col("fewest") > limit,
        )
        .with_columns(
            cold_users=~pl.col("warm_users"),
            cold_items=~pl.col("warm_items"),
            tail_items=~pl.col("head_items"),
        )
        .select("query_id", *SLICES)
    )


def warm_queries(
    queries: pl.DataFrame, events: pl.DataFrame, catalogue: pl.DataFrame
) -> pl.DataFrame:
    """Return the queries whose targets the window behind their split had events of.

    Only these can be found by what the window knew. Two splits are compared on them, since one in
    which more items are new is harder for every retriever, honest or not.
    """
    asked = [split for split in WINDOW_OF_SPLIT if (queries["split"] == split).any()]
    warm = [
        slices_of(queries, events, catalogue, split, 1.0).filter("warm_items") for split in asked
    ]
    if not warm:
        return queries.clear()
    return queries.join(pl.concat(warm), on="query_id", how="semi", maintain_order="left")
