"""CSV as Polars scans it, and what is wrong with a file that it cannot read."""

import csv
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from stages.core.log import UserError
from stages.prepare.sources.json_lines import BadRows, blocks


def scan_csv(path: Path, separator: str, header: bool, truncate: bool = False) -> pl.LazyFrame:
    """Scan a file, all as text; `truncate` cuts rows of too many fields instead of failing."""
    return pl.scan_csv(
        path,
        separator=separator,
        has_header=header,
        infer_schema=False,
        glob=False,
        truncate_ragged_lines=truncate,
    )


def check_is_utf8(path: Path) -> None:
    """Look for text in another encoding.

    Raises:
        UserError: there is some; its first line is named.
    """
    for first, block in blocks(path):
        try:
            block.decode()
        except UnicodeDecodeError as error:
            line = first + block.count(b"\n", 0, error.start)
            raise UserError(f"{path}:{line}: not UTF-8; save the file as UTF-8") from error


def long_rows(path: Path, separator: str, header: bool, fields: int, bad: BadRows) -> list[int]:
    """Return the places, from 1, of rows of more than `fields` fields, which are named to `bad`.

    Raises:
        UserError: `bad` refuses a row.
        ComputeError: it is not certain which rows Polars takes these to be.
    """
    long, records, before = [], 0, 0
    reader = csv.reader(_lines(path), delimiter=separator)
    try:
        for record in reader:
            # Polars counts empty lines, but for those above the first row.
            records += bool(record or records)
            if len(record) > fields:
                said = (
                    f"{len(record)} fields, expected {fields}, and quotes around a text that "
                    f"holds {separator!r}"
                )
                bad.add(path, before + 1, said)
                long.append(records)
            before = reader.line_num
    except csv.Error as error:
        raise pl.exceptions.ComputeError(f"line {reader.line_num}: {error}") from error
    rows = scan_csv(path, separator, header, truncate=True).select(pl.len()).collect().item()
    if rows != records - header:
        raise pl.exceptions.ComputeError(
            f"{rows} rows or {records - header}: a quote is not closed, or a text that holds one "
            "or a line break is not in quotes"
        )
    return long


def _lines(path: Path) -> Iterator[str]:
    for _, block in blocks(path):
        for line in block.splitlines(keepends=True):
            yield line.decode(errors="replace")
