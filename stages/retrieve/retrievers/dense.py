"""Dense retrieval: an encoder's query vector against every document vector, searched exactly."""

from pathlib import Path
from typing import Self

import numpy as np
import polars as pl

from stages.core.log import UserError
from stages.core.params import Dense
from stages.core.storage import read_json, write_json
from stages.encode.encoders import Encoders
from stages.encode.encoders.pool import EncoderName
from stages.retrieve.retrievers.base import TrainingData, candidates_frame
from stages.retrieve.retrievers.search import top_k


class DenseRetriever:
    """`dense_base` with the base encoder, `dense` with the tuned one."""

    def __init__(self, name: str, encoder: EncoderName, params: Dense, encoders: Encoders) -> None:
        self._name = name
        self._encoder = encoder
        self._params = params
        self._encoders = encoders
        self._item_ids = pl.Series("item_id", [], dtype=pl.String)
        self._vectors = np.empty((0, 0), np.float32)
        self._model_hash = ""

    def fit(self, data: TrainingData) -> None:
        """Take the window's vectors as they are."""
        embeddings = data.embeddings[self._encoder]
        self._item_ids = embeddings["item_id"]
        self._vectors = embeddings["vector"].to_numpy()
        self._model_hash = embeddings["model_hash"].item(0) if embeddings.height else ""

    def retrieve(self, queries: pl.DataFrame, k: int) -> pl.DataFrame:
        """Encode the queries and search; see `Retriever`."""
        asked = queries.filter(pl.col("text").is_not_null())
        vectors = self._encoders.encode(self._encoder, asked["text"].to_list(), "query").dense
        items, scores = top_k(vectors, self._vectors, k, self._params.block)
        keep = np.ones_like(items, dtype=bool)
        return candidates_frame(self._name, asked["query_id"], items, scores, self._item_ids, keep)

    def save(self, folder: Path) -> None:
        """Write vectors, ids and the name and hash of the encoder that made them."""
        np.save(folder / "vectors.npy", self._vectors)
        pl.DataFrame(self._item_ids).write_parquet(folder / "items.parquet")
        write_json(
            folder / "retriever.json",
            {
                "name": self._name,
                "encoder": self._encoder,
                "model_hash": self._model_hash,
                "params": self._params.model_dump(),
            },
        )

    @classmethod
    def load(cls, folder: Path, encoders: Encoders) -> Self:
        """Read a fitted retriever.

        Raises:
            UserError: the encoder given is not the one that made the vectors.
        """
        about = read_json(folder / "retriever.json")
        made = cls(about["name"], about["encoder"], Dense.model_validate(about["params"]), encoders)
        made._item_ids = pl.read_parquet(folder / "items.parquet")["item_id"]
        made._vectors = np.load(folder / "vectors.npy")
        made._model_hash = about["model_hash"]
        given = encoders.open(about["encoder"]).model_hash
        if made._model_hash and made._model_hash != given:
            raise UserError(
                f"{folder}: vectors were made by model {made._model_hash}, the {about['encoder']} "
                f"encoder here is {given}; run `dvc repro` to make them again"
            )
        return made
