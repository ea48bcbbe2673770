"""What the rows of a log count by item: each half of what one of `half_life_days` later does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from stages.core import tables
from stages.core.coded import Coded, map_row_groups
from stages.core.windows import Log

_LEAST = -1000
"""Half-lives; what is older counts as if it were not: 2^-1000 is next to nothing, but not 0."""
_CLICKED = (pl.col("click") > 0).fill_null(False)
_VALUES = ("event_count", "seen", "clicked")
_NOTHING = pl.DataFrame(
    schema={"item_id": pl.String, "timestamp": tables.TIME, **dict.fromkeys(_VALUES, pl.Float64)}
)


@dataclass(frozen=True)
class Decay:
    """Counts by item as they are at a window's end, which is that of its last event.

    Counts are item_id, sorted; event_count, seen and clicked; and chosen, whether by any event.
    Rows are added up in their order, whatever the threads: the same table gives the same bits.
    """

    half_life_days: float

    def of_frames(self, events: pl.DataFrame, impressions: pl.DataFrame | None) -> pl.DataFrame:
        """Count a window's events and impressions."""
        if impressions is None:
            impressions = pl.DataFrame(schema=tables.IMPRESSIONS.columns)
        done = events.select("item_id", "timestamp", event_count=1.0)
        seen = impressions.drop_nulls("timestamp").select(
            "item_id", "timestamp", seen=1.0, clicked=_CLICKED.cast(pl.Float64)
        )
        return self._total([done, seen], last_ms(done))

    def of_log(self, log: Log) -> pl.DataFrame:
        """Count a window's events and impressions from disk, a row group at a time."""

        def events(part: Coded) -> pl.DataFrame:
            return self._sums(part.up_to(log.end_ms), "event_count", {})

        def impressions(part: Coded) -> pl.DataFrame:
            return self._sums(part.up_to(end), "seen", {"clicked": _CLICKED})

        columns = ["item_id", "timestamp"]
        done = map_row_groups(events, log.events, tables.SPLIT_EVENTS, columns, "item_id")
        end = max(map(last_ms, [_NOTHING, *done]))
        seen = map_row_groups(
            impressions, log.impressions, tables.IMPRESSIONS, [*columns, "click"], "item_id"
        )
        return self._total([*done, *seen], end)

    def weights(self, timestamps: pl.Series, end: int) -> np.ndarray:
        """Return what moments count at `end`, in milliseconds since 1970; shape (n,)."""
        half_lives = (timestamps.to_physical().to_numpy() - end) / (
            self.half_life_days * tables.DAY_MS
        )
        np.clip(half_lives, _LEAST, 0, out=half_lives)
        return np.exp2(half_lives, out=half_lives)

    def _sums(self, part: Coded, count: str, of: Mapping[str, pl.Expr]) -> pl.DataFrame:
        """Count by item, at the moment of the last row: `count` the rows, others what they say.

        Such sums can be counted as rows are, each of its moment.
        """
        rows, size = part.rows, len(part.ids)
        end = last_ms(rows)
        codes, weights = rows["item_id"].to_numpy(), self.weights(rows["timestamp"], end)
        sums = {count: np.bincount(codes, weights, size)}
        for name, said in of.items():
            sums[name] = np.bincount(codes, weights * rows.select(said).to_numpy().ravel(), size)
        at = pl.lit(end, pl.Int64).cast(tables.TIME)
        return (
            pl.DataFrame({"item_id": part.ids, **sums}, schema_overrides=_NOTHING.schema)
            .filter(pl.col(count) > 0)
            .with_columns(timestamp=at)
        )

    def _total(self, parts: Sequence[pl.DataFrame], end: int) -> pl.DataFrame:
        """Add up by item what the rows of all parts count at `end`."""
        rows = pl.concat([_NOTHING, *parts], how="diagonal")
        weights = pl.Series(self.weights(rows["timestamp"], end))
        return (
            rows.select("item_id", pl.col(_VALUES) * weights)
            .group_by("item_id", maintain_order=True)
            .agg(pl.col(_VALUES).sum(), chosen=pl.col("event_count").count() > 0)
            .sort("item_id")
        )


def last_ms(rows: pl.DataFrame) -> int:
    """Return the last moment, in milliseconds since 1970; of no rows, the first there is."""
    return int(rows["timestamp"].to_physical().to_numpy().max(initial=np.iinfo(np.int64).min))
