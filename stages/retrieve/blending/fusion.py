"""Joining several retrievers' candidates into one list."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import polars as pl

from stages.core.storage import read_json, write_json
from stages.core.tables import CANDIDATES

_LEAST = 1e-4
"""What a weight of 0 counts, so that among what the others leave equal the best is ahead."""


@dataclass(frozen=True)
class Fusion:
    """How candidates are joined: the method, each retriever's weight, and the rank constant.

    `rrf` is reciprocal rank fusion (Cormack et al., 2009): the sum of weight / (rrf_k + rank).
    `weighted` is the weighted sum of scores, each standardised over its query's candidates; an item
    that a retriever did not find has that retriever's lowest score of the query, or one less where
    it scores all alike. `interleave`
    takes from the lists in turn, each as often as its weight says (stride scheduling; Waldspurger,
    1995): the item at rank r of a list of weight w is due at (r - 1/2) / w, at the earliest of all
    lists that hold it; its score is the inverse of that.

    A retriever of weight 0 still decides what the others leave equal: all of a cold start, where
    those with weight read histories.
    """

    method: Literal["rrf", "weighted", "interleave"]
    weights: dict[str, float]
    rrf_k: float = 60.0

    def blend(self, candidates: pl.DataFrame, k: int) -> pl.DataFrame:
        """Join candidates into a table of retriever "blend", best first, ties by item id.

        Args:
            candidates: rows of one or more retrievers; those without a weight are left out.
            k: candidates a query.
        """
        parts = self.contributions(candidates)
        scores = self.join(parts.select(sorted(self.weights)).to_numpy(), self.weights)
        scored = parts.select("query_id", "item_id", score=pl.Series(scores, dtype=pl.Float32))
        ranked = scored.sort(
            ["query_id", "score", "item_id"], descending=[False, True, False]
        ).with_columns(
            rank=pl.int_range(1, pl.len() + 1, dtype=pl.UInt32).over("query_id"),
            retriever=pl.lit("blend"),
        )
        return ranked.filter(pl.col("rank") <= k).select(*CANDIDATES.columns)

    def join(self, values: np.ndarray, weights: dict[str, float]) -> np.ndarray:
        """Weigh contributions and make one score of those of an item, float32.

        Args:
            values: shape (n, retrievers), retrievers sorted by name.
            weights: by name.
        """
        weighed = [
            values[:, place] * max(weights[name], _LEAST)
            for place, name in enumerate(sorted(weights))
        ]
        reduce = np.maximum.reduce if self.method == "interleave" else np.add.reduce
        return reduce(weighed, axis=0).astype(np.float32)

    def contributions(self, candidates: pl.DataFrame) -> pl.DataFrame:
        """One row an item of a query, one column a retriever, before weights are applied."""
        names = sorted(self.weights)
        known = candidates.filter(pl.col("retriever").is_in(names))
        rank = pl.col("rank").cast(pl.Float64)
        if self.method == "rrf":
            value = 1.0 / (self.rrf_k + rank)
        elif self.method == "interleave":
            # Of lists that are due at once the first by name goes first.
            turn = pl.col("retriever").replace_strict(
                {name: 1 - 1e-6 * place for place, name in enumerate(names)}, default=1.0
            )
            value = turn / (rank - 0.5)
        else:
            group = ["query_id", "retriever"]
            score = pl.col("score").cast(pl.Float64)
            spread = score.std(ddof=0).over(group)
            value = pl.when(spread > 0).then((score - score.mean().over(group)) / spread)
            value = value.otherwise(0.0)
        wide = (
            known.with_columns(value=value)
            .pivot("retriever", index=["query_id", "item_id"], values="value", sort_columns=True)
            .with_columns(
                pl.lit(None, pl.Float64).alias(n) for n in names if n not in set(known["retriever"])
            )
            .sort("query_id", "item_id")
        )
        least: Any = 0.0
        if self.method == "weighted":
            # What scores all alike still tells what it found from what it did not.
            low, high = (
                {n: end(pl.col(n)).over("query_id") for n in names}
                for end in (pl.Expr.min, pl.Expr.max)
            )
            filled = [
                pl.col(n)
                .fill_null(pl.when(high[n] > low[n]).then(low[n]).otherwise(low[n] - 1))
                .fill_null(0.0)
                for n in names
            ]
        else:
            filled = [pl.col(n).fill_null(least) for n in names]
        return wide.select("query_id", "item_id", *filled)

    def save(self, path: Path) -> None:
        """Write as JSON."""
        write_json(path, {"method": self.method, "weights": self.weights, "rrf_k": self.rrf_k})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote."""
        return cls(**read_json(path))


def simplex(names: Sequence[str], steps: int) -> list[dict[str, float]]:
    """All weights that are multiples of 1/steps and sum to one, in lexical order."""
    cuts = itertools.combinations_with_replacement(range(steps + 1), len(names) - 1)
    grid = []
    for cut in cuts:
        edges = (0, *cut, steps)
        shares = [round((after - before) / steps, 6) for before, after in itertools.pairwise(edges)]
        grid.append(dict(zip(names, shares, strict=True)))
    return grid


def ndcg_of_weights(
    fusion: Fusion,
    parts: pl.DataFrame,
    targets: pl.DataFrame,
    grid: Sequence[dict[str, float]],
    cut: int = 10,
) -> np.ndarray:
    """Mean NDCG at `cut` that each weighting in `grid` gives.

    Args:
        fusion: how contributions are joined, whatever its weights.
        parts: what `Fusion.contributions` returns.
        targets: query_id, item_id of every target of every query, found or not.
        grid: weights by retriever.
        cut: candidates that count.
    """
    query = parts["query_id"].rank("dense").to_numpy().astype(np.int64) - 1
    is_target = (
        parts.join(
            targets.with_columns(hit=True),
            on=["query_id", "item_id"],
            how="left",
            maintain_order="left",
        )["hit"]
        .fill_null(False)
        .to_numpy()
    )
    names = sorted(grid[0])
    values = parts.select(names).to_numpy()
    hits = np.flatnonzero(is_target)
    truths = targets.group_by("query_id").len("truths")
    ideal_by_query = {
        row["query_id"]: (1 / np.log2(np.arange(2, min(row["truths"], cut) + 2))).sum()
        for row in truths.iter_rows(named=True)
    }
    ideal = np.array([ideal_by_query[q] for q in parts["query_id"].gather(pl.Series(hits))])
    starts = np.searchsorted(query, query[hits], side="left")
    ends = np.searchsorted(query, query[hits], side="right")
    gain = 1 / ideal if len(hits) else np.empty(0)
    held = ends - starts
    first = np.cumsum(held) - held
    rows = np.arange(held.sum()) - np.repeat(first - starts, held)
    target = np.repeat(hits, held)
    # Rows of a query are sorted by item id, so an equal score above the target is a smaller id.
    earlier = rows < target
    means = np.zeros(len(grid))
    for place, weights in enumerate(grid):
        score = fusion.join(values, weights)
        own, other = score[target], score[rows]
        ahead = (other > own) | (earlier & (other == own))
        ranks = 1 + np.add.reduceat(ahead, first, dtype=np.int64) if len(hits) else hits
        found = np.where(ranks <= cut, gain / np.log2(ranks + 1), 0.0)
        means[place] = found.sum() / truths.height
    return means
