"""Logs of who did what when, in any CSV or parquet file, by a mapping of columns."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import polars as pl

from stages.core import tables
from stages.core.log import UserError, get_logger
from stages.core.params import Event, Ingest, Interactions, ItemFile
from stages.prepare.sources import Ingested
from stages.prepare.sources.found import found_files
from stages.prepare.sources.json_lines import BadRows

log = get_logger(__name__)

PREFIX = "in_"
LATEST_MS = 4_102_444_800_000
"""2100-01-01."""
_LISTS = ("categories",)
"""Columns of items of which every row of an item gives some."""


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
    events, duplicates = number_events(pl.concat(read))
    if bad.count:
        log.warning("left out %d bad rows in all", bad.count)
    return Ingested(
        items=item_table([_said(folder, about) for about in settings.items], events["item_id"]),
        users=events.select(pl.col("user_id").unique().sort()),
        events=events,
        impressions=pl.DataFrame(schema=tables.IMPRESSIONS.columns),
        rows=rows + bad.count,
        duplicates=duplicates,
        bad_rows=bad.count,
    )


def number_events(rows: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Return events, sorted by id, and how many exact duplicates were left out.

    An id is `{user}:{item}:{ms}:{event}`, and for the n-th further value of the same key
    `{user}:{item}:{ms}:{event}:{n}`.
    """
    key = ["user_id", "item_id", "timestamp", "event"]
    kept = rows.unique().sort(*key, "value")
    ms = pl.col("timestamp").dt.epoch("ms")
    name = pl.concat_str("user_id", "item_id", ms, pl.col("event").cast(pl.String), separator=":")
    again = pl.int_range(pl.len()).over(key)
    events = kept.select(
        pl.when(again > 0).then(pl.format("{}:{}", name, again)).otherwise(name).alias("event_id"),
        *key,
        "value",
        title=pl.lit(None, pl.String),
        text=pl.lit(None, pl.String),
    ).sort("event_id")
    return events, rows.height - events.height


def item_table(said: Sequence[pl.DataFrame], chosen: pl.Series) -> pl.DataFrame:
    """Return a row for every item of the log or of the files about items.

    Of what stands in several rows of an item the first counts, but for lists, which are joined; of
    what several files say, that of the first file that says it.
    """
    ids = pl.concat([*(frame["item_id"] for frame in said), chosen]).unique().sort()
    items = ids.to_frame("item_id")
    for frame in said:
        about = frame.group_by("item_id", maintain_order=True).agg(
            pl.col(name).explode(empty_as_null=False).unique(maintain_order=True)
            if name in _LISTS
            else pl.col(name).drop_nulls().first()
            for name in frame.columns[1:]
        )
        again = [name for name in about.columns[1:] if name in items.columns]
        items = items.join(about, on="item_id", how="left", maintain_order="left").with_columns(
            pl.coalesce(name, f"{name}_right").alias(name) for name in again
        )
    kinds = tables.ITEMS.columns
    missing = [pl.lit(None, kind).alias(n) for n, kind in kinds.items() if n not in items.columns]
    return items.with_columns(missing).select(
        pl.col(name).fill_null([]) if isinstance(kind, pl.List) else pl.col(name)
        for name, kind in kinds.items()
    )


def _log(path: Path, settings: Interactions, bad: BadRows) -> pl.DataFrame:
    """Read a file's good rows: user_id, item_id, timestamp, event, value."""
    named = {ours: theirs for ours, theirs in settings.columns.model_dump().items() if theirs}
    raw = _columns(path, named, settings.separator, settings.header)
    text = {name: pl.col(name).cast(pl.String).str.strip_chars() for name in raw.columns}
    time = _time(text["time"], raw.schema["time"], settings.time_unit)
    event = text["event"] if "event" in named else pl.lit(settings.event)
    event = event.replace(settings.events_named)
    value = text["value"].cast(pl.Float64, strict=False) if "value" in named else pl.lit(1.0)
    kind = pl.Enum(get_args(Event))
    rows = raw.select(
        user_id=pl.concat_str(pl.lit(PREFIX), pl.when(text["user"] != "").then(text["user"])),
        item_id=pl.concat_str(pl.lit(PREFIX), pl.when(text["item"] != "").then(text["item"])),
        timestamp=pl.when(time.is_between(0, LATEST_MS)).then(time).cast(tables.TIME),
        event=event.cast(kind, strict=False),
        value=pl.when(value.is_finite()).then(value),
    )
    ours = ("user", "item", "time", "event", "value")
    expected = dict.fromkeys(ours[:2], "an id") | {
        "time": f"a time between 1970 and 2100 ({settings.time_unit})",
        "event": f"one of {', '.join([*settings.events_named, *kind.categories])}",
        "value": "a number",
    }
    wrong = rows.select(pl.any_horizontal(pl.all().is_null())).to_series()
    first = 2 if settings.header and path.suffix != ".parquet" else 1
    for row in wrong.arg_true():
        name = next(o for o, v in zip(ours, rows.row(row), strict=True) if v is None)
        found = raw[name][row] if name in raw.columns else None
        said = f"column {named.get(name)!r} is {found!r}, expected {expected[name]}"
        bad.add(path, row + first, said)
    return rows.filter(~wrong)


def _time(text: pl.Expr, kind: pl.DataType, unit: str) -> pl.Expr:
    """Milliseconds since 1970; null where it is no time."""
    if kind.is_temporal():
        return pl.col("time").cast(tables.TIME).dt.epoch("ms")
    if unit == "iso":
        return text.str.to_datetime(strict=False, time_zone="UTC").dt.epoch("ms")
    number = text.cast(pl.Float64, strict=False) * {"s": 1000, "ms": 1}[unit]
    return number.cast(pl.Int64, strict=False)


def _said(folder: Path, about: ItemFile) -> pl.DataFrame:
    """Read a file about items: item_id first, then the columns that it is said to have."""
    paths = found_files(folder, [about.file], "ingest.interactions.items")
    if not paths:
        raise UserError(f"{folder}: no file matches {about.file}; correct ingest.interactions")
    raw = pl.concat([_columns(p, about.columns, about.separator, about.header) for p in paths])
    columns = {"item_id": pl.concat_str(pl.lit(PREFIX), pl.col("item_id").cast(pl.String))}
    for name in raw.columns:
        text = pl.col(name).cast(pl.String).str.strip_chars()
        text = pl.when(text != "").then(text)
        if name in _LISTS:
            columns[name] = text.str.split(about.list_separator).fill_null([])
        elif name != "item_id":
            columns[name] = text.cast(tables.ITEMS.columns[name], strict=False)
    return raw.filter(pl.col("item_id").is_not_null()).select(**columns)


def _columns(path: Path, named: Mapping[Any, str], separator: str, header: bool) -> pl.DataFrame:
    """Read the columns that are named, by our names; text as it stands, so that ids stay exact."""
    try:
        if path.suffix == ".parquet":
            raw = pl.read_parquet(path)
        else:
            raw = pl.read_csv(path, separator=separator, has_header=header, infer_schema=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UserError(f"{path} cannot be read ({error}); correct the file or its name") from error
    missing = [theirs for theirs in named.values() if theirs not in raw.columns]
    if missing:
        raise UserError(
            f"{path}: no column {', '.join(missing)}; the file has {', '.join(raw.columns)}: "
            "correct the columns of ingest.interactions"
        )
    chosen = raw.select(pl.col(theirs).alias(ours) for ours, theirs in named.items())
    lists = [name for name, kind in chosen.schema.items() if isinstance(kind, pl.List)]
    return chosen.explode(lists) if lists else chosen
