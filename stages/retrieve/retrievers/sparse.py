"""Learned sparse retrieval: inner product of lexical weights, such as BGE-M3's sparse output."""

from copy import copy
from pathlib import Path
from typing import Self

import numpy as np
import polars as pl

from stages.core.log import UserError
from stages.core.params import Dense
from stages.core.storage import read_json, write_json
from stages.encode.encoders import CachedEncoder
from stages.retrieve.retrievers.base import TrainingData, candidates_frame, encoder_beside
from stages.retrieve.retrievers.lexical import LexicalIndex


class SparseRetriever:
    """The items that share tokens with the query, weighed by the base encoder."""

    def __init__(self, params: Dense) -> None:
        self._params = params
        self._encoder: CachedEncoder | None = None
        self._item_ids = pl.Series("item_id", [], dtype=pl.String)
        self._index: LexicalIndex | None = None
        self._model_hash = ""

    def fit(self, data: TrainingData) -> None:
        """Take the window's lexical weights.

        Raises:
            UserError: the embeddings carry none.
        """
        embeddings = data.embeddings
        if embeddings is None or "sparse" not in embeddings.columns:
            raise UserError("retriever sparse: the base embeddings carry no lexical weights")
        self._encoder = data.encoder
        self._item_ids = embeddings["item_id"]
        hashes = embeddings["model_hash"].to_list()
        self._model_hash = hashes[0] if hashes else ""
        self._index = LexicalIndex.of(embeddings["sparse"])

    def retrieve(self, queries: pl.DataFrame, k: int) -> pl.DataFrame:
        """Multiply and keep the k largest scores of each query above zero; see `Retriever`."""
        asked = queries.filter(pl.col("text").is_not_null())
        if asked.is_empty() or self._encoder is None or self._index is None:
            none = np.empty((0, 0), bool)
            return candidates_frame("sparse", asked["query_id"], none, none, self._item_ids, none)
        weights = self._encoder.encode(asked["text"].to_list(), "query").sparse or []
        items, scores = self._index.search(self._index.queries(weights), k, self._params.block)
        return candidates_frame(
            "sparse", asked["query_id"], items, scores, self._item_ids, scores > 0
        )

    def only(self, item_ids: pl.Series) -> Self:
        """See `Restrictable`."""
        mine = self._item_ids.is_in(item_ids.implode())
        made = copy(self)
        made._item_ids = self._item_ids.filter(mine)
        made._index = self._index and self._index.only(mine.to_numpy())
        return made

    def save(self, folder: Path) -> None:
        """Write the index, the items and the hash of the encoder."""
        if self._index is not None:
            self._index.save(folder)
        pl.DataFrame(self._item_ids).write_parquet(folder / "items.parquet")
        about = {"model_hash": self._model_hash, "params": self._params.model_dump()}
        write_json(folder / "retriever.json", about)

    @classmethod
    def load(cls, folder: Path, store: Path | None = None) -> Self:
        """Read a fitted retriever.

        Raises:
            UserError: the encoder beside the folder is not the one that made the weights.
        """
        about = read_json(folder / "retriever.json")
        made = cls(Dense.model_validate(about["params"]))
        made._model_hash = about["model_hash"]
        made._encoder = encoder_beside(folder, made._model_hash, store)
        made._index = LexicalIndex.load(folder)
        made._item_ids = pl.read_parquet(folder / "items.parquet")["item_id"]
        return made
