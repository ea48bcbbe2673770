"""Learned lexical weights as an inverted index: inner products of sparse vectors, in batch."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl

from stages.core.pairs import sorted_rows_of

_CELLS = 1 << 23
"""Scores that are held at once."""


class LexicalIndex:
    """A weight for each token of each item, by item and, for search, by token.

    A block of queries is one sparse matrix; its product with the postings, the rows of the index,
    holds all their scores. Whichever queries are asked together, each sum has the same order.
    """

    def __init__(self, tokens: pl.Series, weights: Any) -> None:
        """Take the weights.

        Args:
            tokens: sorted, each once.
            weights: CSR, float32, shape (items, tokens).
        """
        self._tokens = tokens
        self._weights = weights
        self._postings = weights.T.tocsr()

    @classmethod
    def of(cls, weights: pl.Series) -> Self:
        """Build the index of a column of lists of (token, weight), a row an item."""
        from scipy import sparse

        entries = weights.explode(empty_as_null=False).struct.unnest()
        tokens = entries["token"].unique().sort()
        codes = entries["token"].cast(pl.Enum(tokens)).to_physical().to_numpy()
        ends = np.append(0, np.cumsum(weights.list.len().to_numpy(), dtype=np.int64))
        values = entries["weight"].to_numpy().astype(np.float32)
        matrix = sparse.csr_matrix(
            (values, codes.astype(np.int32), ends), shape=(len(weights), len(tokens))
        )
        matrix.sort_indices()
        return cls(tokens, matrix)

    def queries(self, weights: Sequence[dict[str, float]]) -> Any:
        """Return queries' weights as CSR, shape (queries, tokens); tokens of no item are left out.

        Args:
            weights: by token, of each query.
        """
        from scipy import sparse

        tokens = pl.Series("token", list(chain.from_iterable(weights)), dtype=pl.String)
        values = np.fromiter(chain.from_iterable(w.values() for w in weights), np.float32)
        row = np.repeat(np.arange(len(weights)), [len(w) for w in weights])
        column = sorted_rows_of(tokens, self._tokens)
        known = column >= 0
        return sparse.csr_matrix(
            (values[known], (row[known], column[known])), shape=(len(weights), len(self._tokens))
        )

    def search(self, queries: Any, k: int, block: int = 512) -> tuple[np.ndarray, np.ndarray]:
        """Return the k items of largest inner product for each query, ties by row.

        Args:
            queries: what `queries` returns, n of them.
            k: results a query.
            block: queries scored at once at the most.

        Returns:
            rows of the items (int64) and scores (float32), each of shape (n, min(k, items)), best
            first; row 0 and score 0 where fewer items have a token of the query.
        """
        asked, count = queries.shape[0], self._weights.shape[0]
        k = min(k, count)
        rows, scores = np.zeros((asked, k), np.int64), np.zeros((asked, k), np.float32)
        step = min(block, max(_CELLS // max(count, 1), 1))
        for start in range(0, asked, step):
            part = slice(start, min(start + step, asked))
            rows[part], scores[part] = _best((queries[part] @ self._postings).toarray(), k)
        return rows, scores

    def scores(self, queries: Any, query: np.ndarray, item: np.ndarray) -> np.ndarray:
        """Return the inner products of pairs, rows of `queries` and of the items: float64."""
        products = queries[query].multiply(self._weights[item])
        return np.asarray(products.sum(axis=1, dtype=np.float64)).ravel()

    def only(self, mine: np.ndarray) -> Self:
        """Return the index of some items, a mask."""
        return type(self)(self._tokens, self._weights[mine])

    def save(self, folder: Path) -> None:
        """Write weights and tokens into an existing folder."""
        from scipy import sparse

        sparse.save_npz(folder / "weights.npz", self._weights)
        self._tokens.alias("token").to_frame().write_parquet(folder / "tokens.parquet")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        from scipy import sparse

        tokens = pl.read_parquet(folder / "tokens.parquet")["token"]
        return cls(tokens, sparse.load_npz(folder / "weights.npz"))


def _best(scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k largest positive scores of each row, best first, ties by column; 0 for the rest.

    Args:
        scores: float32, shape (n, m).
        k: columns a row, at most m.
    """
    columns, values = np.zeros((len(scores), k), np.int64), np.zeros((len(scores), k), np.float32)
    if not k:
        return columns, values
    count = scores.shape[1]
    least = np.partition(scores, count - k, axis=1)[:, count - k, None]
    row, column = np.nonzero((scores >= least) & (scores > 0))
    value = scores[row, column]
    # Stable, so that columns ascend among equals.
    order = np.lexsort((-value, row))
    row, column, value = row[order], column[order], value[order]
    place = np.arange(len(row)) - np.searchsorted(row, row)
    kept = place < k
    columns[row[kept], place[kept]] = column[kept]
    values[row[kept], place[kept]] = value[kept]
    return columns, values
