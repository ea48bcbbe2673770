"""Intervals of several systems at once, from the same resamples of the same queries."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import polars as pl

from stages.core import metrics
from stages.core.metrics import Interval
from stages.core.params import Evaluate

Figures = dict[str, Interval]
PerQuery = Mapping[str, pl.DataFrame]
"""A frame a system: query_id and metrics, the same queries in the same order in each."""


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are made: the arguments that all of them share."""

    params: Evaluate
    seed: int

    def of(self, frames: PerQuery, columns: Iterable[str] | None = None) -> dict[str, Figures]:
        """Return {system: {metric: interval}}, of all columns but query_id or of those given."""
        wide = _joined(frames, None if columns is None else list(columns))
        found = metrics.intervals(wide, self.params.bootstrap, self.params.level, self.seed)
        figures: dict[str, Figures] = {name: {} for name in frames}
        for label, interval in found.items():
            system, metric = label.split("|")
            figures[system][metric] = interval
        return figures

    def differences(
        self, frames: PerQuery, pairs: Iterable[tuple[str, str]], columns: Iterable[str]
    ) -> dict[str, Figures]:
        """Return {"a_vs_b": {metric: interval of the paired difference a - b}}."""
        names = list(columns)
        apart = {
            f"{a}_vs_{b}": frames[a].select(
                pl.col("query_id"), *(pl.col(name) - frames[b][name] for name in names)
            )
            for a, b in pairs
        }
        return self.of(apart) if apart else {}

    def weighted(self, values: pl.DataFrame, weight: str) -> Figures:
        """Return the intervals of the weighted means of all columns but `weight`."""
        return metrics.intervals(
            values.drop(weight),
            self.params.bootstrap,
            self.params.level,
            self.seed,
            values[weight].to_numpy(),
        )

    def pooled(self, lists: pl.DataFrame, queries: pl.DataFrame) -> Figures:
        """Return `metrics.pooled_metrics` of the lists."""
        return metrics.pooled_metrics(
            lists, queries, self.params.bootstrap, self.params.level, self.seed
        )

    def excess(self, a: pl.Series, b: pl.Series) -> Interval | None:
        """Return the interval of mean(a) - mean(b) of two sets of queries; none if one is empty."""
        if not a.count() or not b.count():
            return None
        return metrics.unpaired_difference(
            a.drop_nulls(), b.drop_nulls(), self.params.bootstrap, self.params.level, self.seed
        )


def _joined(frames: PerQuery, columns: list[str] | None) -> pl.DataFrame:
    parts = [
        frame.select(
            pl.col(name).alias(f"{system}|{name}")
            for name in (columns or frame.columns)
            if name != "query_id"
        )
        for system, frame in frames.items()
    ]
    return pl.concat(parts, how="horizontal")
