"""Items like those that the asker chose before, by what the catalogue says and shows of them."""

from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl

from stages.core.log import UserError
from stages.core.params import Content
from stages.core.storage import read_json, write_json
from stages.retrieve.retrievers.base import TrainingData, candidates_frame
from stages.retrieve.retrievers.description import fuse
from stages.retrieve.retrievers.history import (
    KnowsItems,
    in_chunks,
    past_items,
    search_without_past,
)
from stages.retrieve.retrievers.nearest import NearestIndex

_CHUNK = 4096
"""Queries that are answered at once."""
_CANCELLED = 1e-4
"""Length of a history's mean under which its items cancel out and nothing is like it."""


class ContentRetriever(KnowsItems):
    """Cosines of items with the decayed mean of the history's items.

    Items are vectors of their text, their picture, or both; see `fuse`. A history's newest moment
    counts 1, each one before it `recency` times as much. An item needs no events to be found, and
    nobody has to be known: an item without a vector is neither found nor read in a history.
    """

    def __init__(self, params: Content, seed: int = 0) -> None:
        self._params = params
        self._item_ids = pl.Series("item_id", [], dtype=pl.String)
        self._index = NearestIndex(np.empty((0, 0), np.float32), "exact")

    def fit(self, data: TrainingData) -> None:
        """Fuse the vectors of the window's items and lay them out for search."""
        weight = self._params.picture_weight
        given = ((data.embeddings, 1 - weight), (data.pictures, weight))
        parts = [(frame.select("item_id", "vector"), w) for frame, w in given if frame is not None]
        if not parts:
            raise UserError("retriever content needs embeddings or pictures")
        self._item_ids, vectors = fuse(parts, self._params)
        self._index = NearestIndex(vectors, self._params.index)

    def retrieve(self, queries: pl.DataFrame, k: int) -> pl.DataFrame:
        """Search with the mean of each history; see `Retriever`."""
        return pl.concat(self._answer(part, k) for part in in_chunks(queries, _CHUNK))

    def save(self, folder: Path) -> None:
        """Write vectors, items, parameters and what the index is built of."""
        self._index.save(folder)
        pl.DataFrame(self._item_ids).write_parquet(folder / "items.parquet")
        write_json(folder / "retriever.json", {"params": self._params.model_dump()})

    @classmethod
    def load(cls, folder: Path, store: Path | None = None) -> Self:
        """Read a fitted retriever; it needs no encoder."""
        made = cls(Content.model_validate(read_json(folder / "retriever.json")["params"]))
        made._item_ids = pl.read_parquet(folder / "items.parquet")["item_id"]
        made._index = NearestIndex.load(folder, made._params.index)
        return made

    def _answer(self, queries: pl.DataFrame, k: int) -> pl.DataFrame:
        past = past_items(queries, self._item_ids)
        means = self._means(past, queries.height)
        lengths = np.linalg.norm(means, axis=1)
        asked = np.flatnonzero(lengths > _CANCELLED)
        place = np.full(queries.height, -1)
        place[asked] = np.arange(len(asked))
        own = past.unique(["query", "item"])
        own = own.with_columns(query=pl.Series(place[own["query"].to_numpy()]))
        own = own.filter(pl.col("query") >= 0) if not self._params.repeat else own.clear()
        users = (means[asked] / lengths[asked, None]).astype(np.float32)
        items, scores, keep = search_without_past(self._index.search, users, own, k)
        ids = queries["query_id"].gather(asked)
        keep &= np.isfinite(scores)
        return candidates_frame("content", ids, items, scores, self._item_ids, keep)

    def _means(self, past: pl.DataFrame, count: int) -> Any:
        """Weighted means of the vectors of what was chosen, 0 where nothing was."""
        from scipy import sparse

        read = past.filter(pl.col("steps") < self._params.max_history)
        weight = self._params.recency ** read["steps"].to_numpy().astype(np.float64)
        at = (read["query"].to_numpy(), read["item"].to_numpy())
        shape = (count, len(self._item_ids))
        chosen = sparse.csr_matrix((weight, at), shape=shape)
        total = np.asarray(chosen.sum(axis=1)).ravel()
        chosen = sparse.diags(1 / np.maximum(total, 1e-300)) @ chosen
        return chosen.astype(np.float32) @ self._index.vectors
