"""Sources: each reads or makes raw data and returns the same tables."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from stages.core import tables


@dataclass(frozen=True)
class Ingested:
    """What a source gives.

    Attributes:
        items: table `ITEMS`.
        users: table `USERS`.
        events: table `EVENTS`.
        impressions: table `IMPRESSIONS`, maybe without rows.
        rows: raw reviews, good, bad and twice.
        duplicates: exact duplicates that were dropped.
        bad_rows: lines that were left out, of reviews and of metadata.
        properties: table `PROPERTIES`, without rows where nothing is known to change.
        unseen_users: rows about users who never appear, that were left out.
        truth: what a generator drew from, by table name.
        pictures: pictures by the name that items have for them, or the files that hold them.
    """

    items: pl.DataFrame
    users: pl.DataFrame
    events: pl.DataFrame
    impressions: pl.DataFrame
    rows: int
    duplicates: int = 0
    bad_rows: int = 0
    properties: pl.DataFrame = field(
        default_factory=lambda: pl.DataFrame(schema=tables.PROPERTIES.columns)
    )
    unseen_users: int = 0
    truth: dict[str, pl.DataFrame] = field(default_factory=dict)
    pictures: Mapping[str, bytes | Path] = field(default_factory=dict)
