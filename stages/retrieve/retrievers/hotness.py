"""What the rows of a log count by item: each half of what one of `half_life_days` later does."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from stages.core import tables
from stages.core.coded import Coded, coded, map_row_groups
from stages.core.windows import Log

_LEAST = -1000
"""Half-lives; what is older counts as if it were not: 2^-1000 is next to nothing, but not 0. No
power is a subnormal number or infinite, for which processors take many times as long."""
_LITTLE = np.finfo(np.float64).tiny
_NEVER = -(1 << 62)
"""Before any moment, and no difference to one is too great for 64 bits."""
_AT_ONCE = 1 << 17
"""Rows: so few that what is made of them stays in the processor's cache."""
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

    Counts are item_id, each once, as they first come; event_count, seen and clicked; and chosen,
    whether by any event. Rows are added up in their order, whatever the threads: the same table
    gives the same bits.
    """

    half_life_days: float

    def of_frames(self, events: pl.DataFrame, impressions: pl.DataFrame | None) -> pl.DataFrame:
        """Count a window's events, and the impressions up to the last of them."""
        end = last_ms(events)
        parts = [self._done(Coded.of(events.select(_COLUMNS), "item_id"), end)]
        if impressions is not None:
            shown = impressions.select(*_COLUMNS, "click")
            parts.append(self._seen(Coded.of(shown, "item_id"), end))
        return self._total(parts, end)

    def of_log(self, log: Log) -> pl.DataFrame:
        """Count a window's events and impressions from disk, a row group at a time."""

        def events(part: Coded) -> _Sums:
            return self._done(part, log.end_ms)

        def impressions(part: Coded) -> _Sums:
            return self._seen(part, end)

        done = map_row_groups(events, log.events, tables.SPLIT_EVENTS, _COLUMNS, "item_id")
        end = max((part.end for part in done), default=_NEVER)
        columns = [*_COLUMNS, "click"]
        seen = map_row_groups(impressions, log.impressions, tables.IMPRESSIONS, columns, "item_id")
        return self._total([*done, *seen], end)

    def rows_of(self, events: pl.DataFrame, impressions: pl.DataFrame | None) -> pl.DataFrame:
        """Return what each row of a window counts, by its user.

        Returns:
            user_id, item_id, event_count, seen and clicked, of events and of the impressions up to
            the last of them.
        """
        end, ids = last_ms(events), ["user_id", "item_id"]
        done = pl.Series(self.weights(times_ms(events), end))
        rows = [events.select(ids).with_columns(event_count=done, seen=0.0, clicked=0.0)]
        if impressions is not None:
            until = pl.col("timestamp").to_physical() <= end
            shown = impressions.filter(until)
            seen = pl.Series(self.weights(times_ms(shown), end))
            clicked = seen * (shown["click"] > 0).fill_null(False)
            rows.append(shown.select(ids).with_columns(event_count=0.0, seen=seen, clicked=clicked))
        return pl.concat(rows)

    def weights(self, times: np.ndarray, end: int) -> np.ndarray:
        """Return what moments count at `end`, a later one more than 1; shape (n,).

        Args:
            times: milliseconds since 1970.
            end: the same.
        """
        half_lives = times - float(end)
        half_lives /= self.half_life_days * tables.DAY_MS
        np.clip(half_lives, _LEAST, -_LEAST, out=half_lives)
        return np.exp2(half_lives, out=half_lives)

    def _done(self, events: Coded, until: int) -> _Sums:
        """Count the events up to a moment."""
        return self._sums(events, until, {"event_count": None})

    def _seen(self, impressions: Coded, until: int) -> _Sums:
        """Count the impressions up to a moment, and those of them that were clicked."""
        clicked = (impressions.rows["click"] > 0).fill_null(False).to_numpy()
        return self._sums(impressions, until, {"seen": None, "clicked": clicked})

    def _sums(self, part: Coded, until: int, which: dict[str, np.ndarray | None]) -> _Sums:
        """Add up by id what rows up to a moment count: all of them, or some."""
        end, sums = _NEVER, {name: np.zeros(len(part.ids)) for name in which}
        all_times = part.rows["timestamp"].to_physical().fill_null(until + 1).to_numpy()
        all_codes = part.rows["item_id"].to_numpy()
        for start in range(0, part.rows.height, _AT_ONCE):
            here = slice(start, start + _AT_ONCE)
            times, codes = all_times[here], all_codes[here]
            since = until - times
            # Of what is later, `since` is negative, which as an unsigned number is the greatest.
            last = until - int(since.view(np.uint64).min())
            if last > end:
                sums = {name: self._later(counts, end, last) for name, counts in sums.items()}
                end = last
            weights = self.weights(times, end) * (since >= 0)
            for name, some in which.items():
                counted = weights if some is None else weights * some[here]
                sums[name] += np.bincount(codes, counted, len(part.ids))
        return _Sums(end, part.ids, sums)

    def _later(self, counts: np.ndarray, then: int, end: int) -> np.ndarray:
        """Return what counts of a moment are at a later one; what is not 0 stays so."""
        (weight,) = self.weights(np.array([then]), end)
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
        return hot.filter(pl.col("chosen") | (pl.col("seen") > 0))


def times_ms(rows: pl.DataFrame) -> np.ndarray:
    """Return the moments of rows, in milliseconds since 1970; shape (n,)."""
    return rows["timestamp"].to_physical().to_numpy()


def last_ms(rows: pl.DataFrame) -> int:
    """Return the last moment, in milliseconds since 1970; of no rows, the first there is."""
    return int(times_ms(rows).max(initial=_NEVER))
