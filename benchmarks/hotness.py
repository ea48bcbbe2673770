"""Hotness of a catalogue over ten million events and a tenth of that in impressions, and in pandas.

Items are chosen by a power law, times lie within a year. Both sides start from a frame of their own
in memory and make the same hot list, which is asserted: the same items in the same order, the
figures equal but for rounding. Runs alternate, the table shows medians.
"""

from typing import Annotated, Any

import numpy as np
import polars as pl
import typer

from benchmarks.search import Side
from stages.core.params import Popular
from stages.core.tables import TIME
from stages.retrieve.retrievers import TrainingData
from stages.retrieve.retrievers.popular import PopularRetriever

WANTED = 10.0
FIGURES = ["score", "event_count", "impression_count", "ctr_mean"]


def log(rows: int, items: int, rng: np.random.Generator) -> pl.DataFrame:
    """Draw item_id, timestamp and click: few items are in many rows, one row in ten is a click."""
    share = np.arange(1, items + 1) ** -0.8
    item = rng.choice(items, rows, p=share / share.sum())
    names = pl.Series("item_id", [f"am_B{number:09d}" for number in range(items)])
    time = rng.integers(1_640_995_200_000, 1_672_531_200_000, rows)
    return pl.DataFrame(
        {
            "item_id": names.gather(item),
            "timestamp": pl.Series(time).cast(TIME),
            "click": (rng.random(rows) < 0.1).astype(np.int8),
        }
    )


def by_winnow(events: pl.DataFrame, shown: pl.DataFrame, params: Popular) -> pl.DataFrame:
    """Return the hot list of the retriever."""
    made = PopularRetriever(params)
    made.fit(TrainingData(pl.DataFrame(), events=events, impressions=shown))
    return made.hot


def by_pandas(events: Any, shown: Any, params: Popular) -> Any:
    """Return the hot list by the methods that one reaches for first."""
    end = events["timestamp"].max()

    def weight(rows: Any) -> Any:
        days = (end - rows["timestamp"]).dt.total_seconds() / 86_400
        return 0.5 ** (days / params.half_life_days)

    counts = events.assign(event_count=weight(events)).groupby("item_id")["event_count"].sum()
    seen = weight(shown)
    shown = shown.assign(seen=seen, clicked=seen * (shown["click"] > 0))
    rates = shown.groupby("item_id")[["seen", "clicked"]].sum()
    rate = rates["clicked"].sum() / rates["seen"].sum() if len(rates) else 0.0
    hot = counts.to_frame().join(rates).fillna(0.0).reset_index()
    prior = params.prior_impressions
    hot["ctr_mean"] = (hot["clicked"] + prior * rate) / (hot["seen"] + prior)
    hot["score"] = (hot["event_count"] + hot["seen"] * hot["ctr_mean"]).astype("float32")
    hot = hot.rename(columns={"seen": "impression_count"})[["item_id", *FIGURES]]
    return hot.sort_values(["score", "item_id"], ascending=[False, True])


def assert_same(ours: pl.DataFrame, theirs: Any) -> None:
    """Both sides must have made the same list; where scores differ by rounding, so may places."""
    left, right = ours.sort("item_id"), pl.from_pandas(theirs).sort("item_id")
    assert left["item_id"].equals(right["item_id"])
    for name in FIGURES:
        assert np.allclose(left[name], right[name], rtol=1e-6), f"{name} differs"
    assert np.allclose(ours["score"], theirs["score"].to_numpy(), rtol=1e-6), "the order differs"


def report(sides: dict[str, Side]) -> str:
    """Return the Markdown table and the verdict on sides that have run."""
    lines = ["| | seconds |", "|---|---|"]
    lines += [f"| {side.title} | {side.median:.3f} |" for side in sides.values()]
    ratio = sides["pandas"].median / sides["winnow"].median
    return "\n".join(lines) + (
        f"\n\nHotness is {ratio:.1f} times as fast as in pandas (at least {WANTED:g} wanted)."
    )


def main(
    events: Annotated[int, typer.Option(help="Events counted.")] = 10_000_000,
    items: Annotated[int, typer.Option(help="Items in the catalogue.")] = 100_000,
    rounds: Annotated[int, typer.Option(help="Times that each side runs.")] = 5,
    seed: Annotated[int, typer.Option(help="Decides the events.")] = 7,
) -> None:
    """Print a table of medians and the ratio."""
    rng = np.random.default_rng(seed)
    done, shown = log(events, items, rng), log(events // 10, items, rng)
    peer = done.to_pandas(), shown.to_pandas()
    params = Popular()
    sides = {
        "winnow": Side("`PopularRetriever.fit`", lambda: by_winnow(done, shown, params)),
        "pandas": Side("pandas", lambda: by_pandas(*peer, params)),
    }
    assert_same(sides["winnow"].call(), sides["pandas"].call())
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
