"""H&M and RetailRocket, one or both as one shop.

Ids of ours are text, `hm_` and the article's ten digits or `rr_` and the item's number, so that the
two cannot clash. Other systems number the items of both: an H&M article is `2` and its ten digits,
a RetailRocket item its number, and what is below `HM_MAX_ID` is RetailRocket's. `numeric_id` and
`from_numeric_id` lead from one scheme to the other.
"""

import re
from pathlib import Path

import polars as pl

from stages.core.log import UserError, get_logger
from stages.core.params import Ingest
from stages.prepare.sources import Ingested, hm, retailrocket
from stages.prepare.sources.json_lines import BadRows

log = get_logger(__name__)

HM_MAX_ID = 3_000_000
"""Numbers below it are RetailRocket's, from it on H&M's, in spite of its name."""


def numeric_id(item_id: str) -> int:
    """Return the number of an item of ours: `hm_0108775015` is 20108775015, `rr_355908` 355908.

    Raises:
        UserError: it is no item of these shops, or has a number that the scheme cannot hold.
    """
    if article := re.fullmatch(rf"{hm.PREFIX}(\d{{10}})", item_id):
        return int("2" + article[1])
    if item := re.fullmatch(rf"{retailrocket.PREFIX}(0|[1-9]\d*)", item_id):
        number = int(item[1])
        if number < HM_MAX_ID:
            return number
    raise UserError(
        f"item id {item_id!r} has no number; expected {hm.PREFIX} and ten digits, or "
        f"{retailrocket.PREFIX} and a number below {HM_MAX_ID}"
    )


def from_numeric_id(number: int) -> str:
    """Return the item of ours that has a number; the inverse of `numeric_id`.

    Raises:
        UserError: the number is of no item.
    """
    if 0 <= number < HM_MAX_ID:
        return f"{retailrocket.PREFIX}{number}"
    if article := re.fullmatch(r"2(\d{10})", str(number)):
        return hm.PREFIX + article[1]
    raise UserError(
        f"item number {number} is of neither shop; expected one from 0 to {HM_MAX_ID - 1}, or 2 "
        "and the ten digits of an article"
    )


def ingest(options: Ingest, folder: Path) -> Ingested:
    """Read the shops that `ingest.hm_retailrocket.parts` names.

    Raises:
        UserError: a file is not there, holds no row, or a row is bad.
    """
    settings = options.hm_retailrocket
    bad = BadRows(options.on_bad_row, options.max_bad_rows)
    read = {}
    if settings.parts in ("both", "hm"):
        read["hm"] = hm.ingest(settings.hm, folder, bad)
    if settings.parts in ("both", "retailrocket"):
        read["retailrocket"] = retailrocket.ingest(settings.retailrocket, folder, bad)
    for name, part in read.items():
        log.info(
            "%s: %d events, %d items, %d pictures, %d users; %d rows about users who never appear",
            name,
            part.events.height,
            part.items.height,
            len(part.pictures),
            part.users.height,
            part.unseen_users,
        )
        if part.events.is_empty():
            raise UserError(
                f"{folder}: no event of {name}; correct its files or ingest.hm_retailrocket.parts"
            )
    if bad.count:
        log.warning("left out %d bad rows in all", bad.count)
    return Ingested(
        items=_together(read, "items"),
        users=_together(read, "users"),
        events=pl.concat([part.events for part in read.values()], how="diagonal"),
        impressions=pl.concat([part.impressions for part in read.values()]),
        properties=pl.concat([part.properties for part in read.values()]),
        rows=sum(part.rows for part in read.values()) + bad.count,
        duplicates=sum(part.duplicates for part in read.values()),
        bad_rows=bad.count,
        unseen_users=sum(part.unseen_users for part in read.values()),
        pictures={name: file for part in read.values() for name, file in part.pictures.items()},
    )


def _together(read: dict[str, Ingested], table: str) -> pl.DataFrame:
    """Stack a table of the shops, with the column `part`; ids stay sorted, as prefixes are."""
    frames = [
        getattr(part, table).with_columns(part=pl.lit(name, pl.String))
        for name, part in read.items()
    ]
    return pl.concat(frames, how="diagonal")
