"""Rows whose ids are codes: counting millions of them needs no string a row."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import polars as pl

from stages.core.tables import Table, check_types

T = TypeVar("T")
_AT_ONCE = 1 << 18
"""Rows of a frame: so few that they are still in the processor's cache when they are counted."""


def coded(ids: pl.Series) -> tuple[np.ndarray, pl.Series]:
    """Return the code of each id, and the ids that codes stand for, each once, as they first come.

    Args:
        ids: strings, n of them, none null.

    Returns:
        int32 of shape (n,), rows of the second.
    """
    encoded = ids.to_arrow(compat_level=pl.CompatLevel.oldest()).dictionary_encode()
    return encoded.indices.to_numpy(), pl.Series(ids.name, encoded.dictionary, pl.String)


@dataclass(frozen=True)
class Coded:
    """Frames with codes in one of their columns of ids.

    Attributes:
        frames: to be gone through once; in the place of an id stands its row in `ids`.
        ids: each once, in no order; one may be in no row.
    """

    frames: Iterable[pl.DataFrame]
    ids: pl.Series

    @classmethod
    def of(cls, frame: pl.DataFrame, column: str) -> Self:
        """Put codes into a column of ids."""
        codes, ids = coded(frame[column])
        return cls([frame.with_columns(pl.Series(column, codes))], ids)

    def up_to(self, end_ms: int) -> Self:
        """Keep the rows of no later a moment, in milliseconds since 1970."""
        keep = pl.col("timestamp").to_physical() <= end_ms
        return type(self)((frame.filter(keep) for frame in self.frames), self.ids)


def map_row_groups(
    use: Callable[[Coded], T], path: Path, table: Table, columns: Sequence[str], column: str
) -> list[T]:
    """Return what `use` makes of each row group of a table, in their order.

    Parquet keeps what repeats in a row group as codes, which are read as they are. Where too little
    repeats for that, a row group comes in several parts. Row groups are read and used by as many
    threads as Polars has, some thousand rows of each at a time.

    Args:
        use: takes a row group; a table without rows has none.
        path: of the table.
        table: its contract, by which the types of the columns are checked.
        columns: those to read.
        column: the one of them that holds ids.

    Raises:
        UserError: the file is missing or is not what the contract says.
    """
    import pyarrow.parquet as pq

    check_types(path, table, columns)
    metadata = pq.read_metadata(path)

    def read(group: int) -> list[T]:
        with pq.ParquetFile(path, metadata=metadata, read_dictionary=[column]) as file:
            batches = file.iter_batches(_AT_ONCE, [group], columns, use_threads=False)
            return [
                use(Coded((frame for _, frame in run), pl.Series(column, ids, pl.String)))
                for ids, run in groupby(_frames(batches, column), itemgetter(0))
            ]

    with ThreadPoolExecutor(pl.thread_pool_size()) as pool:
        return [made for parts in pool.map(read, range(metadata.num_row_groups)) for made in parts]


def _frames(batches: Iterable[Any], column: str) -> Iterator[tuple[Any, pl.DataFrame]]:
    """Yield the ids of each batch of Arrow, and its rows with codes in their place."""
    for batch in batches:
        frame = pl.from_arrow(batch.drop_columns([column]))
        assert isinstance(frame, pl.DataFrame)
        ids = batch[column]
        yield ids.dictionary, frame.with_columns(pl.Series(column, ids.indices))
