"""Dense retrieval: an encoder's query vector against every document vector, searched exactly."""

from pathlib import Path
from typing import Self

import numpy as np
import polars as pl

from stages.core.params import Dense, RetrieverName
from stages.core.search import FlatIndex
from stages.encode.encoders import Encoded
from stages.retrieve.retrievers.encoded import EncodedRetriever


class DenseVectors:
    """A vector for each item, laid out for search before the first query comes."""

    def __init__(self, vectors: np.ndarray) -> None:
        """Take the vectors: float32, shape (items, d)."""
        self.vectors = vectors
        self._index = FlatIndex(vectors)

    @classmethod
    def of(cls, vectors: pl.Series) -> Self:
        """Take a column of vectors (Array), a row an item."""
        return cls(vectors.to_numpy())

    def search(self, queries: np.ndarray, k: int, block: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the k items of largest inner product for each query; see `FlatIndex`."""
        return self._index.search(queries, k, block)

    def only(self, mine: np.ndarray) -> Self:
        """Return the vectors of some items, a mask."""
        return type(self)(self.vectors[mine])

    def save(self, folder: Path) -> None:
        """Write the vectors into an existing folder."""
        np.save(folder / "vectors.npy", self.vectors)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        return cls(np.load(folder / "vectors.npy"))


class DenseRetriever(EncodedRetriever[Dense, DenseVectors]):
    """The items whose vectors are nearest to the query's, by the tuned encoder."""

    name: RetrieverName = "dense"
    reads = ("vector",)
    _section, _layout = Dense, DenseVectors

    def _find(self, encoded: Encoded, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        items, scores = self._index.search(encoded.dense, k, self._params.block)
        return items, scores, np.ones_like(items, dtype=bool)


class DenseBaseRetriever(DenseRetriever):
    """The same by the base encoder."""

    name = "dense_base"
