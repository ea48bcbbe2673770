"""A feed's log of what was shown to whom and clicked, with tags of users and items."""

from pathlib import Path

import polars as pl

from stages.core import tables
from stages.core.log import UserError, get_logger
from stages.core.params import HomepageFeed, Ingest
from stages.prepare.sources import Ingested
from stages.prepare.sources.delimited import (
    Column,
    doubt_unit,
    good_rows,
    id_column,
    read_columns,
    text,
    time,
)
from stages.prepare.sources.described import described, item_table
from stages.prepare.sources.found import required_files
from stages.prepare.sources.json_lines import BadRows
from stages.prepare.sources.numbering import number_events, numbered

log = get_logger(__name__)

PREFIX = "hf_"
PARAMETER = "ingest.homepage_feed"
LOG = ("ts", "uid", "iid", "label")
USER_TAGS = ("utag1", "utag2")
ITEM_TAGS = ("itag1", "itag2", "itag3")


def ingest(options: Ingest, folder: Path) -> Ingested:
    """Read the log and the tags in `folder`.

    A row of the log is an impression; one that was clicked is also an event `view`. Items are those
    of the log and of the tags, users those of the log.

    Raises:
        UserError: a file is not there, the log holds no click, or a row is bad.
    """
    settings = options.homepage_feed
    bad = BadRows(options.on_bad_row, options.max_bad_rows)
    logs = required_files(folder, settings.log, f"{PARAMETER}.log")
    about_items = required_files(folder, settings.item_features, f"{PARAMETER}.item_features")
    about_users = required_files(folder, settings.user_features, f"{PARAMETER}.user_features")
    rows = pl.concat([_log(path, settings, bad) for path in logs])
    shown = rows.unique()
    events = clicks(shown)
    if events.is_empty():
        raise UserError(f"{', '.join(map(str, logs))}: no click among {rows.height} rows")
    doubt_unit(shown["timestamp"], settings.time_unit, f"{PARAMETER}.time_unit")
    users = shown.select(pl.col("user_id").unique().sort())
    of_items = [_tags(path, "item_id", ("iid", *ITEM_TAGS), settings, bad) for path in about_items]
    of_users = [_tags(path, "user_id", ("uid", *USER_TAGS), settings, bad) for path in about_users]
    unseen = sum(frame.join(users, on="user_id", how="anti").height for frame in of_users)
    if unseen:
        log.warning("left out %d rows about users who never appear", unseen)
    if bad.count:
        log.warning("left out %d bad rows in all", bad.count)
    return Ingested(
        items=item_table(of_items, shown["item_id"]),
        users=described(users, of_users),
        events=events,
        impressions=impression_table(shown),
        rows=rows.height + bad.count,
        duplicates=rows.height - shown.height,
        bad_rows=bad.count,
        unseen_users=unseen,
    )


def clicks(shown: pl.DataFrame) -> pl.DataFrame:
    """Return a `view` for each impression that was clicked."""
    kind = tables.EVENTS.columns["event"]
    return number_events(
        shown.filter(pl.col("click") == 1).select(
            "user_id",
            "item_id",
            "timestamp",
            event=pl.lit("view").cast(kind),
            value=pl.lit(1.0),
        )
    )


def impression_table(shown: pl.DataFrame) -> pl.DataFrame:
    """Return table `IMPRESSIONS`; the log knows no position, and of no conversion."""
    kinds = tables.IMPRESSIONS.columns
    return numbered(shown, ["user_id", "item_id", "timestamp"], "impression_id").with_columns(
        conversion=pl.lit(0, kinds["conversion"]), position=pl.lit(None, kinds["position"])
    )


def _log(path: Path, settings: HomepageFeed, bad: BadRows) -> pl.DataFrame:
    named = _named(LOG, settings)
    raw = read_columns(path, named, PARAMETER, bad, settings.separator, settings.header)
    click = tables.IMPRESSIONS.columns["click"]
    columns = {
        "user_id": id_column(raw, "uid", PREFIX),
        "item_id": id_column(raw, "iid", PREFIX),
        "timestamp": Column(
            "ts",
            time("ts", raw.schema["ts"], settings.time_unit),
            f"a time between 1970 and 2100 ({settings.time_unit})",
        ),
        "click": Column(
            "label",
            text("label").replace_strict({"0": 0, "1": 1}, default=None, return_dtype=click),
            "0 or 1",
        ),
    }
    return good_rows(path, raw, columns, bad, named)


def _tags(
    path: Path, key: str, names: tuple[str, ...], settings: HomepageFeed, bad: BadRows
) -> pl.DataFrame:
    """Read an id of ours, named `key`, and the tags behind it, as text."""
    named = _named(names, settings)
    raw = read_columns(path, named, PARAMETER, bad, settings.separator, settings.header)
    columns = {key: id_column(raw, names[0], PREFIX)} | {
        tag: Column(tag, text(tag), "text", optional=True) for tag in names[1:]
    }
    return good_rows(path, raw, columns, bad, named, unique=[key])


def _named(names: tuple[str, ...], settings: HomepageFeed) -> dict[str, str]:
    """Our names to the file's."""
    return {
        name: name if settings.header else f"column_{place}" for place, name in enumerate(names)
    }
