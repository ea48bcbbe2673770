"""What a query's history holds, as rows of a retriever's items."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

import numpy as np
import polars as pl

from stages.core.pairs import sorted_rows_of

_HEAVY = 256
"""Entries of a history beyond which it is answered among others of the kind."""


class KnowsItems(ABC):
    """A retriever that tells what goes with the items that it knows."""

    _item_ids: pl.Series

    @abstractmethod
    def retrieve(self, queries: pl.DataFrame, k: int) -> pl.DataFrame:
        """See `Retriever`."""

    def knows(self, item_id: str) -> bool:
        """Whether the item can be part of a history."""
        return bool(sorted_rows_of(pl.Series([item_id]), self._item_ids)[0] >= 0)


def in_chunks(queries: pl.DataFrame, count: int) -> Iterator[pl.DataFrame]:
    """Cut queries into parts that are answered at once, one at least.

    What is in a history is searched for in vain, so the longest of a part decides how much is
    searched for all of it: long histories are answered apart, few at a time.
    """
    heavy = pl.col("history").list.len() > _HEAVY
    for part, height in ((queries.filter(~heavy), count), (queries.filter(heavy), count // 64)):
        for start in range(0, part.height, max(height, 1)):
            yield part.slice(start, max(height, 1))
    if queries.is_empty():
        yield queries


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
    item = pl.Series("item", sorted_rows_of(past["item_id"], item_ids))
    return past.select("query", item, "steps").filter(item >= 0).cast({"item": pl.UInt32})


def search_without_past(
    search: Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]],
    users: np.ndarray,
    past: pl.DataFrame,
    k: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Search for so many more than k that k are left when what is in a history is taken out.

    Args:
        search: gives rows of items and scores, best first, of vectors and a count.
        users: vectors, a row a query.
        past: what `past_items` returns, each item once a query; without rows nothing is taken out.
        k: items kept a query.

    Returns:
        see `without_past`.
    """
    longest = int(past.group_by("query").len()["len"].to_numpy().max(initial=0))
    items, scores = search(users, k + longest)
    return without_past(items, scores, past, k)


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
