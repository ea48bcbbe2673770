"""Hotness of a catalogue over ten million events and a million impressions, and in pandas.

Both sides start from the tables on disk as the stages `ingest` and `split` write them, with all
their columns, and end with the hot list of window `train`: the ten million events are the first
four fifths of their table in time. Items are chosen by a power law, times lie within a year, rows
lie in the order of their ids, which is not that of time. Each side reads only what it needs.
pandas runs twice: with ids as the strings that it reads of itself, and as the categories that one
gets by asking the reader for them.

All make the same list, which is asserted: the same items, the figures and their order equal but for
rounding. Runs alternate, the table shows medians.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
import typer

from stages.core import tables
from stages.core.params import Popular, Split
from stages.core.windows import Log
from stages.prepare.split import cuts, mark
from stages.retrieve.retrievers import TrainingData
from stages.retrieve.retrievers.popular import PopularRetriever

WANTED = 10.0
FIGURES = ["score", "event_count", "impression_count", "ctr_mean"]


@dataclass
class Side:
    """One way to make the list, and the seconds of each run: on the clock and of processors."""

    title: str
    call: Callable[[], Any]
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def run(self) -> Any:
        """Run once and return the list."""
        wall, cpu = time.perf_counter(), time.process_time()
        made = self.call()
        self.wall.append(time.perf_counter() - wall)
        self.cpu.append(time.process_time() - cpu)
        return made


def names(prefix: str, count: int) -> pl.Series:
    """Return ids in their order."""
    digits = pl.int_range(count, eager=True).cast(pl.String).str.zfill(9)
    return "am_" + prefix + digits


def drawn(rows: int, items: int, rng: np.random.Generator) -> pl.DataFrame:
    """Draw user_id, item_id and timestamp: few items are in many rows."""
    share = np.arange(1, items + 1) ** -0.8
    chosen = rng.choice(items, rows, p=share / share.sum())
    users = max(rows // 10, 1)
    return pl.DataFrame(
        {
            "user_id": names("U", users).gather(rng.integers(0, users, rows)),
            "item_id": names("B", items).gather(chosen),
            "timestamp": pl.Series(rng.integers(1_640_995_200_000, 1_672_531_200_000, rows)).cast(
                tables.TIME
            ),
        }
    )


def write_log(folder: Path, events: int, items: int, rng: np.random.Generator) -> Log:
    """Write both tables; `events` is how many window `train` has, a tenth of it impressions."""
    options = Split()
    done = drawn(round(events / options.train), items, rng)
    done = done.with_columns(
        event_id=names("", done.height),
        event=pl.lit("view").cast(tables.EVENTS.columns["event"]),
        value=pl.lit(1.0),
        title=pl.lit(None, pl.String),
        text=pl.lit(None, pl.String),
    )
    ends = cuts(done["timestamp"], options)
    log = Log(folder / "events.parquet", folder / "impressions.parquet", ends["rank"])
    tables.write(mark(done, ends), log.events, tables.SPLIT_EVENTS)
    shown = drawn(round(events / 10 / options.train), items, rng)
    shown = shown.with_columns(
        impression_id=names("", shown.height),
        click=pl.Series(rng.random(shown.height) < 0.1).cast(pl.Int8),
        conversion=pl.lit(0, pl.Int8),
        position=pl.Series(rng.integers(1, 21, shown.height)).cast(pl.Int32),
    )
    tables.write(shown, log.impressions, tables.IMPRESSIONS)
    return log


def by_winnow(log: Log, params: Popular) -> pl.DataFrame:
    """Return the hot list of the retriever."""
    made = PopularRetriever(params)
    made.fit(TrainingData(pl.DataFrame(), log=log))
    return made.hot


def read_strings(path: Path, columns: Sequence[str]) -> Any:
    """Read with pandas, ids as strings."""
    import pandas as pd

    return pd.read_parquet(path, columns=list(columns))


def read_categories(path: Path, columns: Sequence[str]) -> Any:
    """Read for pandas, ids as categories."""
    import pyarrow.parquet as pq

    return pq.read_table(path, columns=list(columns), read_dictionary=["item_id"]).to_pandas()


def by_pandas(log: Log, params: Popular, read: Callable[[Path, Sequence[str]], Any]) -> Any:
    """Return the hot list by the methods that one reaches for first."""
    import pandas as pd

    events = read(log.events, ["item_id", "timestamp"])
    events = events[events["timestamp"] <= pd.Timestamp(log.end_ms, unit="ms", tz="UTC")]
    end = events["timestamp"].max()
    shown = read(log.impressions, ["item_id", "timestamp", "click"])
    shown = shown[shown["timestamp"] <= end]

    def weight(rows: Any) -> Any:
        days = (end - rows["timestamp"]).dt.total_seconds() / 86_400
        return 0.5 ** (days / params.half_life_days)

    counts = events.assign(event_count=weight(events)).groupby("item_id", observed=True)
    seen = weight(shown)
    shown = shown.assign(seen=seen, clicked=seen * (shown["click"] > 0))
    rates = shown.groupby("item_id", observed=True)[["seen", "clicked"]].sum()
    rate = rates["clicked"].sum() / rates["seen"].sum() if len(rates) else 0.0
    hot = counts["event_count"].sum().to_frame().join(rates).fillna(0.0).reset_index()
    prior = params.prior_impressions
    hot["ctr_mean"] = (hot["clicked"] + prior * rate) / (hot["seen"] + prior)
    hot["score"] = (hot["event_count"] + hot["seen"] * hot["ctr_mean"]).astype("float32")
    hot = hot.rename(columns={"seen": "impression_count"})[["item_id", *FIGURES]]
    return hot.sort_values(["score", "item_id"], ascending=[False, True])


def assert_same(ours: pl.DataFrame, theirs: Any) -> None:
    """Both sides must have made the same list; where scores differ by rounding, so may places."""
    other = pl.from_pandas(theirs).cast({"item_id": pl.String})
    left, right = ours.sort("item_id"), other.sort("item_id")
    assert left["item_id"].equals(right["item_id"])
    for name in FIGURES:
        assert np.allclose(left[name], right[name], rtol=1e-6), f"{name} differs"
    assert np.allclose(ours["score"], other["score"], rtol=1e-6), "the order differs"


def report(sides: dict[str, Side]) -> str:
    """Return the Markdown table and the verdict on sides that have run."""
    lines = ["| | seconds | processor seconds |", "|---|---|---|"]
    lines += [
        f"| {side.title} | {statistics.median(side.wall):.3f} | {statistics.median(side.cpu):.3f} |"
        for side in sides.values()
    ]
    wall, cpu = (
        {
            name: statistics.median(getattr(sides[name], clock))
            / statistics.median(getattr(sides["winnow"], clock))
            for name in ("pandas", "categories")
        }
        for clock in ("wall", "cpu")
    )
    return "\n".join(lines) + (
        f"\n\nHotness is {wall['pandas']:.1f} times as fast as in pandas (at least {WANTED:g} "
        f"wanted; {cpu['pandas']:.1f} by processor time), {wall['categories']:.1f} times as fast "
        f"where pandas reads ids as categories ({cpu['categories']:.1f})."
    )


def main(
    events: Annotated[int, typer.Option(help="Events counted.")] = 10_000_000,
    items: Annotated[int, typer.Option(help="Items in the catalogue.")] = 100_000,
    rounds: Annotated[int, typer.Option(help="Times that each side runs.")] = 5,
    seed: Annotated[int, typer.Option(help="Decides the events.")] = 7,
) -> None:
    """Print a table of medians and the ratios."""
    params = Popular()
    with tempfile.TemporaryDirectory(prefix="winnow-bench-") as folder:
        log = write_log(Path(folder), events, items, np.random.default_rng(seed))
        sides = {
            "winnow": Side("`PopularRetriever.fit`", lambda: by_winnow(log, params)),
            "pandas": Side("pandas", lambda: by_pandas(log, params, read_strings)),
            "categories": Side(
                "pandas, ids read as categories", lambda: by_pandas(log, params, read_categories)
            ),
        }
        ours = sides["winnow"].call()
        for peer in ("pandas", "categories"):
            assert_same(ours, sides[peer].call())
        for _ in range(rounds):
            for side in sides.values():
                side.run()
    typer.echo(
        f"{events:,} events and {events // 10:,} impressions of {items:,} items; "
        f"{pl.thread_pool_size()} threads; medians of {rounds} rounds\n"
    )
    typer.echo(report(sides))


if __name__ == "__main__":
    typer.run(main)
