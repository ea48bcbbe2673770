"""Learned sparse retrieval: inner product of lexical weights, such as BGE-M3's sparse output."""

import numpy as np

from stages.core.params import Dense
from stages.encode.encoders import Encoded
from stages.retrieve.retrievers.encoded import EncodedRetriever
from stages.retrieve.retrievers.lexical import LexicalIndex


class SparseRetriever(EncodedRetriever[Dense, LexicalIndex]):
    """The items that share tokens with the query, weighed by the base encoder."""

    name = "sparse"
    reads = ("sparse",)
    _section, _layout = Dense, LexicalIndex

    def _find(self, encoded: Encoded, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        asked = self._index.queries(encoded.sparse or [])
        items, scores = self._index.search(asked, k, self._params.block)
        return items, scores, scores > 0
