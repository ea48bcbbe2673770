"""What every retriever does, and what it may learn from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self, runtime_checkable

import numpy as np
import polars as pl

from stages.core.params import Section
from stages.core.tables import CANDIDATES
from stages.core.windows import Log
from stages.encode.encoders import CachedEncoder

READS_BESIDES: dict[str, tuple[str, ...]] = {
    "sparse": ("sparse",),
    "multi_vector": ("sparse", "multi_vector"),
}
"""Columns of the embeddings that a retriever reads beside the dense vectors."""
READS_VECTORS: tuple[str, ...] = ("content", "two_tower")
"""Retrievers that know items by the base encoder's vectors, and encode no query."""
TRAINS: tuple[str, ...] = ("two_tower",)
"""Retrievers that are trained in many small steps."""
LEARNS_FROM: dict[str, tuple[str, ...]] = {
    "popular": ("events",),
    "item_knn": ("events",),
    "als": ("events",),
    "two_tower": ("items", "events"),
    "content": ("embeddings", "pictures"),
    "bm25": ("documents",),
    "dense_base": ("embeddings",),
    "dense": ("embeddings",),
    "sparse": ("embeddings",),
    "multi_vector": ("embeddings",),
}
"""What of `TrainingData` tells a retriever of items; without any of it, it finds nothing."""


@dataclass(frozen=True)
class TrainingData:
    """What is known at the end of one window, and nothing later.

    Attributes:
        documents: item_id and text of every item that has a document, sorted by item_id.
        embeddings: rows of the embeddings table, sorted by item_id, for retrievers with an encoder.
        encoder: the encoder that made them.
        events: the window's events, for retrievers that learn from behaviour.
        impressions: those up to the window's last event.
        items: the items table, whole, for retrievers that read what the catalogue says.
        users: the users table, whole.
        pictures: item_id and vector of every item with a picture, sorted by item_id.
        log: events and impressions on disk, in the place of those in memory, for a retriever that
            only counts them.
    """

    documents: pl.DataFrame
    embeddings: pl.DataFrame | None = None
    encoder: CachedEncoder | None = None
    events: pl.DataFrame | None = None
    impressions: pl.DataFrame | None = None
    items: pl.DataFrame | None = None
    users: pl.DataFrame | None = None
    pictures: pl.DataFrame | None = None
    log: Log | None = None


class Retriever(Protocol):
    """Answers queries with candidates; of users it holds at most what their table says."""

    def __init__(self, params: Section, seed: int = 0) -> None:
        """Take its section of `Fit`, and what decides what it draws, if it draws anything."""
        ...

    def fit(self, data: TrainingData) -> None:
        """Learn from one window."""
        ...

    def retrieve(self, queries: pl.DataFrame, k: int) -> pl.DataFrame:
        """Return up to `k` candidates a query, best first, ties by item id.

        Args:
            queries: a queries table, of which targets and split are not read; without the words
                or the history that a retriever reads a query finds nothing.
            k: candidates a query.

        Returns:
            a candidates table.
        """
        ...

    def save(self, folder: Path) -> None:
        """Write what `load` needs into an existing folder."""
        ...

    @classmethod
    def load(cls, folder: Path, store: Path | None = None) -> Self:
        """Read a fitted retriever; its encoder, if any, lies beside the folder as `encoder`."""
        ...


@runtime_checkable
class Restrictable(Retriever, Protocol):
    """A retriever in which no item's score hangs on which other items there are."""

    def only(self, item_ids: pl.Series) -> "Restrictable":
        """Return the same retriever, fitted, which finds and knows these of its items alone."""
        ...


def candidates_frame(
    name: str,
    query_ids: pl.Series,
    items: np.ndarray,
    scores: np.ndarray,
    item_ids: pl.Series,
    keep: np.ndarray,
) -> pl.DataFrame:
    """Turn aligned arrays of shape (queries, k) into a candidates table, ranks counted from 1.

    Args:
        name: the retriever's.
        query_ids: one a row.
        items: rows in `item_ids`, best first.
        scores: of the same shape.
        item_ids: sorted ids.
        keep: of the same shape; what is False (padding, no match) is left out.
    """
    k = items.shape[1] if items.ndim == 2 else 0
    flat = keep.ravel()
    ranks = np.tile(np.arange(1, k + 1, dtype=np.uint32), len(query_ids))
    return (
        pl.DataFrame(
            {
                "query_id": np.repeat(np.arange(len(query_ids)), k)[flat],
                "item_id": items.ravel()[flat],
                "retriever": pl.repeat(name, int(flat.sum()), eager=True),
                "rank": ranks[flat],
                "score": scores.ravel()[flat].astype(np.float32),
            }
        )
        .with_columns(
            query_id=query_ids.gather(pl.Series(np.repeat(np.arange(len(query_ids)), k)[flat])),
            item_id=item_ids.gather(pl.Series(items.ravel()[flat].astype(np.int64))),
        )
        .select(*CANDIDATES.columns)
    )
