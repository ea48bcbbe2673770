"""Sources: each reads or makes raw data and returns the same four tables."""

from dataclasses import dataclass, field

import polars as pl


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
        truth: what a generator drew from, by table name.
        pictures: picture files by name.
    """

    items: pl.DataFrame
    users: pl.DataFrame
    events: pl.DataFrame
    impressions: pl.DataFrame
    rows: int
    duplicates: int = 0
    bad_rows: int = 0
    truth: dict[str, pl.DataFrame] = field(default_factory=dict)
    pictures: dict[str, bytes] = field(default_factory=dict)
