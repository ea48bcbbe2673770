"""CSV and parquet files by their columns' names; a row that does not fit is named or left out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from stages.core import tables
from stages.core.log import UserError, get_logger
from stages.prepare.sources.csv_files import check_is_utf8, long_rows, scan_csv
from stages.prepare.sources.json_lines import BadRows
from stages.prepare.sources.parquet_files import ROW, check_kinds, flat

log = get_logger(__name__)

LATEST_MS = 4_102_444_800_000
"""2100-01-01."""
EARLY = datetime(1995, 1, 1, tzinfo=UTC)
"""A log that ends before was hardly of the web; its times may be seconds read as milliseconds."""
SHOWN_NAMES, SHOWN_CHARS = 40, 60
"""Columns that a message names at the most, and characters of each."""
EXACT_BITS: dict[type[pl.DataType], int] = {pl.Float16: 11, pl.Float32: 24, pl.Float64: 53}
"""A float of so many bits holds every whole number below two to their power."""


@dataclass(frozen=True)
class Column:
    """What becomes of a column, and what it must hold.

    Attributes:
        raw: the column, by our name; in a message it stands by the file's.
        value: what becomes of it; null where it does not fit.
        expected: what would have been right, for the message.
        optional: whether it may be empty.
    """

    raw: str
    value: pl.Expr
    expected: str
    optional: bool = False


def read_columns(
    path: Path,
    named: Mapping[Any, str],
    parameter: str,
    bad: BadRows,
    separator: str = ",",
    header: bool = True,
    optional: bool = False,
    only: pl.Expr | None = None,
    keep_empty: bool = False,
) -> pl.DataFrame:
    """Read the columns that are named, by our names; text as it stands, so that ids stay exact.

    Args:
        path: CSV, also compressed, or parquet. A list is a row for each of what is in it; what is
            not a number (NaN) is none.
        named: our names to the file's; `column_0` and so on in a file without a header.
        parameter: where the columns are given, for messages.
        bad: counts rows of more fields than the first has, of lists that are not of one length,
            or of bytes that are not UTF-8, or refuses them.
        separator: between columns of CSV.
        header: whether the first line of CSV names the columns.
        optional: a column that is not there is left out, but for the first.
        only: which rows are read, over our names.
        keep_empty: an empty list is a row too, in which there is nothing.

    Returns:
        `ROW`, then the columns.

    Raises:
        UserError: the file cannot be read, a column is missing or holds neither text nor numbers
            nor lists of them, or `bad` refuses a row.
    """
    is_csv = path.suffix != ".parquet"
    try:
        scan = scan_csv(path, separator, header) if is_csv else pl.scan_parquet(path, glob=False)
        scan = scan.with_row_index(ROW, 1 + (header and is_csv))
        found = _named_columns(path, scan, named, parameter, optional)
        check_kinds(path, scan.collect_schema(), found, parameter)
        try:
            rows = _selected(scan, found, only).collect()
        except pl.exceptions.ComputeError:
            if not is_csv:
                raise
            check_is_utf8(path)
            fields = len(scan.collect_schema()) - 1
            long = long_rows(path, separator, header, fields, bad)
            scan = scan_csv(path, separator, header, truncate=bool(long))
            scan = scan.with_row_index(ROW, 1 + header).filter(~pl.col(ROW).is_in(long))
            rows = _selected(scan, found, only).collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = " ".join(str(error).split("\n\n")[0].split())  # Polars goes on with its options.
        raise UserError(
            f"{path} cannot be read ({reason}); correct the file or its name"
        ) from error
    return flat(path, rows, found, bad, keep_empty)


def _named_columns(
    path: Path, scan: pl.LazyFrame, named: Mapping[Any, str], parameter: str, optional: bool
) -> dict[str, str]:
    """Our names to those of the scan, which may stand between spaces."""
    found = {name.strip(): name for name in scan.collect_schema() if name != ROW}
    required = list(named.values())[: 1 if optional else None]
    missing = [theirs for theirs in required if theirs not in found]
    if missing:
        if any("\ufffd" in name for name in found):
            check_is_utf8(path)
        raise UserError(
            f"{path}: no column {', '.join(missing)}; the file has {_first_names(list(found))}: "
            f"correct the columns of {parameter}{', or the separator' * (len(found) == 1)}"
        )
    return {ours: found[theirs] for ours, theirs in named.items() if theirs in found}


def _first_names(names: list[str]) -> str:
    """The first names, cut short, without what a terminal would obey."""
    shown = [repr(name[:SHOWN_CHARS])[1:-1] for name in names[:SHOWN_NAMES]]
    more = len(names) - len(shown)
    return ", ".join(shown) + f" and {more} more" * (more > 0)


def _selected(scan: pl.LazyFrame, found: Mapping[str, str], only: pl.Expr | None) -> pl.LazyFrame:
    rows = scan.select(ROW, *(pl.col(theirs).alias(ours) for ours, theirs in found.items()))
    return rows if only is None else rows.filter(only)


def good_rows(
    path: Path,
    raw: pl.DataFrame,
    columns: Mapping[str, Column],
    bad: BadRows,
    named: Mapping[Any, str] | None = None,
    unique: Sequence[str] = (),
) -> pl.DataFrame:
    """Return what becomes of the rows that fit; the others are named to `bad`.

    Args:
        path: of the file, for messages.
        raw: what `read_columns` gave.
        columns: what becomes of a row, by name.
        bad: counts rows, or refuses them.
        named: our names to the file's, for messages.
        unique: columns of ours whose values stand once together in the file; the first row counts.

    Raises:
        UserError: `bad` refuses a row.
    """
    rows = raw.select(column.value.alias(name) for name, column in columns.items())
    unfit = pl.DataFrame(
        [
            rows[name].is_null() & raw.select(text(column.raw).is_not_null()).to_series()
            if column.optional
            else rows[name].is_null()
            for name, column in columns.items()
        ]
    )
    wrong = unfit.select(pl.any_horizontal(pl.all())).to_series()
    theirs = named or {}

    def refuse(place: int, column: str, expected: str) -> None:
        found = raw[column][place] if column in raw.columns else None
        shown = "empty" if found is None else repr(found)
        said = f"column {theirs.get(column, column)!r} is {shown}, expected {expected}"
        bad.add(path, raw[ROW][place], said)

    for place in wrong.arg_true():
        name = next(name for name in columns if unfit[name][place])
        refuse(place, columns[name].raw, columns[name].expected)
    good = ~wrong
    if unique:
        # The parts of a list are one row of the file, and no repetition.
        first = pl.col(ROW).first().over(unique)
        again = good & rows.with_columns(raw[ROW]).select(pl.col(ROW) != first).to_series()
        raws = [columns[name].raw for name in unique]
        each = "one row for each" + "".join(f" and its {theirs.get(n, n)!r}" for n in raws[1:])
        for place in again.arg_true():
            refuse(place, raws[0], each)
        good &= ~again
    return rows.filter(good)


def text(column: str) -> pl.Expr:
    """The text of a column without space around it; null where nothing is left."""
    stripped = pl.col(column).cast(pl.String).str.strip_chars()
    return pl.when(stripped != "").then(stripped)


def prefixed(prefix: str, value: pl.Expr) -> pl.Expr:
    """An id of ours."""
    return pl.concat_str(pl.lit(prefix), value)


def id_text(column: str, kind: pl.DataType) -> pl.Expr:
    """The text of a column of ids: of floats, that of the whole numbers that they hold exactly.

    Whole numbers are floats where some are missing, as pandas writes them; other floats are null.

    Args:
        column: its name.
        kind: its type.
    """
    if not kind.is_float():
        return text(column)
    number = pl.col(column)
    exact = (number == number.round()) & (number.abs() < 2 ** EXACT_BITS[type(kind)])
    return pl.when(exact).then(number.cast(pl.Int64, strict=False).cast(pl.String))


def id_column(raw: pl.DataFrame, column: str, prefix: str = "", optional: bool = False) -> Column:
    """What becomes of a column of ids.

    Args:
        raw: what `read_columns` gave.
        column: its name.
        prefix: before an id of ours.
        optional: whether it may be empty.
    """
    kind = raw.schema[column]
    expected = "an id"
    if kind.is_float():
        expected += f", which as a float is a whole number below {2 ** EXACT_BITS[type(kind)]}"
    return Column(column, prefixed(prefix, id_text(column, kind)), expected, optional)


def time(column: str, kind: pl.DataType, unit: str) -> pl.Expr:
    """A time between 1970 and 2100, null where there is none.

    Args:
        column: its name.
        kind: its type; dates and times are taken as they are.
        unit: `s` or `ms` since 1970; `iso`, text in UTC; or `day`, a date, for its midnight in UTC.
    """
    value = text(column)
    if kind.is_temporal():
        at = pl.col(column).cast(tables.TIME)
        ms = (at.dt.truncate("1d") if unit == "day" else at).dt.epoch("ms")
    elif unit == "iso":
        ms = value.str.to_datetime(strict=False, time_zone="UTC").dt.epoch("ms")
    elif unit == "day":
        ms = value.str.to_date("%Y-%m-%d", strict=False).cast(tables.TIME).dt.epoch("ms")
    else:
        since_1970 = value.cast(pl.Float64, strict=False) * {"s": 1000, "ms": 1}[unit]
        ms = since_1970.cast(pl.Int64, strict=False)
    return pl.when(ms.is_between(0, LATEST_MS)).then(ms).cast(tables.TIME)


def doubt_unit(times: pl.Series, unit: str, parameter: str) -> None:
    """Warn where milliseconds lie so early that they may be seconds.

    Args:
        times: of all events; not empty.
        unit: in which they were read.
        parameter: that says so.
    """
    last = times.max()
    if unit == "ms" and isinstance(last, datetime) and last < EARLY:
        log.warning(
            "the log ends on %s, read in milliseconds; if its times are seconds, set %s: s",
            last.date(),
            parameter,
        )


def number(column: str) -> pl.Expr:
    """A finite number, null where there is none."""
    value = text(column).cast(pl.Float64, strict=False)
    return pl.when(value.is_finite()).then(value)
