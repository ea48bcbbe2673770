"""What the rows of a log count by item: each half of what one of `half_life_days` later does."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from stages.core import tables
from stages.core.coded import Coded, coded_ids, map_row_groups
from stages.core.windows import Log

_LEAST = -1000
"""Half-lives; what is older counts as if it were not: 2^-1000 is next to nothing, but not 0."""
_NEVER = np.iinfo(np.int64).min
_CLICKED = (pl.col("click") > 0).fill_null(False)
_COLUMNS = ["item_id", "timestamp"]


@dataclass(frozen=True)
class _Sums:
    """What some rows count at the moment of the last of them, by place in their `ids`."""

    end: int
    ids: pl.Series
    of: dict[str, np.ndarray]


@dataclass(frozen=True)
class Decay:
    """Counts by item as they are at a window's end, which is that of its last event.

    Counts are item_id, sorted; event_count, seen and clicked; and chosen, whether by any event.
    Rows are added up in their order, whatever the threads: the same table gives the same bits.
    """

    half_life_days: float

    def of_frames(self, events: pl.DataFrame, impressions: pl.DataFrame | None) -> pl.DataFrame:
        """Count a window's events and impressions."""
        done = self._done(Coded.of(events.select(_COLUMNS), "item_id"))
        if impressions is None:
            return self._total([done], done.end)
        known = impressions.select(*_COLUMNS, "click").drop_nulls("timestamp")
        return self._total([done, self._seen(Coded.of(known, "item_id"))], done.end)

    def of_log(self, log: Log) -> pl.DataFrame:
        """Count a window's events and impressions from disk, a row group at a time."""

        def events(part: Coded) -> _Sums:
            return self._done(part.up_to(log.end_ms))

        def impressions(part: Coded) -> _Sums:
            return self._seen(part.up_to(end))

        done = map_row_groups(events, log.events, tables.SPLIT_EVENTS, _COLUMNS, "item_id")
        end = max((part.end for part in done), default=_NEVER)
        columns = [*_COLUMNS, "click"]
        seen = map_row_groups(impressions, log.impressions, tables.IMPRESSIONS, columns, "item_id")
        return self._total([*done, *seen], end)

    def weights(self, timestamps: pl.Series, end: int) -> np.ndarray:
        """Return what moments count at `end`, in milliseconds since 1970; shape (n,)."""
        half_lives = timestamps.to_physical().to_numpy().astype(np.float64)
        half_lives -= end
        half_lives /= self.half_life_days * tables.DAY_MS
        np.clip(half_lives, _LEAST, 0, out=half_lives)
        return np.exp2(half_lives, out=half_lives)

    def _done(self, events: Coded) -> _Sums:
        """Count events."""
        end = last_ms(events.rows)
        weights = self.weights(events.rows["timestamp"], end)
        return _Sums(end, events.ids, {"event_count": _by_item(events, weights)})

    def _seen(self, impressions: Coded) -> _Sums:
        """Count impressions, and those that were clicked."""
        end = last_ms(impressions.rows)
        weights = self.weights(impressions.rows["timestamp"], end)
        clicked = impressions.rows.select(_CLICKED).to_series().to_numpy()
        of = {"seen": weights, "clicked": weights * clicked}
        sums = {name: _by_item(impressions, values) for name, values in of.items()}
        return _Sums(end, impressions.ids, sums)

    def _total(self, parts: Sequence[_Sums], end: int) -> pl.DataFrame:
        """Add up by item what all parts count at `end`: sums of a moment decay as rows of it do."""
        ids = coded_ids()
        totals = {name: np.zeros(len(ids)) for name in ("event_count", "seen", "clicked")}
        chosen = np.zeros(len(ids), bool)
        ends = pl.Series([part.end for part in parts], dtype=pl.Int64)
        for part, weight in zip(parts, self.weights(ends, end), strict=True):
            codes = part.ids.to_physical().to_numpy()
            for name, sums in part.of.items():
                totals[name][codes] += weight * sums
            chosen[codes] |= part.of.get("event_count", 0) > 0
        return (
            pl.DataFrame({"item_id": ids, **totals, "chosen": chosen})
            .filter(pl.col("chosen") | (pl.col("seen") > 0))
            .sort("item_id")
        )


def last_ms(rows: pl.DataFrame) -> int:
    """Return the last moment, in milliseconds since 1970; of no rows, the first there is."""
    return int(rows["timestamp"].to_physical().to_numpy().max(initial=_NEVER))


def _by_item(part: Coded, values: np.ndarray) -> np.ndarray:
    """Return the sum of `values`, one a row, for each of the part's ids."""
    return np.bincount(part.rows["item_id"].to_numpy(), values, len(part.ids))
