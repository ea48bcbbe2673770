"""What may be known at the end of a window."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import polars as pl

from stages.core.tables import PARTS_OF_WINDOW

_MOVED = timedelta(seconds=1)
"""How far an order of what was tied may have moved an event."""


@dataclass(frozen=True)
class Log:
    """A window that is cut in time, on disk, for what counts its rows a part at a time.

    Attributes:
        events: path of a table of events of all parts.
        impressions: path of table `IMPRESSIONS`.
        end_ms: last millisecond of the window's events, since 1970; of impressions it knows those
            up to its last event.
    """

    events: Path
    impressions: Path
    end_ms: int


def impressions_of(
    impressions: pl.DataFrame, events: pl.DataFrame, window: str, in_time: bool
) -> pl.DataFrame:
    """Return the impressions that a window knows.

    Those up to its last event. Where each user's last events are held out, of each user only those
    before the first event that is held out from it; and no click that is a held-out event, which an
    order of what was tied may have moved by milliseconds.

    Args:
        impressions: user_id, item_id, timestamp, click.
        events: user_id, item_id, timestamp, split, of all parts.
        window: one of `WINDOWS`.
        in_time: whether parts are cut in time.
    """
    inside = pl.col("split").is_in(PARTS_OF_WINDOW[window])
    known, held = events.filter(inside), events.filter(~inside)
    before = impressions.filter(pl.col("timestamp") <= known["timestamp"].max())
    if in_time:
        return before
    cuts = held.group_by("user_id").agg(cut=pl.col("timestamp").min())
    pair = ["user_id", "item_id"]
    targets = held.group_by(pair).agg(then=pl.col("timestamp").min())
    is_target = (pl.col("click") > 0) & (pl.col("timestamp") >= pl.col("then") - _MOVED)
    return (
        before.join(cuts, on="user_id", how="left", maintain_order="left")
        .filter((pl.col("timestamp") < pl.col("cut")).fill_null(True))
        .join(targets, on=pair, how="left", maintain_order="left")
        .filter(~is_target.fill_null(False))
        .drop("cut", "then")
    )
