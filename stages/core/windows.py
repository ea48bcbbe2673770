"""What may be known at the end of a window."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import polars as pl

from stages.core.parts import Parts
from stages.core.tables import PARTS_OF_WINDOW, TIME

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


def end_of(
    rows: pl.DataFrame, events: pl.DataFrame, window: str, parts: Parts | None = None
) -> pl.Expr:
    """Return when a window ends for each of some rows: at its last event.

    Where the shop has parts, at the last that is of the part of the row's item; parts may lie years
    apart, and nothing of one is known past its own end. Null where the part has none.

    Args:
        rows: of which the expression is asked; with parts, item_id.
        events: timestamp and split, of all splits; with parts, item_id.
        window: one of `WINDOWS`.
        parts: None where the shop is one.
    """
    known = events.filter(pl.col("split").is_in(PARTS_OF_WINDOW[window]))
    if parts is None:
        return pl.lit(known["timestamp"].max(), TIME)
    of_event = known.select("timestamp", part=parts.of_items(known["item_id"]))
    ends = of_event.drop_nulls().group_by("part").agg(end=pl.col("timestamp").max())
    of_row = parts.of_items(rows["item_id"]).to_frame("part")
    return pl.lit(of_row.join(ends, on="part", how="left", maintain_order="left")["end"])


def impressions_of(
    impressions: pl.DataFrame,
    events: pl.DataFrame,
    window: str,
    in_time: bool,
    parts: Parts | None = None,
) -> pl.DataFrame:
    """Return the impressions that a window knows.

    Those up to its last event, or where the shop has parts, to that of their item's part. Where
    each user's last events are held out, of each user only those before the first event that is
    held out from it; and no click that is a held-out event, which an order of what was tied may
    have moved by milliseconds.

    Args:
        impressions: user_id, item_id, timestamp, click.
        events: user_id, item_id, timestamp, split, of all parts.
        window: one of `WINDOWS`.
        in_time: whether the splits are cut in time.
        parts: of the shop; None where it is one.
    """
    inside = pl.col("split").is_in(PARTS_OF_WINDOW[window])
    before = impressions.filter(pl.col("timestamp") <= end_of(impressions, events, window, parts))
    if in_time:
        return before
    held = events.filter(~inside)
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
