"""Top 100 of a whole catalogue for 20,000 users, and one user after the other in numpy.

Users come with a history of some twenty items, which `als` folds into factors before it searches.
The loop does the same for each: solve, multiply with all items, take the history out, partition,
sort. It is run for some of the users, since each costs it the same. Both answer these alike, which
is asserted: the same items but where two scores are as good as equal. Below stands the search
alone, of users that are already folded in. Runs alternate, the table shows medians.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import numpy as np
import polars as pl
import typer

from benchmarks.search import Side, recall, vectors
from stages.core.params import Als
from stages.core.search import FlatIndex
from stages.core.tables import QUERIES
from stages.retrieve.retrievers.als import AlsRetriever

ALIKE = 0.9999
Histories = Sequence[np.ndarray]


def histories(users: int, items: int, rng: np.random.Generator) -> Histories:
    """Draw rows of items for each user: ten to thirty, ascending, none twice."""
    lengths = rng.integers(10, 31, users)
    return [np.unique(rng.integers(items, size=length)) for length in lengths]


def asked(past: Histories, item_ids: pl.Series) -> pl.DataFrame:
    """Return a query a user, whose history was chosen in one moment."""
    moment = datetime(2024, 1, 1, tzinfo=UTC)
    rows = pl.DataFrame(
        {
            "query_id": np.repeat(np.arange(len(past)), [len(row) for row in past]),
            "item_id": item_ids.gather(np.concatenate(past)),
        }
    )
    chosen = pl.struct("item_id", timestamp=pl.lit(moment).cast(pl.Datetime("ms", "UTC")))
    read = rows.group_by("query_id", maintain_order=True).agg(history=chosen)
    return read.select(
        pl.format("q{}", pl.col("query_id").cast(pl.String).str.zfill(8)).alias("query_id"),
        user_id=pl.lit(None, pl.String),
        timestamp=pl.lit(moment).cast(QUERIES.columns["timestamp"]),
        text=pl.lit(None, pl.String),
        history="history",
        targets=pl.lit([], pl.List(pl.String)),
        split=pl.lit("test").cast(QUERIES.columns["split"]),
    )


def best(user: np.ndarray, factors: np.ndarray, own: np.ndarray, k: int) -> np.ndarray:
    """Return the rows of the k items of largest inner product, without `own`, best first."""
    scores = factors @ user
    scores[own] = -np.inf
    top = np.argpartition(-scores, k)[:k]
    return top[np.argsort(-scores[top], kind="stable")]


def loop(past: Histories, factors: np.ndarray, params: Als, k: int) -> np.ndarray:
    """Answer one user after the other: rows of items, shape (users, k)."""
    wide = factors.astype(np.float64)
    left = wide.T @ wide + params.regularization * np.eye(factors.shape[1])
    found = np.empty((len(past), k), np.int64)
    for row, own in enumerate(past):
        mine = wide[own]
        user = np.linalg.solve(
            left + params.alpha * mine.T @ mine, (1 + params.alpha) * mine.sum(axis=0)
        )
        found[row] = best(user.astype(np.float32), factors, own, k)
    return found


def report(sides: dict[str, Side]) -> str:
    """Return the Markdown table and the verdict on sides that have run."""
    lines = ["| | seconds | users/s |", "|---|---|---|"]
    lines += [
        f"| {side.title} | {side.median:.2f} | {side.queries / side.median:,.0f} |"
        for side in sides.values()
    ]
    speed = {name: side.queries / side.median for name, side in sides.items()}
    whole, alone = speed["als"] / speed["loop"], speed["search"] / speed["search loop"]
    return "\n".join(lines) + (
        f"\n\nThe whole way is {whole:.1f} times as fast as the loop, the search alone "
        f"{alone:.1f} times."
    )


def main(
    users: Annotated[int, typer.Option(help="Users who ask.")] = 20_000,
    looped: Annotated[int, typer.Option(help="Users that the loop goes through.")] = 1_000,
    items: Annotated[int, typer.Option(help="Items in the catalogue.")] = 100_000,
    factors: Annotated[int, typer.Option(help="Length of a vector.")] = 64,
    k: Annotated[int, typer.Option(help="Results a user.")] = 100,
    rounds: Annotated[int, typer.Option(help="Times that each side runs.")] = 3,
    seed: Annotated[int, typer.Option(help="Decides factors and histories.")] = 7,
) -> None:
    """Print a table of medians and the ratios."""
    rng = np.random.default_rng(seed)
    stock, _ = vectors(items, 1, factors, rng)
    params = Als(factors=factors)
    item_ids = pl.Series("item_id", [f"i{row:08d}" for row in range(items)])
    past = histories(users, items, rng)
    some = past[:looped]
    queries = asked(past, item_ids)
    made = AlsRetriever.of_factors(params, item_ids, stock, 1.0)
    rows = np.repeat(np.arange(users), [len(row) for row in past])
    folded = made.fold_in(rows, np.concatenate(past), np.ones(len(rows)))
    none = np.empty(0, np.int64)
    index = FlatIndex(stock)
    sides = {
        "als": Side("`AlsRetriever.retrieve`", lambda: made.retrieve(queries, k), users),
        "loop": Side("a loop over users", lambda: loop(some, stock, params, k), len(some)),
        "search": Side("`FlatIndex.search` alone", lambda: index.search(folded, k)[0], users),
        "search loop": Side(
            "a loop over users, search alone",
            lambda: np.stack([best(user, stock, none, k) for user in folded[: len(some)]]),
            len(some),
        ),
    }
    for _ in range(rounds):
        found = {name: side.run() for name, side in sides.items()}
    answers = item_ids.search_sorted(found["als"]["item_id"]).to_numpy().reshape(users, k)
    for mine, other in ((answers, found["loop"]), (found["search"], found["search loop"])):
        assert recall(mine[: len(some)], other) > ALIKE, "the loop answers otherwise"
    typer.echo(
        f"{users:,} users, top {k} of {items:,} items, {factors} factors; "
        f"medians of {rounds} rounds\n"
    )
    typer.echo(report(sides))


if __name__ == "__main__":
    typer.run(main)
