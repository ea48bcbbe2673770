"""Late interaction: a vector for each token of each item, compared with each of a query's.

Khattab and Zaharia, ColBERT, 2020, section 3.2; Chen et al., M3-Embedding, 2024, section 3.2.
"""

from pathlib import Path
from typing import Self

import numpy as np
import polars as pl

from stages.core.determinism import torch_device

_AT_ONCE = {"cpu": 1 << 10, "cuda": 1 << 16}
"""Tokens of items whose vectors are held at once in full precision: on a CPU in its cache."""


class TokenVectors:
    """Vectors of items' tokens in one array of float16, which may lie on disk.

    An item costs 2 bytes a number: of BGE-M3, with 1,024 a token, 2 KB a token, 300 KB for 150.
    """

    def __init__(self, vectors: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> None:
        """Take the vectors.

        Args:
            vectors: float16, shape (tokens of all items, d).
            starts: row of each item's first.
            lengths: tokens of each item, one or more.
        """
        self._vectors, self._starts, self._lengths = vectors, starts, lengths

    @classmethod
    def of(cls, vectors: pl.Series) -> Self:
        """Take a column of lists of vectors (Array), a row an item."""
        lengths = vectors.list.len().to_numpy().astype(np.int64)
        flat = vectors.explode(empty_as_null=False).to_numpy()
        return cls(flat.astype(np.float16, copy=False), np.cumsum(lengths) - lengths, lengths)

    def max_sim(self, query: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Return the mean over the query's tokens of the largest inner product with an item's.

        Products of float16 are summed in float64: what reads the same scores the same, wherever it
        stands among the items.

        Args:
            query: float16, shape (tokens, d), one token or more.
            items: rows, shape (n,).

        Returns:
            float64, shape (n,).
        """
        import torch

        device = torch_device()
        asked = torch.from_numpy(query.astype(np.float64)).to(device)
        found = []
        for part in self._cut(items, _AT_ONCE[device]):
            lengths = self._lengths[part]
            first = np.repeat(self._starts[part] - np.cumsum(lengths) + lengths, lengths)
            near = torch.from_numpy(self._vectors[first + np.arange(len(first))]).to(device)
            products = near.double() @ asked.T
            each = torch.from_numpy(lengths).to(device)
            best = torch.segment_reduce(products, "max", lengths=each, axis=0)
            found.append(best.mean(dim=1).cpu().numpy())
        return np.concatenate(found) if found else np.empty(0)

    def only(self, mine: np.ndarray) -> Self:
        """Return those of some items, a mask; no vector is copied."""
        return type(self)(self._vectors, self._starts[mine], self._lengths[mine])

    def save(self, folder: Path) -> None:
        """Write the vectors, and where each item's lie, into an existing folder."""
        np.save(folder / "token_vectors.npy", self._vectors)
        np.save(folder / "token_spans.npy", np.stack([self._starts, self._lengths]))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Open what `save` wrote; of the vectors only those that are asked for are read."""
        starts, lengths = np.load(folder / "token_spans.npy")
        return cls(np.load(folder / "token_vectors.npy", mmap_mode="r"), starts, lengths)

    def _cut(self, items: np.ndarray, tokens: int) -> list[np.ndarray]:
        """Cut items into parts of about so many tokens."""
        ends = np.cumsum(self._lengths[items])
        cuts = np.flatnonzero(np.diff(ends // tokens)) + 1
        return np.split(items, cuts) if len(items) else []
