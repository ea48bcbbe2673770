"""Dense retrieval: an encoder's query vector against every document vector, searched exactly."""

from copy import copy
from pathlib import Path
from typing import Self

import numpy as np
import polars as pl

from stages.core.log import UserError
from stages.core.params import Dense
from stages.core.search import FlatIndex
from stages.core.storage import read_json, write_json
from stages.encode.encoders import CachedEncoder
from stages.retrieve.retrievers.base import TrainingData, candidates_frame, encoder_beside


class DenseRetriever:
    """`dense_base` with the base encoder, `dense` with the tuned one."""

    def __init__(self, name: str, params: Dense) -> None:
        self._name = name
        self._params = params
        self._encoder: CachedEncoder | None = None
        self._item_ids = pl.Series("item_id", [], dtype=pl.String)
        self._hold(np.empty((0, 0), np.float32))
        self._model_hash = ""

    def fit(self, data: TrainingData) -> None:
        """Take the window's vectors as they are."""
        if data.embeddings is None or data.encoder is None:
            raise UserError(f"retriever {self._name} needs embeddings and their encoder")
        self._encoder = data.encoder
        self._item_ids = data.embeddings["item_id"]
        self._hold(data.embeddings["vector"].to_numpy())
        hashes = data.embeddings["model_hash"].to_list()
        self._model_hash = hashes[0] if hashes else ""

    def retrieve(self, queries: pl.DataFrame, k: int) -> pl.DataFrame:
        """Encode the queries and search; see `Retriever`."""
        asked = queries.filter(pl.col("text").is_not_null())
        if asked.is_empty() or self._encoder is None:
            none = np.empty((0, 0), bool)
            return candidates_frame(self._name, asked["query_id"], none, none, self._item_ids, none)
        vectors = self._encoder.encode(asked["text"].to_list(), "query").dense
        items, scores = self._index.search(vectors, k, self._params.block)
        keep = np.ones_like(items, dtype=bool)
        return candidates_frame(self._name, asked["query_id"], items, scores, self._item_ids, keep)

    def only(self, item_ids: pl.Series) -> Self:
        """See `Restrictable`."""
        mine = self._item_ids.is_in(item_ids.implode())
        made = copy(self)
        made._item_ids = self._item_ids.filter(mine)
        made._hold(self._vectors[mine.to_numpy()])
        return made

    def save(self, folder: Path) -> None:
        """Write vectors, ids and the hash of the encoder that made them."""
        np.save(folder / "vectors.npy", self._vectors)
        pl.DataFrame(self._item_ids).write_parquet(folder / "items.parquet")
        about = {
            "name": self._name,
            "model_hash": self._model_hash,
            "params": self._params.model_dump(),
        }
        write_json(folder / "retriever.json", about)

    @classmethod
    def load(cls, folder: Path, store: Path | None = None) -> Self:
        """Read a fitted retriever.

        Raises:
            UserError: the encoder beside the folder is not the one that made the vectors.
        """
        about = read_json(folder / "retriever.json")
        made = cls(about["name"], Dense.model_validate(about["params"]))
        made._item_ids = pl.read_parquet(folder / "items.parquet")["item_id"]
        made._hold(np.load(folder / "vectors.npy"))
        made._model_hash = about["model_hash"]
        made._encoder = encoder_beside(folder, made._model_hash, store)
        return made

    def _hold(self, vectors: np.ndarray) -> None:
        """Take the items' vectors, laid out for search before the first query comes."""
        self._vectors = vectors
        self._index = FlatIndex(vectors)
