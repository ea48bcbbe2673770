"""Learned sparse retrieval: inner product of lexical weights, such as BGE-M3's sparse output."""

from copy import copy
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl

from stages.core.log import UserError
from stages.core.params import Dense
from stages.core.storage import read_json, write_json
from stages.encode.encoders import CachedEncoder
from stages.retrieve.retrievers.base import TrainingData, candidates_frame, encoder_beside


class SparseRetriever:
    """Documents as rows of a sparse matrix over the base encoder's tokens."""

    def __init__(self, params: Dense) -> None:
        self._params = params
        self._encoder: CachedEncoder | None = None
        self._item_ids = pl.Series("item_id", [], dtype=pl.String)
        self._columns: dict[str, int] = {}
        self._weights: Any = None
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
        rows = [
            {entry["token"]: entry["weight"] for entry in weights}
            for weights in embeddings["sparse"].to_list()
        ]
        tokens = sorted({token for row in rows for token in row})
        self._columns = {token: column for column, token in enumerate(tokens)}
        self._weights = self._matrix(rows)

    def retrieve(self, queries: pl.DataFrame, k: int) -> pl.DataFrame:
        """Multiply and keep the k largest of each row that are above zero; see `Retriever`."""
        asked = queries.filter(pl.col("text").is_not_null())
        k = min(k, len(self._item_ids))
        weights = None
        if self._encoder is not None:
            weights = self._encoder.encode(asked["text"].to_list(), "query").sparse
        items = np.zeros((asked.height, k), np.int64)
        scores = np.zeros((asked.height, k), np.float32)
        matrix = self._matrix(weights or [])
        for start in range(0, asked.height, self._params.block):
            product = (matrix[start : start + self._params.block] @ self._weights.T).tocsr()
            for row in range(product.shape[0]):
                span = slice(product.indptr[row], product.indptr[row + 1])
                order = np.lexsort((product.indices[span], -product.data[span]))[:k]
                items[start + row, : len(order)] = product.indices[span][order]
                scores[start + row, : len(order)] = product.data[span][order]
        return candidates_frame(
            "sparse", asked["query_id"], items, scores, self._item_ids, scores > 0
        )

    def only(self, item_ids: pl.Series) -> Self:
        """See `Restrictable`."""
        mine = self._item_ids.is_in(item_ids.implode())
        made = copy(self)
        made._item_ids = self._item_ids.filter(mine)
        made._weights = self._weights[mine.to_numpy()]
        return made

    def save(self, folder: Path) -> None:
        """Write the matrix, its columns, the items and the hash of the encoder."""
        from scipy import sparse

        sparse.save_npz(folder / "weights.npz", self._weights)
        pl.DataFrame(self._item_ids).write_parquet(folder / "items.parquet")
        about = {
            "model_hash": self._model_hash,
            "params": self._params.model_dump(),
            "tokens": list(self._columns),
        }
        write_json(folder / "retriever.json", about)

    @classmethod
    def load(cls, folder: Path, store: Path | None = None) -> Self:
        """Read a fitted retriever.

        Raises:
            UserError: the encoder beside the folder is not the one that made the weights.
        """
        from scipy import sparse

        about = read_json(folder / "retriever.json")
        made = cls(Dense.model_validate(about["params"]))
        made._model_hash = about["model_hash"]
        made._encoder = encoder_beside(folder, made._model_hash, store)
        made._columns = {token: column for column, token in enumerate(about["tokens"])}
        made._weights = sparse.load_npz(folder / "weights.npz")
        made._item_ids = pl.read_parquet(folder / "items.parquet")["item_id"]
        return made

    def _matrix(self, rows: list[dict[str, float]]) -> Any:
        from scipy import sparse

        entries = [
            (row, self._columns[token], weight)
            for row, weights in enumerate(rows)
            for token, weight in weights.items()
            if token in self._columns
        ]
        row_numbers, columns, values = zip(*entries, strict=True) if entries else ((), (), ())
        return sparse.csr_matrix(
            (np.array(values, np.float32), (row_numbers, columns)),
            shape=(len(rows), len(self._columns)),
        )
