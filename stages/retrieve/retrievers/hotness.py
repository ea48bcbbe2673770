"""What the rows of a log count by item: each half of what one of `half_life_days` later does."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from stages.core import tables
from stages.core.coded import Coded, coded, map_row_groups
from stages.core.windows import Log

_LEAST = -1000
"""Half-lives; what is older counts as if it were not: 2^-1000 is next to nothing, but not 0."""
_LITTLE = np.finfo(np.float64).tiny
_NEVER = np.iinfo(np.int64).min
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
        """Count a window's events, and the impressions up to the last of them."""
        done = self._done(Coded.of(events.select(_COLUMNS), "item_id"))
        if impressions is None:
            return self._total([done], done.end)
        known = impressions.select(*_COLUMNS, "click").drop_nulls("timestamp")
        seen = self._seen(Coded.of(known, "item_id").up_to(done.end))
        return self._total([done, seen], done.end)

    def of_log(self, log: Log) -> pl.DataFrame:
        """Count a window's events and impressions from disk, few rows at a time."""

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
        return self._sums(events, event_count=lambda _: 1)

    def _seen(self, impressions: Coded) -> _Sums:
        """Count impressions, and those that were clicked."""
        return self._sums(impressions, seen=lambda _: 1, clicked=_clicked)

    def _sums(self, part: Coded, **values: Callable[[pl.DataFrame], np.ndarray | int]) -> _Sums:
        """Add up decayed values, which are of each row or of all, by id."""
        end, sums = _NEVER, {name: np.zeros(len(part.ids)) for name in values}
        for rows in part.frames:
            last = last_ms(rows)
            if last > end:
                sums = {name: self._later(counts, end, last) for name, counts in sums.items()}
                end = last
            weights, codes = self.weights(rows["timestamp"], end), rows["item_id"].to_numpy()
            for name, value in values.items():
                sums[name] += np.bincount(codes, weights * value(rows), len(part.ids))
        return _Sums(end, part.ids, sums)

    def _later(self, counts: np.ndarray, then: int, end: int) -> np.ndarray:
        """Return what counts of a moment are at a later one; what is not 0 stays so."""
        (weight,) = self.weights(pl.Series([then]), end)
        return np.maximum(counts * weight, _LITTLE, out=np.zeros_like(counts), where=counts > 0)

    def _total(self, parts: Sequence[_Sums], end: int) -> pl.DataFrame:
        """Add up by item what all parts count at `end`: sums of a moment decay as rows of it do."""
        none = pl.Series("item_id", [], pl.String)
        codes, ids = coded(pl.concat([none, *(part.ids for part in parts)]))
        totals = {name: np.zeros(len(ids)) for name in ("event_count", "seen", "clicked")}
        ends = np.cumsum([len(part.ids) for part in parts])
        for part, last in zip(parts, ends, strict=True):
            mine = codes[last - len(part.ids) : last]
            for name, counts in part.of.items():
                totals[name][mine] += self._later(counts, part.end, end)
        chosen = totals["event_count"] > 0
        hot = pl.DataFrame({"item_id": ids, **totals, "chosen": chosen})
        return hot.filter(pl.col("chosen") | (pl.col("seen") > 0)).sort("item_id")


def last_ms(rows: pl.DataFrame) -> int:
    """Return the last moment, in milliseconds since 1970; of no rows, the first there is."""
    return int(rows["timestamp"].to_physical().to_numpy().max(initial=_NEVER))


def _clicked(impressions: pl.DataFrame) -> np.ndarray:
    return impressions.select((pl.col("click") > 0).fill_null(False)).to_series().to_numpy()
