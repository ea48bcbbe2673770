"""Columns of parquet as one text or number a row: lists, bytes and what is not a number."""

from collections.abc import Mapping
from pathlib import Path

import polars as pl
from polars import selectors as cs

from stages.core.log import UserError
from stages.prepare.sources.json_lines import BadRows

ROW = "row of the file"
"""The column that holds a row's place in its file, from 1; no file's own is called so."""
SHOWN_CHARS = 60
"""Characters of a type or a value that a message shows at the most."""


def check_kinds(
    path: Path, schema: Mapping[str, pl.DataType], found: Mapping[str, str], parameter: str
) -> None:
    """Look for columns within whose rows, or parts of lists, there is more than one thing.

    Raises:
        UserError: there is one.
    """
    for theirs in found.values():
        kind = schema[theirs]
        inner = kind.inner if isinstance(kind, pl.List | pl.Array) else kind
        if inner.is_nested():
            raise UserError(
                f"{path}: column {theirs!r} is of type {str(kind)[:SHOWN_CHARS]}, expected text, "
                f"numbers or lists of them; name another in the columns of {parameter}, or write "
                "what it holds as columns of their own"
            )


def flat(
    path: Path, rows: pl.DataFrame, found: Mapping[str, str], bad: BadRows, keep_empty: bool
) -> pl.DataFrame:
    """Make a row of each part of the lists, text of bytes, and none of what is not a number.

    Args:
        path: of the file, for messages.
        rows: `ROW` and columns of ours.
        found: our names to the file's.
        bad: counts rows of lists of unequal lengths and of bytes that are not UTF-8, or refuses
            them.
        keep_empty: an empty list is a row too, in which there is nothing.

    Raises:
        UserError: `bad` refuses a row.
    """
    decoded = _decoded(path, _unlisted(path, rows, found, bad, keep_empty), found, bad)
    return decoded.with_columns(cs.float().fill_nan(None))


def _unlisted(
    path: Path, rows: pl.DataFrame, found: Mapping[str, str], bad: BadRows, keep_empty: bool
) -> pl.DataFrame:
    """Make a row of each part of the lists; rows of unequal lists are named to `bad`."""
    kinds = rows.schema.items()
    lists = {name: kind.inner for name, kind in kinds if isinstance(kind, pl.List | pl.Array)}
    if not lists:
        return rows
    rows = rows.with_columns(pl.col(name).cast(pl.List(inner)) for name, inner in lists.items())
    lengths = rows.select(pl.col(name).list.len() for name in lists)
    known = lengths.with_columns(pl.all().cast(pl.Int64).fill_null(-1))
    uneven = known.select(pl.max_horizontal(pl.all()) != pl.min_horizontal(pl.all())).to_series()
    names = ", ".join(repr(found[name]) for name in lists)
    for place in uneven.arg_true():
        counted = " and ".join("no" if n is None else str(n) for n in lengths.row(place))
        said = f"lists of {counted} parts in columns {names}, expected as many in each"
        bad.add(path, rows[ROW][place], said)
    return rows.filter(~uneven).explode(list(lists), empty_as_null=keep_empty)


def _decoded(
    path: Path, rows: pl.DataFrame, found: Mapping[str, str], bad: BadRows
) -> pl.DataFrame:
    """Read bytes as text; rows of other bytes are named to `bad`."""
    for name in rows.select(cs.binary()).columns:
        try:
            rows = rows.with_columns(pl.col(name).cast(pl.String))
        except pl.exceptions.ComputeError:  # Polars does not say where.
            texts = pl.Series(name, [_utf8(value) for value in rows[name]], pl.String)
            lost = texts.is_null() & rows[name].is_not_null()
            for place in lost.arg_true():
                shown = repr(rows[name][place][:SHOWN_CHARS])
                said = f"column {found[name]!r} is {shown}, expected text in UTF-8"
                bad.add(path, rows[ROW][place], said)
            rows = rows.with_columns(texts).filter(~lost)
    return rows


def _utf8(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None
