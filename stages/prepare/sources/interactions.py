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
    number,
    prefixed,
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
        "user_id": Column("user", prefixed(PREFIX, text("user")), "an id"),
        "item_id": Column("item", prefixed(PREFIX, text("item")), "an id"),
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
    parameter = "ingest.interactions.items"
    paths = required_files(folder, [about.file], parameter)
    raw = pl.concat(
        [
            read_columns(path, about.columns, parameter, bad, about.separator, about.header)
            for path in paths
        ]
    )
    columns = {"item_id": prefixed(PREFIX, pl.col("item_id").cast(pl.String))}
    for name in about.columns:
        if name == "categories":
            columns[name] = text(name).str.split(about.list_separator).fill_null([])
        elif name == "price":
            columns[name] = number(name)
        elif name != "item_id":
            columns[name] = text(name)
    if "price" in columns:
        lost = raw.filter(text("price").is_not_null() & number("price").is_null())["price"]
        if len(lost):
            log.warning(
                "%d prices in %s could not be read, such as %r; write 12.50",
                len(lost),
                about.file,
                lost[0],
            )
    return raw.filter(pl.col("item_id").is_not_null()).select(**columns)
