"""ALS by `implicit` and by Spark MLlib on one matrix: seconds a round of training, and Recall@20.

The matrix is that of a log with groups of taste, or of the Amazon ratings in `amazon_hin` where
WINNOW_REAL_DATA names the folder that holds them. A tenth of the users is not trained on; half of
what each of them chose is their history, which is folded in, and the other half is to be found.

A round's seconds are the difference between a training of `iterations` + 1 rounds and one of a
single round, so that starting, reading and writing are left out. Spark runs in one JVM, on as many
threads as `implicit`, and is warm: its first training is not counted. Spark multiplies the weight
of a length by the number of a user's or an item's pairs; it is given the weight divided by the mean
number of a user's, so that the mean user has the same in both. Trainings alternate, the table shows
medians.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import polars as pl
import typer

from stages.core.params import Als
from stages.retrieve.retrievers.als import AlsRetriever, implicit_factors
from stages.retrieve.retrievers.als_spark import demand_spark, factors_of, open_session, train
from stages.retrieve.retrievers.choices import Choices, choices

K, GROUPS = 20, 60


@dataclass
class Trainer:
    """One way to train, and what came of it.

    Attributes:
        title: how the table calls it.
        call: gives the factors of items after so many rounds.
        params: whose problem histories are folded in by.
        seconds: a round, of each pair of trainings.
        factors: of the last training.
    """

    title: str
    call: Callable[[int], np.ndarray]
    params: Als
    seconds: list[float] = field(default_factory=list)
    factors: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.float32))

    def run(self, iterations: int) -> None:
        """Train for one round and for `iterations` more, on the clock."""
        took = []
        for rounds in (1, 1 + iterations):
            started = time.perf_counter()
            self.factors = self.call(rounds)
            took.append(time.perf_counter() - started)
        self.seconds.append((took[1] - took[0]) / iterations)

    @property
    def median(self) -> float:
        """Seconds a round, in the middle."""
        return statistics.median(self.seconds)


def drawn(users: int, items: int, rng: np.random.Generator) -> pl.DataFrame:
    """Draw user_id and item_id: a user has two groups of items, and one choice in five is none's.

    Within a group items are chosen by a power law, ten to ninety a user.
    """
    lengths = rng.integers(10, 91, users)
    user = np.repeat(np.arange(users), lengths)
    tastes = rng.integers(GROUPS, size=(users, 2))
    group = tastes[user, rng.integers(2, size=len(user))]
    place = (rng.random(len(user)) ** 2.5 * (items // GROUPS)).astype(np.int64)
    stray = rng.random(len(user)) < 0.2
    item = np.where(stray, rng.integers(items, size=len(user)), place * GROUPS + group)
    names = pl.DataFrame({"user_id": user, "item_id": item}).unique(maintain_order=True)
    return names.select(pl.all().cast(pl.String).str.zfill(8))


def rated(folder: Path) -> pl.DataFrame:
    """Read user_id and item_id of `amazon_hin`."""
    names = ["user_id", "item_id", "rating", "time"]
    read = pl.read_csv(
        folder / "amazon_hin" / "user_item.dat.gz",
        separator="\t",
        has_header=False,
        new_columns=names,
        infer_schema=False,
    )
    return read.select("user_id", "item_id").unique(maintain_order=True)


def hold_out(
    rows: pl.DataFrame, rng: np.random.Generator
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Return the rows trained on, the histories and the targets of a tenth of the users."""
    users = rows["user_id"].unique().sort()
    away = users.gather(np.sort(rng.choice(len(users), len(users) // 10, replace=False)))
    held = rows.filter(pl.col("user_id").is_in(away.implode()))
    held = held.sample(fraction=1.0, shuffle=True, seed=int(rng.integers(2**31)))
    half = (pl.int_range(pl.len()) * 2 < pl.len()).over("user_id")
    kept = rows.filter(~pl.col("user_id").is_in(away.implode()))
    return kept, held.filter(half), held.filter(~half)


def recall(
    trainer: Trainer, item_ids: pl.Series, histories: pl.DataFrame, targets: pl.DataFrame
) -> float:
    """Mean share of a user's targets that are among the first K, the history left out."""
    numbers = pl.DataFrame(item_ids.rename("item_id")).with_row_index("item")
    past, sought = (
        part.join(numbers, on="item_id").sort("user_id", "item") for part in (histories, targets)
    )
    made = AlsRetriever.of_factors(trainer.params, item_ids, trainer.factors, 1.0)
    user = past["user_id"].rank("dense").to_numpy().astype(np.int64) - 1
    item = past["item"].to_numpy()
    scores = made.fold_in(user, item, np.ones(len(item))) @ trainer.factors.T
    scores[user, item] = -np.inf
    top = np.argpartition(-scores, K, axis=1)[:, :K]
    found = pl.DataFrame(
        {"user_id": past["user_id"].unique().sort().repeat_by(K).explode(), "item": top.ravel()},
        schema_overrides={"item": pl.UInt32},
    )
    hits = sought.join(found, on=["user_id", "item"]).group_by("user_id").len("hits")
    asked = targets.group_by("user_id").len("sought").join(hits, on="user_id", how="left")
    return float((asked["hits"].fill_null(0) / asked["sought"]).to_numpy().mean())


def report(trainers: dict[str, Trainer], recalls: dict[str, float]) -> str:
    """Return the Markdown table and the verdict on trainers that have run."""
    lines = [f"| | seconds a round | Recall@{K} |", "|---|---|---|"]
    lines += [
        f"| {trainer.title} | {trainer.median:.3f} | {recalls[name]:.3f} |"
        for name, trainer in trainers.items()
    ]
    ratio = trainers["spark"].median / trainers["implicit"].median
    return "\n".join(lines) + (
        f"\n\nA round by `implicit` is {ratio:.1f} times as fast as by Spark, and its Recall@{K} "
        f"differs by {recalls['implicit'] - recalls['spark']:+.3f}."
    )


def trainers_on(
    chosen: Choices, params: Als, seed: int, spark: object, folder: Path
) -> dict[str, Trainer]:
    """Return both ways to train on the same pairs."""
    pairs = folder / "pairs.parquet"
    chosen.pairs.with_columns(pl.col("weight").cast(pl.Float32)).write_parquet(pairs)
    each = params.regularization * chosen.shape[0] / chosen.pairs.height
    settings = params.model_copy(update={"backend": "spark", "regularization": each})

    def by_implicit(rounds: int) -> np.ndarray:
        now = params.model_copy(update={"iterations": rounds})
        return implicit_factors(chosen, now, params.factors, seed)

    def by_spark(rounds: int) -> np.ndarray:
        now = settings.model_copy(update={"iterations": rounds})
        model = train(spark, pairs, now, params.factors, seed)
        written = folder / f"items-{time.monotonic_ns()}"
        model.itemFactors.write.parquet(str(written))
        return factors_of(written, chosen.shape[1], params.factors)

    return {
        "implicit": Trainer("`implicit`", by_implicit, params),
        "spark": Trainer(f"Spark `{params.spark_master}`", by_spark, settings),
    }


def main(
    users: Annotated[int, typer.Option(help="Users, where the log is drawn.")] = 10_000,
    items: Annotated[int, typer.Option(help="Items, where the log is drawn.")] = 3_000,
    factors: Annotated[int, typer.Option(help="Length of a vector.")] = 64,
    regularization: Annotated[float, typer.Option(help="Weight of lengths.")] = 1.0,
    iterations: Annotated[int, typer.Option(help="Rounds of training on the clock.")] = 10,
    rounds: Annotated[int, typer.Option(help="Times that each side trains.")] = 3,
    seed: Annotated[int, typer.Option(help="Decides log, held-out users and factors.")] = 7,
) -> None:
    """Print a table of medians, Recall@20 and the ratio."""
    demand_spark()
    rng = np.random.default_rng(seed)
    real = os.environ.get("WINNOW_REAL_DATA")
    rows = rated(Path(real)) if real else drawn(users, items, rng)
    kept, histories, targets = hold_out(rows, rng)
    chosen = choices(kept.with_columns(event=pl.lit("view")), {"view": 1.0})
    params = Als(factors=factors, regularization=regularization)
    with tempfile.TemporaryDirectory(prefix="winnow-bench-") as name:
        folder = Path(name)
        with open_session(params.spark_master, folder) as spark:
            trainers = trainers_on(chosen, params, seed, spark, folder)
            trainers["spark"].call(2)
            for _ in range(rounds):
                for trainer in trainers.values():
                    trainer.run(iterations)
    recalls = {
        name: recall(trainer, chosen.item_ids, histories, targets)
        for name, trainer in trainers.items()
    }
    typer.echo(
        f"{'amazon_hin' if real else 'drawn'}: {chosen.pairs.height:,} pairs of "
        f"{chosen.shape[0]:,} users and {chosen.shape[1]:,} items, {factors} factors; "
        f"{targets['user_id'].n_unique():,} users held out; medians of {rounds} rounds\n"
    )
    typer.echo(report(trainers, recalls))


if __name__ == "__main__":
    typer.run(main)
