"""What a user did before a moment."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from stages.core import tables


def histories(events: pl.DataFrame, rows: pl.Series) -> pl.Series:
    """Return, for the events at `rows`, what their users did before: oldest first, ties by item.

    Events are sorted by user and time once; a history is then a stretch from the user's first
    event up to the first of the same time, so the work is that of writing the histories down.
    """
    asked = rows.to_numpy()
    user = _codes(events["user_id"])
    asks = np.zeros(int(user.max(initial=0)) + 1, dtype=bool)
    asks[user[asked]] = True
    past = np.flatnonzero(asks[user])
    user, time = user[past], events["timestamp"].dt.epoch("ms").to_numpy()[past]
    # In half the time of `np.lexsort`.
    moments = pl.DataFrame({"user": user, "time": time})
    order = moments.select(pl.arg_sort_by("user", "time")).to_series().to_numpy(writable=True)
    new_user = _starts(user[order])
    new_time = new_user | _starts(time[order])
    moment = np.cumsum(new_time)
    tied = np.bincount(moment)[moment] > 1
    if tied.any():
        clash = pl.DataFrame({"moment": moment[tied], "row": order[tied]}).with_columns(
            events["item_id"].gather(past[order[tied]])
        )
        order[tied] = clash.sort("moment", "item_id", "row")["row"].to_numpy()
    place = np.arange(len(order))
    at = np.empty(events.height, np.int64)
    at[past[order]] = place
    begin = np.maximum.accumulate(np.where(new_user, place, 0))[at[asked]]
    end = np.maximum.accumulate(np.where(new_time, place, 0))[at[asked]]
    length = end - begin
    inside = np.arange(length.sum()) + np.repeat(begin - np.cumsum(length) + length, length)
    before = events.select("item_id", "timestamp")[past[order[inside]]]
    lists = (
        before.select(
            pl.Series("query", np.repeat(np.arange(len(asked)), length)).set_sorted(),
            history=pl.struct("item_id", "timestamp"),
        )
        .group_by("query", maintain_order=True)
        .agg("history")["history"]
    )
    which = pl.Series(np.cumsum(length > 0) - 1).set(pl.Series(length == 0), None)
    return lists.gather(which).fill_null([]).cast(tables.HISTORY)


def _codes(ids: pl.Series) -> NDArray[np.uint32]:
    """A number for each id; where ids are sorted, as they are wherever they can be, by counting."""
    codes = ids.rle_id() if ids.is_sorted() else ids.cast(pl.Categorical).to_physical()
    return codes.to_numpy()


def _starts(values: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Where a value differs from the one before it."""
    starts = np.ones(len(values), dtype=bool)
    starts[1:] = values[1:] != values[:-1]
    return starts
