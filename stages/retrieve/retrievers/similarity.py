"""Similarities of items over the users of a window, as item-kNN retrieves and features rank."""

from typing import Any

import numpy as np
import polars as pl

from stages.core.pairs import rows_of
from stages.core.params import ItemKnn

_ONES = np.uint32(2**32 - 1)
_TIE = 1e-4
"""Share of a score by which, of two items with equal evidence, the better known one is ahead."""


def similar_items(events: pl.DataFrame, item_ids: pl.Series, params: ItemKnn) -> Any:
    """Return how well each item goes with each: CSR of shape (items, items), float32, no diagonal.

    A row keeps its `neighbours` largest and those equal to the last of them. Nothing leans on the
    order of ids.

    Args:
        events: user_id, item_id, timestamp; what stands twice counts once.
        item_ids: sorted; all of the events' and perhaps more.
        params: the similarity and what it takes.
    """
    events = events.select("user_id", "item_id", "timestamp").unique(maintain_order=True)
    item = item_ids.search_sorted(events["item_id"]).to_numpy().astype(np.int64)
    similar = {"directional": _directional, "cosine": _cosine, "bm25": _bm25}
    matrix = similar[params.similarity](events, item, len(item_ids), params)
    count = np.bincount(item, minlength=len(item_ids))
    known = 1 + _TIE * np.log1p(count) / np.log1p(count.max(initial=1))
    return _nearest(matrix.multiply(known[None, :]).tocsr(), params.neighbours)


def _directional(events: pl.DataFrame, item: np.ndarray, items: int, params: ItemKnn) -> Any:
    """What follows what: 1/gap for a gap of up to `window` of a user's moments, damped by both.

    A moment is all that a user chose at one time; within it each goes with each at gap 1. The sum
    is divided by both items' counts to the power `damping`.
    """
    from scipy import sparse

    ordered = events.with_columns(pl.Series("item", item)).select(
        "item", user=pl.Series(_users(events)), time="timestamp"
    )
    ordered = ordered.with_columns(moment=pl.struct("user", "time").rank("dense") - 1)
    moment = ordered["moment"].to_numpy().astype(np.int64)
    user = np.empty(int(moment.max(initial=-1)) + 1, np.int64)
    user[moment] = ordered["user"].to_numpy()
    ones = np.ones(len(moment), np.float32)
    at = (moment, ordered["item"].to_numpy())
    chosen = sparse.csr_matrix((ones, at), shape=(len(user), items))
    follows = (chosen.T @ chosen).tocsr()
    for gap in range(1, min(params.window, len(user) - 1) + 1):
        same = np.flatnonzero(user[gap:] == user[:-gap])
        if not len(same):
            break
        follows = follows + (chosen[same].T @ chosen[same + gap]) / gap
    follows.setdiag(0)
    scale = sparse.diags(_damped(item, items, params.damping))
    return (scale @ follows @ scale).tocsr()


def _cosine(events: pl.DataFrame, item: np.ndarray, items: int, params: ItemKnn) -> Any:
    """Cosine of the items' sets of users (Sarwar et al., 2001)."""
    from scipy import sparse

    chosen = _by_user(events, item, items)
    together = (chosen.T @ chosen).tocsr()
    together.setdiag(0)
    counts = np.asarray(chosen.sum(axis=0)).ravel()
    scale = sparse.diags(1 / np.sqrt(np.maximum(counts, 1.0)))
    return (scale @ together @ scale).tocsr()


def _bm25(events: pl.DataFrame, item: np.ndarray, items: int, params: ItemKnn) -> Any:
    """Products of BM25 weights, an item being a document of which its users are the words.

    A user of few items says more of each; an item of many users is held against it. With k1 = 1.2
    and b = 0.75 (Robertson and Zaragoza, 2009).
    """
    from scipy import sparse

    chosen = _by_user(events, item, items).T.tocsr()
    of_user = np.asarray(chosen.sum(axis=0)).ravel()
    of_item = np.asarray(chosen.sum(axis=1)).ravel()
    rare = np.log1p((items - of_user + 0.5) / (of_user + 0.5))
    length = 0.25 + 0.75 * of_item / max(float(of_item.mean()), 1.0)
    weights = sparse.diags(2.2 / (1 + 1.2 * length)) @ chosen @ sparse.diags(rare)
    together = (weights @ weights.T).tocsr()
    together.setdiag(0)
    return together


def _by_user(events: pl.DataFrame, item: np.ndarray, items: int) -> Any:
    """Which user chose which item, shape (users, items), once however often."""
    from scipy import sparse

    user = _users(events)
    ones = np.ones(len(user), np.float32)
    chosen = sparse.csr_matrix((ones, (user, item)), shape=(int(user.max(initial=-1)) + 1, items))
    chosen.data[:] = 1
    return chosen


def _users(events: pl.DataFrame) -> np.ndarray:
    """Users by number, shape (n,)."""
    return rows_of(events["user_id"], events["user_id"].unique().sort())


def _damped(item: np.ndarray, items: int, power: float) -> np.ndarray:
    counts = np.bincount(item, minlength=items)
    return np.maximum(counts, 1).astype(np.float32) ** -power


def _nearest(matrix: Any, count: int) -> Any:
    """Keep the `count` largest of each row and those equal to the last of them."""
    from scipy import sparse

    matrix.eliminate_zeros()
    matrix = matrix.astype(np.float32)
    if not matrix.nnz:
        return matrix
    row = np.repeat(np.arange(matrix.shape[0], dtype=np.uint64), np.diff(matrix.indptr))
    # One number of row and value sorts several times as fast as both: positive floats ascend as
    # their bits do.
    packed = np.sort(row << np.uint64(32) | (_ONES - matrix.data.view(np.uint32)))
    last = np.minimum(matrix.indptr[:-1] + count, matrix.indptr[1:]) - 1
    least = (_ONES - packed[np.maximum(last, 0)].astype(np.uint32)).view(np.float32)
    keep = matrix.data >= np.repeat(least, np.diff(matrix.indptr))
    row, column = row[keep].astype(np.int64), matrix.indices[keep]
    made = sparse.csr_matrix((matrix.data[keep], (row, column)), shape=matrix.shape)
    made.sort_indices()
    return made
