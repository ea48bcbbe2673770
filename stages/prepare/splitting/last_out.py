"""Each user's last events held out, as the sequential-recommendation papers do it."""

import numpy as np
import polars as pl

from stages.core import tables


def in_sequence(events: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Put what a user did at one time in an order: a millisecond apart, as the seed draws it.

    The order of a file says nothing, or too much: one that is sorted by item would tell the target.

    Args:
        events: an events table.
        seed: decides the order of what is tied.
    """
    drawn = np.random.default_rng(seed).permutation(events.height)
    lots = events.select("event_id", "user_id", "timestamp", drawn=pl.Series(drawn))
    # Each is at least a millisecond after the one before it, however many share a time.
    place = pl.int_range(pl.len()).over("user_id")
    at = pl.col("timestamp").dt.epoch("ms")
    lots = lots.sort("user_id", "timestamp", "drawn").with_columns(
        at=(at - place).cum_max().over("user_id") + place
    )
    lots = lots.select("event_id", timestamp=pl.col("at").cast(tables.TIME))
    return (
        events.drop("timestamp")
        .join(lots, on="event_id", how="left", maintain_order="left")
        .select(events.columns)
    )


def mark_last(events: pl.DataFrame) -> pl.DataFrame:
    """Add the column `split`: a user's last event is test, and before it valid, rank and fit.

    A user of fewer than four events keeps one for fit and has no rank, and then no valid.

    Args:
        events: an events table in which no user has two events at one time.
    """
    ordered = events.select("event_id", "user_id", "timestamp").sort("user_id", "timestamp")
    back = pl.int_range(pl.len(), 0, -1).over("user_id")
    part = (
        pl.when(pl.int_range(pl.len()).over("user_id") == 0)
        .then(pl.lit("fit"))
        .otherwise(back.replace_strict({1: "test", 2: "valid", 3: "rank"}, default="fit"))
    )
    parts = ordered.select("event_id", split=part.cast(pl.Enum(tables.PARTS)))
    return events.join(parts, on="event_id", how="left", maintain_order="left")
