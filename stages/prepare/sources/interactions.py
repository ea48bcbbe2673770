"""Logs of who did what when, in any CSV or parquet file, by a mapping of columns."""

from pathlib import Path
from typing import get_args

import polars as pl

from stages.core import tables
from stages.core.log import UserError, get_logger
from stages.core.params import Event, Ingest, Interactions, ItemFile
from stages.prepare.sources import Ingested
from stages.prepare.sources.delimited import (
    Column,
    doubt_unit,
    good_rows,
    id_column,
    id_text,
    number,
    read_columns,
    text,
    time,
)
from stages.prepare.sources.described import item_table
from stages.prepare.sources.found import found_files, required_files
from stages.prepare.sources.json_lines import BadRows
from stages.prepare.sources.numbering import number_events

log = get_logger(__name__)

PREFIX = "in_"
ITEMS = "ingest.interactions.items"


def ingest(options: Ingest, folder: Path) -> Ingested:
    """Read the log, and what is said of items, in `folder`.

    Raises:
        UserError: no file is there, a column is missing, or a row is bad.
    """
    settings = options.interactions
    paths = found_files(folder, settings.events, "ingest.interactions")
    paths = [path for path in paths if not any(path.match(a.file) for a in settings.items)]
    if not paths:
        raise UserError(
            f"{folder}: no file matches {', '.join(settings.events)}; put the log there or correct "
            "ingest.folder or ingest.interactions.events"
        )
    bad = BadRows(options.on_bad_row, options.max_bad_rows)
    read = [_log(path, settings, bad) for path in paths]
    rows = sum(frame.height for frame in read)
    if not rows:
        raise UserError(f"{', '.join(map(str, paths))}: no row in the files")
    events = number_events(pl.concat(read).unique())
    if settings.columns.time is not None:
        doubt_unit(events["timestamp"], settings.time_unit, "ingest.interactions.time_unit")
    said = [_said(folder, about, bad) for about in settings.items]
    if bad.count:
        log.warning("left out %d bad rows in all", bad.count)
    return Ingested(
        items=item_table(said, events["item_id"]),
        users=events.select(pl.col("user_id").unique().sort()),
        events=events,
        impressions=pl.DataFrame(schema=tables.IMPRESSIONS.columns),
        rows=rows + bad.count,
        duplicates=rows - events.height,
        bad_rows=bad.count,
    )


def _log(path: Path, settings: Interactions, bad: BadRows) -> pl.DataFrame:
    """Read a file's good rows: user_id, item_id, timestamp, event, value."""
    named = {ours: theirs for ours, theirs in settings.columns.model_dump().items() if theirs}
    separator, header = settings.separator, settings.header
    raw = read_columns(path, named, "ingest.interactions", bad, separator, header)
    kinds = tables.EVENTS.columns["event"]
    at = pl.lit(0, pl.Int64).cast(tables.TIME)
    if "time" in named:
        at = time("time", raw.schema["time"], settings.time_unit)
    known = [*settings.events_named, *get_args(Event)]
    did = text("event") if "event" in named else pl.lit(settings.event)
    columns = {
        "user_id": id_column(raw, "user", PREFIX),
        "item_id": id_column(raw, "item", PREFIX),
        "timestamp": Column("time", at, f"a time between 1970 and 2100 ({settings.time_unit})"),
        "event": Column(
            "event",
            did.replace(settings.events_named).cast(kinds, strict=False),
            f"one of {', '.join(known)}",
        ),
        "value": Column("value", number("value") if "value" in named else pl.lit(1.0), "a number"),
    }
    return good_rows(path, raw, columns, bad, named)


def _said(folder: Path, about: ItemFile, bad: BadRows) -> pl.DataFrame:
    """Read a file about items: item_id first, then the columns that it is said to have."""
    paths = required_files(folder, [about.file], ITEMS)
    return pl.concat([_of_items(path, about, bad) for path in paths])


def _of_items(path: Path, about: ItemFile, bad: BadRows) -> pl.DataFrame:
    """Read a file's good rows: one an item or, with categories, one for each of its categories."""
    raw = read_columns(
        path, about.columns, ITEMS, bad, about.separator, about.header, keep_empty=True
    )
    if "price" in about.columns:
        raw = raw.with_columns(_prices(path, raw))
    key = ["item_id"]
    columns = {"item_id": id_column(raw, "item_id", PREFIX)}
    for name in about.columns:
        value, expected = pl.col("price") if name == "price" else text(name), "text"
        if name == "categories":
            key.append(name)
        elif "categories" in about.columns:
            of_item = id_text("item_id", raw.schema["item_id"])
            first = value.drop_nulls().first().over(of_item)
            value, expected = pl.when(value == first).then(value), "what the item's first row says"
        if name != "item_id":
            columns[name] = Column(name, value, expected, optional=True)
    rows = good_rows(path, raw, columns, bad, about.columns, unique=key)
    split = pl.col("categories").str.split(about.list_separator).fill_null([])
    return rows.with_columns(split) if "categories" in about.columns else rows


def _prices(path: Path, raw: pl.DataFrame) -> pl.Series:
    """Return the prices of a file; one that is no number is none."""
    prices = raw.select(number("price"))["price"]
    lost = raw.filter(text("price").is_not_null() & prices.is_null())["price"]
    if len(lost):
        log.warning(
            "%d prices in %s could not be read, such as %r; write 12.50",
            len(lost),
            path.name,
            lost[0],
        )
    return prices
