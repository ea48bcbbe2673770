"""Items that go with what the asker chose before, by similarities over the users of a window."""

from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl

from stages.core.log import UserError
from stages.core.params import ItemKnn
from stages.core.storage import read_json, write_json
from stages.retrieve.retrievers.base import TrainingData, candidates_frame
from stages.retrieve.retrievers.history import KnowsItems, past_items
from stages.retrieve.retrievers.similarity import similar_items

_CHUNK = 2048
"""Queries, at the most, whose scores of all items are held at once."""
_ONES = np.uint64(2**32 - 1)


class ItemKnnRetriever(KnowsItems):
    """The recency-weighted sum of the similarities of an item with those of the history.

    A history's newest moment counts 1, each one before it `recency` times as much. It answers
    whoever has a history, known in training or not. Nothing that it does leans on the order of ids,
    but for ties of score and popularity.
    """

    def __init__(self, params: ItemKnn, seed: int = 0) -> None:
        self._params = params
        self._item_ids = pl.Series("item_id", [], dtype=pl.String)
        self._similar: Any = None

    def fit(self, data: TrainingData) -> None:
        """Count what goes with what over the window's events."""
        if data.events is None:
            raise UserError("retriever item_knn needs events")
        self._item_ids = data.events["item_id"].unique().sort()
        self._similar = similar_items(data.events, self._item_ids, self._params)

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
