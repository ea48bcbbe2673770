"""Hybrid retrieval by all that BGE-M3 gives (Chen et al., M3-Embedding, 2024, section 3.2)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import polars as pl

from stages.core.log import progress
from stages.core.params import MultiVector
from stages.encode.encoders import Encoded
from stages.retrieve.retrievers.dense import DenseVectors
from stages.retrieve.retrievers.encoded import EncodedRetriever
from stages.retrieve.retrievers.late_interaction import TokenVectors
from stages.retrieve.retrievers.lexical import LexicalIndex


@dataclass(frozen=True)
class HybridIndex:
    """A vector, lexical weights and a vector a token of each item."""

    dense: DenseVectors
    lexical: LexicalIndex
    tokens: TokenVectors

    @classmethod
    def of(cls, vector: pl.Series, sparse: pl.Series, multi_vector: pl.Series) -> Self:
        """Lay out the columns of the embeddings."""
        return cls(DenseVectors.of(vector), LexicalIndex.of(sparse), TokenVectors.of(multi_vector))

    def search(
        self, encoded: Encoded, k: int, params: MultiVector
    ) -> tuple[np.ndarray, np.ndarray]:
        """Search twice and score what was found, a query at a time.

        Args:
            encoded: queries, n of them.
            k: items a query.
            params: depth, block and weights.

        Returns:
            rows of the items (int64) and scores (float32), each of shape (n, min(k, items)), best
            first, ties by row.
        """
        depth, block, weights = max(params.depth, k), params.block, params.weights
        asked = self.lexical.queries(encoded.sparse or [])
        near, _ = self.dense.search(encoded.dense, depth, block)
        sharing, shared = self.lexical.search(asked, depth, block)
        tokens = encoded.multi or []
        shape = (len(near), min(k, near.shape[1]))
        rows, scores = np.empty(shape, np.int64), np.empty(shape, np.float32)
        for row in progress(range(len(near)), desc="multi_vector", unit="query", leave=False):
            items = np.union1d(near[row], sharing[row][shared[row] > 0])
            vectors = self.dense.vectors[items].astype(np.float64)
            score = (
                weights.dense * (vectors @ encoded.dense[row].astype(np.float64))
                + weights.sparse * self.lexical.scores(asked, np.full(len(items), row), items)
                + weights.multi_vector * self.tokens.max_sim(tokens[row], items)
            ).astype(np.float32)
            best = np.lexsort((items, -score))[: shape[1]]
            rows[row], scores[row] = items[best], score[best]
        return rows, scores

    def only(self, mine: np.ndarray) -> Self:
        """Return the index of some items, a mask."""
        return type(self)(self.dense.only(mine), self.lexical.only(mine), self.tokens.only(mine))

    def save(self, folder: Path) -> None:
        """Write all three into an existing folder."""
        self.dense.save(folder)
        self.lexical.save(folder)
        self.tokens.save(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        return cls(DenseVectors.load(folder), LexicalIndex.load(folder), TokenVectors.load(folder))


class MultiVectorRetriever(EncodedRetriever[MultiVector, HybridIndex]):
    """The best by dense vectors and by lexical weights, scored again with a vector a token.

    The `depth` best of either, k where that is more, are candidates. The score of each is the
    weighted sum of its three: the inner products of the dense vectors and of the lexical weights,
    and the late interaction of the tokens' vectors. All are of the base encoder.
    """

    name = "multi_vector"
    reads = ("vector", "sparse", "multi_vector")
    _section, _layout = MultiVector, HybridIndex

    def retrieve(self, queries: pl.DataFrame, k: int) -> pl.DataFrame:
        """Encode and search `block` queries at a time; see `Retriever`.

        A token of BGE-M3 costs 2 KB, so 512 queries of 256 tokens are 268 MB.
        """
        retrieve_block = super().retrieve
        asked = queries.filter(pl.col("text").is_not_null())
        found = [retrieve_block(part, k) for part in asked.iter_slices(self._params.block)]
        return pl.concat(found) if found else retrieve_block(asked, k)

    def _find(self, encoded: Encoded, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        items, scores = self._index.search(encoded, k, self._params)
        return items, scores, np.ones_like(items, dtype=bool)
