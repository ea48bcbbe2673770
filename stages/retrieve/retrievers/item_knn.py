"""Items that go with what the asker chose before, by similarities over the users of a window."""

from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl

from stages.core.log import UserError
from stages.core.params import ItemKnn
from stages.core.storage import read_json, write_json
from stages.retrieve.retrievers.base import TrainingData, candidates_frame
from stages.retrieve.retrievers.history import past_items

_CHUNK = 2048
"""Queries, at the most, whose scores of all items are held at once."""
_ONES = np.uint64(2**32 - 1)
_TIE = 1e-4
"""Share of a score by which, of two items with equal evidence, the better known one is ahead."""


class ItemKnnRetriever:
    """The recency-weighted sum of the similarities of an item with those of the history.

    A history's newest moment counts 1, each one before it `recency` times as much. It answers
    whoever has a history, known in training or not. Nothing that it does leans on the order of ids,
    but for ties of score and popularity.
    """

    def __init__(self, params: ItemKnn) -> None:
        self._params = params
        self._item_ids = pl.Series("item_id", [], dtype=pl.String)
        self._similar: Any = None

    def fit(self, data: TrainingData) -> None:
        """Count what goes with what over the window's events."""
        if data.events is None:
            raise UserError("retriever item_knn needs events")
        events = data.events.select("user_id", "item_id", "timestamp").unique(maintain_order=True)
        self._item_ids = events["item_id"].unique().sort()
        item = _rows_of(events["item_id"], self._item_ids)
        similar = {"directional": _directional, "cosine": _cosine, "bm25": _bm25}
        matrix = similar[self._params.similarity](events, item, len(self._item_ids), self._params)
        count = np.bincount(item, minlength=len(self._item_ids))
        known = 1 + _TIE * np.log1p(count) / np.log1p(count.max(initial=1))
        self._similar = _nearest(matrix.multiply(known[None, :]).tocsr(), self._params.neighbours)

    def retrieve(self, queries: pl.DataFrame, k: int) -> pl.DataFrame:
        """Sum the similarities with the history's items; see `Retriever`."""
        at_once = min(_CHUNK, 2**31 // (len(self._item_ids) + 1))
        found = [
            self._answer(queries.slice(start, at_once), k)
            for start in range(0, queries.height, at_once)
        ]
        return pl.concat(found) if found else self._answer(queries, k)

    def save(self, folder: Path) -> None:
        """Write similarities, items and parameters."""
        from scipy import sparse

        sparse.save_npz(folder / "similar.npz", self._similar)
        pl.DataFrame(self._item_ids).write_parquet(folder / "items.parquet")
        write_json(folder / "retriever.json", {"params": self._params.model_dump()})

    @classmethod
    def load(cls, folder: Path, store: Path | None = None) -> Self:
        """Read a fitted retriever; it needs no encoder."""
        from scipy import sparse

        made = cls(ItemKnn.model_validate(read_json(folder / "retriever.json")["params"]))
        made._similar = sparse.load_npz(folder / "similar.npz")
        made._item_ids = pl.read_parquet(folder / "items.parquet")["item_id"]
        return made

    def _answer(self, queries: pl.DataFrame, k: int) -> pl.DataFrame:
        past = past_items(queries, self._item_ids)
        shape = (queries.height, len(self._item_ids))
        recent = past.filter(pl.col("steps") < self._params.max_history)
        weight = self._params.recency ** recent["steps"].to_numpy().astype(np.float32)
        scores = (_matrix(recent, weight, shape) @ self._similar).tocsr()
        if not self._params.repeat:
            scores = scores - scores.multiply(_matrix(past, np.ones(past.height), shape) > 0)
        rows, values = _best(scores.tocsr(), min(k, len(self._item_ids)))
        return candidates_frame(
            "item_knn", queries["query_id"], rows, values, self._item_ids, values > 0
        )


def _matrix(past: pl.DataFrame, weight: np.ndarray, shape: tuple[int, int]) -> Any:
    """Weights by query and item; what stands twice adds up."""
    from scipy import sparse

    at = (past["query"].to_numpy(), past["item"].to_numpy())
    return sparse.csr_matrix((weight.astype(np.float32), at), shape=shape)


def _directional(events: pl.DataFrame, item: np.ndarray, items: int, params: ItemKnn) -> Any:
    """What follows what: 1/gap for a gap of up to `window` of a user's moments, damped by both.

    A moment is all that a user chose at one time; within it each goes with each at gap 1. The sum
    is divided by both items' counts to the power `damping`.
    """
    from scipy import sparse

    ordered = events.with_columns(pl.Series("item", item)).select(
        "item", user=pl.col("user_id").rank("dense"), time="timestamp"
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

    user = events["user_id"].rank("dense").to_numpy().astype(np.int64) - 1
    ones = np.ones(len(user), np.float32)
    chosen = sparse.csr_matrix((ones, (user, item)), shape=(int(user.max(initial=-1)) + 1, items))
    chosen.data[:] = 1
    return chosen


def _damped(item: np.ndarray, items: int, power: float) -> np.ndarray:
    counts = np.bincount(item, minlength=items)
    return np.maximum(counts, 1).astype(np.float32) ** -power


def _rows_of(ids: pl.Series, known: pl.Series) -> np.ndarray:
    return known.search_sorted(ids).to_numpy().astype(np.int64)


def _nearest(matrix: Any, count: int) -> Any:
    """Keep the `count` largest of each row and those equal to the last of them."""
    from scipy import sparse

    matrix.eliminate_zeros()
    lengths = np.diff(matrix.indptr)
    row = np.repeat(np.arange(matrix.shape[0]), lengths)
    order = np.lexsort((-matrix.data, row))
    place = np.arange(len(row)) - matrix.indptr[row]
    least = np.full(matrix.shape[0], -np.inf, np.float64)
    last = place == count - 1
    least[row[last]] = matrix.data[order][last]
    keep = matrix.data >= least[row]
    kept = (matrix.data[keep].astype(np.float32), (row[keep], matrix.indices[keep]))
    made = sparse.csr_matrix(kept, shape=matrix.shape)
    made.sort_indices()
    return made


def _best(scores: Any, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k largest positive scores of each row, best first, ties by column.

    Row, score and column are packed into one number, which sorts several times as fast as the three
    one after the other: the bits of positive floats ascend as they do.

    Args:
        scores: CSR, float32, shape (n, m), where n x m is under 2**31.
        k: columns a row.

    Returns:
        columns and values, each of shape (n, k); 0 where there are no more.
    """
    scores.sum_duplicates()
    row = np.repeat(np.arange(scores.shape[0], dtype=np.uint64), np.diff(scores.indptr))
    bits = int(scores.shape[1]).bit_length()
    value = scores.data.astype(np.float32).view(np.uint32).astype(np.uint64)
    packed = row << np.uint64(32 + bits) | (_ONES - value) << np.uint64(bits)
    packed = np.sort((packed | scores.indices.astype(np.uint64))[scores.data > 0])
    row = (packed >> np.uint64(32 + bits)).astype(np.int64)
    place = np.arange(len(row)) - np.searchsorted(row, row)
    row, place, packed = row[place < k], place[place < k], packed[place < k]
    columns = np.zeros((scores.shape[0], k), np.int64)
    values = np.zeros((scores.shape[0], k), np.float32)
    columns[row, place] = (packed & np.uint64((1 << bits) - 1)).astype(np.int64)
    value = _ONES - (packed >> np.uint64(bits) & _ONES)
    values[row, place] = value.astype(np.uint32).view(np.float32)
    return columns, values
