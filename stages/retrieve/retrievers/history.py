"""What a query's history holds, as rows of a retriever's items."""

import numpy as np
import polars as pl


def past_items(queries: pl.DataFrame, item_ids: pl.Series) -> pl.DataFrame:
    """Return the items of histories that a retriever knows.

    Args:
        queries: a queries table.
        item_ids: sorted ids.

    Returns:
        `query` and `item`, rows of either (UInt32), and `steps`: how many moments lie between this
        one and the query, 0 for the newest. What was chosen twice stands twice.
    """
    past = (
        queries.select(query=pl.int_range(pl.len(), dtype=pl.UInt32), past="history")
        .explode("past", empty_as_null=False)
        .unnest("past")
        .with_columns(steps=pl.col("timestamp").rank("dense", descending=True).over("query") - 1)
    )
    # Looked up and not joined: a request has a few items, the catalogue may have a million.
    item = item_ids.search_sorted(past["item_id"]).cast(pl.UInt32).alias("item")
    known = item_ids.gather(item.clip(upper_bound=max(len(item_ids) - 1, 0)), null_on_oob=True)
    return past.select("query", item, "steps").filter(known == past["item_id"])


def without_past(
    items: np.ndarray, scores: np.ndarray, past: pl.DataFrame, k: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Take what is in a query's history out of its list.

    Args:
        items: rows of items, best first, shape (queries, n).
        scores: of the same shape.
        past: what `past_items` returns; without rows nothing is taken out.
        k: items kept a query.

    Returns:
        items, scores and which of them to keep, each of shape (queries, min(k, n)).
    """
    query, item = (past[name].to_numpy().astype(np.int64) for name in ("query", "item"))
    width = 1 + max(int(items.max(initial=0)), int(item.max(initial=0)))
    had = query * width + item
    keep = ~np.isin(np.arange(len(items))[:, None] * width + items, had)
    first = np.argsort(~keep, axis=1, kind="stable")[:, :k]
    return (
        np.take_along_axis(items, first, 1),
        np.take_along_axis(scores, first, 1),
        np.take_along_axis(keep, first, 1),
    )
