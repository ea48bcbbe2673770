"""Lexical retrieval by BM25 (Robertson and Zaragoza, 2009), through the library bm25s."""

from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl

from stages.core.params import Bm25
from stages.core.stems import stems
from stages.core.storage import read_json, write_json
from stages.retrieve.retrievers.base import TrainingData, candidates_frame


class Bm25Retriever:
    """Stemmed words of the query against those of the documents."""

    def __init__(self, params: Bm25, seed: int = 0) -> None:
        self._params = params
        self._item_ids = pl.Series("item_id", [], dtype=pl.String)
        self._index: Any = None

    def fit(self, data: TrainingData) -> None:
        """Index the window's documents."""
        import bm25s

        self._item_ids = data.documents["item_id"]
        self._index = bm25s.BM25(k1=self._params.k1, b=self._params.b, method="lucene")
        self._index.index(stems(data.documents["text"].to_list()), show_progress=False)

    def retrieve(self, queries: pl.DataFrame, k: int) -> pl.DataFrame:
        """Score every document that shares a word with the query; see `Retriever`."""
        asked = queries.filter(pl.col("text").is_not_null())
        k = min(k, len(self._item_ids))
        items = np.zeros((asked.height, k), np.int64)
        scores = np.zeros((asked.height, k), np.float32)
        for row, words in enumerate(stems(asked["text"].to_list())):
            known = [word for word in words if word in self._index.vocab_dict]
            if not known:
                continue
            every = self._index.get_scores(known)
            order = _best(every, k)
            items[row, : len(order)] = order
            scores[row, : len(order)] = every[order]
        return candidates_frame(
            "bm25", asked["query_id"], items, scores, self._item_ids, scores > 0
        )

    def save(self, folder: Path) -> None:
        """Write the index, the items and the parameters."""
        self._index.save(folder / "index", show_progress=False)
        pl.DataFrame(self._item_ids).write_parquet(folder / "items.parquet")
        write_json(folder / "retriever.json", {"params": self._params.model_dump()})

    @classmethod
    def load(cls, folder: Path, store: Path | None = None) -> Self:
        """Read a fitted retriever; it needs no encoder."""
        import bm25s

        made = cls(Bm25.model_validate(read_json(folder / "retriever.json")["params"]))
        made._index = bm25s.BM25.load(folder / "index", show_progress=False)
        made._item_ids = pl.read_parquet(folder / "items.parquet")["item_id"]
        return made


def _best(scores: np.ndarray, k: int) -> np.ndarray:
    """Rows of the k largest scores, best first, ties by row number."""
    if k < len(scores):
        least = np.partition(scores, len(scores) - k)[len(scores) - k]
        pool = np.flatnonzero(scores >= least)
    else:
        pool = np.arange(len(scores))
    return pool[np.lexsort((pool, -scores[pool]))][:k]
