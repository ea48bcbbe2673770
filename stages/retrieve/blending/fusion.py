"""Joining several retrievers' candidates into one list."""

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, Self

import numpy as np
import polars as pl

from stages.core.pairs import PairNumbers, places, rows_of
from stages.core.storage import read_json, write_json
from stages.core.tables import CANDIDATES
from stages.core.threads import side_by_side

_LEAST = 1e-4
"""What a weight of 0 counts, so that among what the others leave equal the best is ahead."""


@dataclass(frozen=True)
class Contributions:
    """What each retriever adds to each item of a query.

    Attributes:
        numbers: of queries' and items' ids.
        pair: numbered pairs, ascending, shape (n,).
        query: row of each pair's query in `numbers.query_ids`, shape (n,).
        values: by pair and retriever, these sorted by name: float64 of shape (n, retrievers).
    """

    numbers: PairNumbers
    pair: np.ndarray
    query: np.ndarray
    values: np.ndarray


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

    What is best first is not always what finds most in a hundred: the retriever that is right at
    the top may have little below it. So a list may have a head, its first ranks, by one set of
    weights, and a tail by another, which brings what the head has not. Scores of a tail are moved
    as a whole to below those of its head.

    Attributes:
        method: see above.
        weights: by retriever.
        rrf_k: rank constant of `rrf`.
        origin: whether weights were tuned on valid, set by `blend.weights`, or are even because
            there was nothing to tune them on; older files do not say it, and theirs were tuned.
        head: how many ranks `weights` order, where there is a tail.
        tail: weights of all ranks after; None where `weights` order the whole list.
    """

    method: Literal["rrf", "weighted", "interleave"]
    weights: dict[str, float]
    rrf_k: float = 60.0
    origin: Literal["tuned", "set", "even"] = "tuned"
    head: int = 0
    tail: dict[str, float] | None = None

    def blend(self, candidates: pl.DataFrame, k: int) -> pl.DataFrame:
        """Join candidates into a table of retriever "blend", best first, ties by item id.

        Args:
            candidates: rows of one or more retrievers; those without a weight are left out.
            k: candidates a query.
        """
        return self.best(self.contributions(candidates), k)

    def best(self, parts: Contributions, k: int) -> pl.DataFrame:
        """Weigh and join what `contributions` returns; see `blend`."""
        score = self.score(parts.values, parts.query)
        order = _best_first(score, parts.query)
        rank = _places_in_query(parts.query)
        kept = rank <= k
        best = order[kept]
        return (
            parts.numbers.frame(parts.pair[best])
            .with_columns(
                rank=pl.Series(rank[kept]).cast(pl.UInt32),
                score=pl.Series(score[best]),
                retriever=pl.lit("blend"),
            )
            .select(*CANDIDATES.columns)
        )

    def score(self, values: np.ndarray, query: np.ndarray) -> np.ndarray:
        """Weigh contributions and make one score of those of an item: float32 of shape (n,).

        Args:
            values: shape (n, retrievers), retrievers sorted by name.
            query: what they are of, ascending, shape (n,).
        """
        score = self._join(values, self.weights)
        if self.tail is None or not len(query):
            return score
        of_tail = self._join(values, self.tail)
        in_head = np.empty(len(query), bool)
        in_head[_best_first(score, query)] = _places_in_query(query) <= self.head
        starts = np.flatnonzero(np.diff(query, prepend=-1))
        least = np.minimum.reduceat(np.where(in_head, score, np.inf), starts)
        most = np.maximum.reduceat(np.where(in_head, -np.inf, of_tail), starts)
        each = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(query)))
        below = np.nextafter(least.astype(np.float32), np.float32(-np.inf))[each]
        return np.where(in_head, score, below + (of_tail - most.astype(np.float32)[each]))

    def among(self, names: Sequence[str]) -> Self:
        """Return the fusion of some of the retrievers, as they weigh beside each other here."""
        tail = None if self.tail is None else {name: self.tail[name] for name in names}
        return replace(self, weights={name: self.weights[name] for name in names}, tail=tail)

    def _join(self, values: np.ndarray, weights: dict[str, float]) -> np.ndarray:
        weighed = [
            values[:, place] * max(weights[name], _LEAST)
            for place, name in enumerate(sorted(weights))
        ]
        reduce = np.maximum.reduce if self.method == "interleave" else np.add.reduce
        return reduce(weighed, axis=0).astype(np.float32)

    def contributions(self, candidates: pl.DataFrame) -> Contributions:
        """Say what each retriever adds to each item of a query, before weights are applied."""
        names = sorted(self.weights)
        known = candidates.filter(pl.col("retriever").is_in(names))
        numbers = PairNumbers(known)
        number, retriever = numbers.of(known), rows_of(known["retriever"], pl.Series(names))
        pair = pl.Series(number).unique().sort().to_numpy()
        values = np.full((len(pair), len(names)), np.nan)
        added = self._added(known, numbers.rows(number)[0] * len(names) + retriever, retriever)
        values[np.searchsorted(pair, number), retriever] = added
        query, _ = numbers.rows(pair)
        if self.method == "weighted":
            values = _as_the_last(values, query)
        return Contributions(numbers, pair, query, np.nan_to_num(values, copy=False))

    def _added(self, known: pl.DataFrame, each: np.ndarray, retriever: np.ndarray) -> np.ndarray:
        """What candidates add, shape (n,); `each` numbers the lists that they stand in."""
        rank = known["rank"].to_numpy().astype(np.float64)
        if self.method == "rrf":
            return 1.0 / (self.rrf_k + rank)
        if self.method == "interleave":
            # Of lists that are due at once the first by name goes first.
            return (1 - 1e-6 * retriever) / (rank - 0.5)
        rows = pl.DataFrame({"each": each, "score": known["score"].cast(pl.Float64)})
        score = pl.col("score")
        lists = rows.group_by("each").agg(mean=score.mean(), spread=score.std(ddof=0)).sort("each")
        place = np.searchsorted(lists["each"].to_numpy(), each)
        mean, spread = (lists[name].to_numpy()[place] for name in ("mean", "spread"))
        return np.where(spread > 0, (rows["score"].to_numpy() - mean) / (spread + (spread == 0)), 0)

    def save(self, path: Path) -> None:
        """Write as JSON."""
        write_json(path, asdict(self))

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


def figures_of(
    fusions: Sequence[Fusion],
    parts: Contributions,
    targets: pl.DataFrame,
    depth: int,
    cut: int = 10,
) -> tuple[np.ndarray, np.ndarray]:
    """Mean NDCG at `cut`, and mean recall at `depth`, of each fusion; both of shape (fusions,).

    Args:
        fusions: of one method and of the same retrievers.
        parts: what `Fusion.contributions` of one of them returns.
        targets: query_id, item_id of every target of every query, found or not.
        depth: candidates that are kept.
        cut: candidates that are shown.
    """
    truths = targets.group_by("query_id").len("truths")
    held_truths = np.ones(len(parts.numbers.query_ids) + 1)
    row = rows_of(truths["query_id"], parts.numbers.query_ids)
    held_truths[row] = truths["truths"].to_numpy()
    gains = np.cumsum(1 / np.log2(np.arange(2, cut + 2)))
    is_target = places(parts.pair, np.sort(parts.numbers.of(targets))) >= 0
    has_hit = np.zeros(len(parts.numbers.query_ids), bool)
    has_hit[parts.query[is_target]] = True
    judged = has_hit[parts.query]
    query, values = parts.query[judged], parts.values[judged]
    hits = np.flatnonzero(is_target[judged])
    starts = np.searchsorted(query, query[hits], side="left")
    ends = np.searchsorted(query, query[hits], side="right")
    of_query = held_truths[query[hits]]
    gain = 1 / gains[np.minimum(of_query, cut).astype(np.int64) - 1]
    held = ends - starts
    first = np.cumsum(held) - held
    rows = np.arange(held.sum()) - np.repeat(first - starts, held)
    target = np.repeat(hits, held)
    # Pairs of a query ascend by item id, so an equal score above the target is a smaller id.
    earlier = rows < target

    def figures(fusion: Fusion) -> tuple[float, float]:
        score = fusion.score(values, query)
        own, other = score[target], score[rows]
        ahead = (other > own) | (earlier & (other == own))
        ranks = 1 + np.add.reduceat(ahead, first, dtype=np.int64) if len(hits) else hits
        shown = np.where(ranks <= cut, gain / np.log2(ranks + 1), 0.0)
        found = np.where(ranks <= depth, 1 / of_query, 0.0)
        return float(shown.sum() / truths.height), float(found.sum() / truths.height)

    ndcg, recall = np.array(list(side_by_side(figures, fusions))).T
    return ndcg, recall


def _best_first(score: np.ndarray, query: np.ndarray) -> np.ndarray:
    """Return the order of pairs by query, which ascends, then score; equals stay as they are."""
    pairs = pl.DataFrame({"query": query, "score": score}).with_row_index("row")
    ranked = pairs.sort(["query", "score"], descending=[False, True], maintain_order=True)
    return ranked["row"].to_numpy()


def _places_in_query(query: np.ndarray) -> np.ndarray:
    """Count within each query, which ascends: 1, 2, ... of shape (n,)."""
    return np.arange(1, len(query) + 1) - np.searchsorted(query, query)


def _as_the_last(values: np.ndarray, query: np.ndarray) -> np.ndarray:
    """Let what a retriever did not find, NaN, stand with its last of the query, shape (n, r).

    What scores all alike still tells what it found from what it did not: that stands one lower.
    """
    if not len(query):
        return values
    starts = np.flatnonzero(np.diff(query, prepend=-1))
    low, high = (end.reduceat(values, starts, axis=0) for end in (np.fmin, np.fmax))
    last = np.where(high > low, low, low - 1)
    return np.where(
        np.isnan(values), np.repeat(last, np.diff(starts, append=len(query)), 0), values
    )
