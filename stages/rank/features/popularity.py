"""How often, how lately and how well an item was chosen before a moment."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import polars as pl

from stages.core.parts import Parts
from stages.core.tables import DAY_MS


class Popularity:
    """The events of a window, laid out so that any moment's past is counted by binary search.

    What it says of a moment is made of the window's events strictly before it, so that where each
    user's last items are held out nothing counts that others did afterwards. A moment after the
    window's end is described as its end: what is recent is so by the last that was known, today
    and a month after the window was closed. Where the shop has parts, each has an end of its own.

    Args:
        recent_days: spans whose events are counted one by one.
        rating_prior: reviews of the window's mean rating that every item is credited with.
    """

    def __init__(self, recent_days: Sequence[int], rating_prior: float) -> None:
        self._days = tuple(recent_days)
        self._prior = rating_prior

    def fit(self, events: pl.DataFrame, item_ids: pl.Series, parts: Parts | None = None) -> Self:
        """Lay out a window.

        Args:
            events: item_id, timestamp and value of the window's events and no others.
            item_ids: sorted, of the whole catalogue.
            parts: of the shop, whose windows each end by themselves; None where it is one.
        """
        laid = events.select(
            item=item_ids.search_sorted(events["item_id"]).cast(pl.UInt32),
            at=pl.col("timestamp").dt.epoch("ms"),
            value=pl.col("value").cast(pl.Float64),
        )
        if parts is not None:
            laid = laid.with_columns(part=parts.of_items(events["item_id"]))
            laid = laid.with_columns(end=pl.col("at").max().over("part")).drop("part")
        self._hold(laid.sort("item", "at", "value"), len(item_ids))
        return self

    def before(self, item: np.ndarray, at_ms: np.ndarray) -> dict[str, np.ndarray]:
        """Describe items at moments.

        Args:
            item: rows of the catalogue, shape (n,).
            at_ms: milliseconds since 1970, shape (n,).

        Returns:
            `item_events`, `item_events_<days>d`; `item_rating` (smoothed towards the window's
            mean), `item_rating_spread` (standard deviation), `item_days_since_last` and
            `item_days_known` (since the first event), NaN where there is none; each of shape (n,).
        """
        at_ms = np.minimum(at_ms, self._end[item])
        begin, end = self._starts[item], self._place(item, at_ms)
        count = end - begin
        some = np.where(count > 0, 1.0, np.nan)
        total, squares = (sums[end] - sums[begin] for sums in (self._sums, self._squares))
        found = {"item_events": count.astype(np.float64)}
        for days in self._days:
            found[f"item_events_{days}d"] = end - self._place(item, at_ms - days * DAY_MS)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = total / count
            found["item_rating"] = (total + self._prior * self._mean) / (count + self._prior)
            found["item_rating_spread"] = np.sqrt(np.maximum(squares / count - mean**2, 0)) * some
        last = self._at[np.maximum(end - 1, 0)] if len(self._at) else at_ms
        first = self._at[np.minimum(begin, len(self._at) - 1)] if len(self._at) else at_ms
        found["item_days_since_last"] = (at_ms - last) / DAY_MS * some
        found["item_days_known"] = (at_ms - first) / DAY_MS * some
        return found

    def save(self, folder: Path) -> None:
        """Write the layout into an existing folder."""
        self._laid.write_parquet(folder / "popularity.parquet")

    def load(self, folder: Path, items: int) -> Self:
        """Read what `save` wrote of a catalogue of that many items."""
        self._hold(pl.read_parquet(folder / "popularity.parquet"), items)
        return self

    def _hold(self, laid: pl.DataFrame, items: int) -> None:
        self._laid = laid
        item, self._at = laid["item"].to_numpy().astype(np.int64), laid["at"].to_numpy()
        value = laid["value"].to_numpy()
        self._end = np.full(items, int(self._at.max(initial=0)) + 1)
        if "end" in laid.columns:
            self._end[item] = laid["end"].to_numpy() + 1
        self._mean = float(value.mean()) if len(value) else 0.0
        self._sums = np.concatenate([[0.0], np.cumsum(value)])
        self._squares = np.concatenate([[0.0], np.cumsum(value**2)])
        self._starts = np.searchsorted(item, np.arange(items))
        # Times by their rank, so that item and time fit into one number, whatever the years.
        self._times = np.unique(self._at)
        self._keys = item * (len(self._times) + 1) + np.searchsorted(self._times, self._at)

    def _place(self, item: np.ndarray, at_ms: np.ndarray) -> np.ndarray:
        """Where an item's events from `at_ms` on begin."""
        moments, which = np.unique(at_ms, return_inverse=True)
        rank = np.searchsorted(self._times, moments)[which]
        return np.searchsorted(self._keys, item * (len(self._times) + 1) + rank)
