"""Rows whose ids are codes: counting millions of them needs no string a row."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

import numpy as np
import polars as pl

from stages.core.tables import Table, check_types

T = TypeVar("T")


def coded(ids: pl.Series) -> tuple[np.ndarray, pl.Series]:
    """Return the code of each id, and the ids that codes stand for, each once, as they first come.

    Args:
        ids: strings, n of them, none null.

    Returns:
        int32 of shape (n,), rows of the second.
    """
    by_hash = coded_by(ids.hash(), ids)
    if by_hash is not None:
        return by_hash
    encoded = ids.to_arrow(compat_level=pl.CompatLevel.oldest()).dictionary_encode()
    return encoded.indices.to_numpy(), pl.Series(ids.name, encoded.dictionary, pl.String)


def coded_by(hashes: pl.Series, ids: pl.Series) -> tuple[np.ndarray, pl.Series] | None:
    """Return what `coded` does, in half the time, or None where two ids have one hash.

    Args:
        hashes: unsigned integers, n of them, the same for the same id.
        ids: see `coded`.
    """
    codes = hashes.to_arrow().dictionary_encode().indices.to_numpy()
    first = ids.gather(hashes.arg_unique())
    return (codes, first) if first.gather(codes).equals(ids) else None


@dataclass(frozen=True)
class Coded:
    """Rows with codes in one of their columns of ids.

    Attributes:
        rows: in the place of an id stands its row in `ids`, an int32.
        ids: each once, in no order; one may be in no row.
    """

    rows: pl.DataFrame
    ids: pl.Series

    @classmethod
    def of(cls, frame: pl.DataFrame, column: str) -> Self:
        """Put codes into a column of ids."""
        codes, ids = coded(frame[column])
        return cls(frame.with_columns(pl.Series(column, codes)), ids)


def map_row_groups(
    use: Callable[[Coded], T], path: Path, table: Table, columns: Sequence[str], column: str
) -> list[T]:
    """Return what `use` makes of each row group of a table, in their order.

    Parquet keeps what repeats in a row group as codes, which are read as they are. Row groups are
    read and used by as many threads as Polars has.

    Args:
        use: takes a row group; a table without rows has none.
        path: of the table.
        table: its contract, by which the types of the columns are checked.
        columns: those to read.
        column: the one of them that holds ids.

    Raises:
        UserError: the file is missing or is not what the contract says.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    check_types(path, table, columns)
    metadata = pq.read_metadata(path)
    threads = pl.thread_pool_size()
    few = metadata.num_row_groups < threads  # so that columns are read side by side

    def read(group: int) -> T:
        with pq.ParquetFile(
            path, metadata=metadata, read_dictionary=[column], memory_map=True
        ) as file:
            rows = file.read_row_group(group, columns, use_threads=few)
        # Where too little repeats for codes, a column comes in parts, each with ids of its own.
        parts = rows[column].unify_dictionaries().chunks
        codes = pl.Series(column, pa.chunked_array([part.indices for part in parts]))
        frame = pl.DataFrame(rows.drop_columns([column])).with_columns(codes)
        return use(Coded(frame, pl.Series(column, parts[0].dictionary, pl.String)))

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(read, range(metadata.num_row_groups)))
