"""Rows whose ids are codes: counting millions of them needs no string a row."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

import polars as pl

from stages.core.tables import Table, check_types

T = TypeVar("T")
_IDS = pl.Categorical()


def coded_ids() -> pl.Series:
    """Return as strings all ids that a frame has, in the order of their categories."""
    return _IDS.categories.to_series()


@dataclass(frozen=True)
class Coded:
    """A frame with codes in one of its columns of ids.

    Attributes:
        rows: the frame; in the place of an id stands its row in `ids`.
        ids: each once, in no order; one may be in no row. They are categories that all frames have
            in common, so that equal ids of two frames are one number, see `coded_ids`.
    """

    rows: pl.DataFrame
    ids: pl.Series

    @classmethod
    def of(cls, frame: pl.DataFrame, column: str) -> Self:
        """Put codes into a column of ids."""
        ids = frame[column].cast(_IDS)
        codes = ids.to_physical()
        return cls(frame.with_columns(codes), pl.Series(column, coded_ids(), _IDS))

    def up_to(self, end_ms: int) -> Self:
        """Keep the rows of no later a moment, in milliseconds since 1970."""
        keep = pl.col("timestamp").to_physical() <= end_ms
        return type(self)(self.rows.filter(keep), self.ids)


def map_row_groups(
    use: Callable[[Coded], T], path: Path, table: Table, columns: Sequence[str], coded: str
) -> list[T]:
    """Return what `use` makes of each row group of a table, in their order.

    Parquet keeps what repeats in a row group as codes, which are read as they are. Row groups are
    read and used by as many threads as Polars has, and no more of them are in memory.

    Args:
        use: takes a row group; a table without rows has none.
        path: of the table.
        table: its contract, by which the types of the columns are checked.
        columns: those to read.
        coded: the one of them that holds ids.

    Raises:
        UserError: the file is missing or is not what the contract says.
    """
    import pyarrow.parquet as pq

    check_types(path, table, columns)
    metadata = pq.read_metadata(path)

    def read(group: int) -> T:
        with pq.ParquetFile(path, metadata=metadata, read_dictionary=[coded]) as file:
            rows = file.read_row_group(group, columns, use_threads=False)
        ids = rows[coded].unify_dictionaries().combine_chunks()
        others = pl.from_arrow(rows.drop_columns([coded]))
        assert isinstance(others, pl.DataFrame)
        codes = pl.Series(coded, ids.indices)
        names = pl.Series(coded, ids.dictionary, pl.String)
        return use(Coded(others.with_columns(codes), names.cast(_IDS)))

    with ThreadPoolExecutor(pl.thread_pool_size()) as pool:
        return list(pool.map(read, range(metadata.num_row_groups)))
