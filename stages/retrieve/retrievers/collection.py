"""Vectors in a Chroma collection of their own, asked through a copy of its folder."""

import shutil
import weakref
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np
import polars as pl

from stages.encode.encoders import chroma

_FOLDER = "chroma"
_NAME = "items"
_GRAPH = {"max_neighbors": 32, "ef_construction": 80, "ef_search": 256}
"""Of Chroma's HNSW: neighbours of a node, nodes looked at to place one, and by a search (k, where
that is more)."""
_WRITTEN = {"batch_size": 2, "sync_threshold": 2}
"""The graph is whole on disk: what Chroma has only logged, it would place anew at every opening."""
_BLOCK = 512
"""Queries asked at once."""


class Collection:
    """A Chroma collection of vectors, whose ids are their rows.

    Chroma does not build the same graph twice, and gives its files new ids: vectors that are laid
    out again are other bytes and may miss others. One folder gives the same answers every time.
    """

    def __init__(self, folder: Path) -> None:
        """Open a copy of the folder that `save` wrote; the copy goes when this does.

        Args:
            folder: into which it was saved.
        """
        self._folder = folder
        opened = ExitStack()
        client = opened.enter_context(chroma.open_copy(folder / _FOLDER))
        self._items: Any = client.get_collection(_NAME, embedding_function=None)
        weakref.finalize(self, opened.close)

    @classmethod
    def of(cls, vectors: np.ndarray) -> Self:
        """Lay out vectors, float32, shape (n, d), in a temporary folder."""
        count, width = vectors.shape
        blank = pl.repeat("", count, dtype=pl.String, eager=True)
        rows = pl.DataFrame(
            {
                "item_id": pl.int_range(count, eager=True).cast(pl.String),
                "text": blank,
                "title": blank,
                "vector": pl.Series(vectors, dtype=pl.Array(pl.Float32, width)),
            }
        )
        temporary = TemporaryDirectory()
        chroma.write_folder(Path(temporary.name) / _FOLDER, _NAME, rows, _GRAPH | _WRITTEN)
        made = cls(Path(temporary.name))
        weakref.finalize(made, temporary.cleanup)
        return made

    def search(self, queries: np.ndarray, k: int) -> np.ndarray:
        """Return rows of the k nearest as Chroma finds them, in any order; -1 where it finds fewer.

        Args:
            queries: float32, shape (n, d).
            k: no more than there are vectors.
        """
        rows = np.full((len(queries), k), -1, np.int64)
        for start in range(0, len(queries), _BLOCK):
            part = queries[start : start + _BLOCK]
            found = self._items.query(query_embeddings=part, n_results=k, include=[])["ids"]
            for row, ids in enumerate(found, start):
                rows[row, : len(ids)] = [int(name) for name in ids]
        return rows

    def save(self, folder: Path) -> None:
        """Write the collection into an existing folder, as it was before it was opened."""
        source = self._folder / _FOLDER
        shutil.copytree(source, folder / _FOLDER, copy_function=shutil.copyfile)
