"""Metrics of retrieval and ranking, one row a query, and their bootstrap intervals.

Conventions, shared by all metrics here:

* Relevance is binary: an item is one of the query's targets or it is not.
* A list is ordered by score descending, then item_id ascending, so a tie has one outcome.
* A target that is not in the list counts 0 and stays in the mean: figures are end to end. A query
  with no list at all is a query that found nothing.
* A list shorter than k is a list whose further places hold nothing relevant.
* A query without targets has no answer to find: its metrics are null, and means leave it out.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import polars as pl

DEPTHS = (1, 5, 10, 20, 50, 100)
"""Depths of recall."""

CUTOFFS = (3, 5, 10)
"""Depths of NDCG for rankers."""

RETRIEVAL = (*(f"recall@{k}" for k in DEPTHS), "mrr", "ndcg")
"""Columns of `retrieval_metrics`."""

RANKING = (*(f"ndcg@{k}" for k in CUTOFFS), "map", "mrr")
"""Columns of `ranking_metrics`."""

POOLED = ("auc", "average_precision")
"""Keys of `pooled_metrics`."""

Interval = dict[str, float]
Floats = npt.NDArray[np.float64]

_CELLS = 4_000_000
"""Resampled queries held in memory at once."""
_KEPT = 32_000_000
"""Resampled queries, of one byte each, that are kept for the next figure."""


# Lists -------------------------------------------------------------------------------------------


def order(lists: pl.DataFrame) -> pl.DataFrame:
    """Return (query_id, item_id, score, position), best first; positions of a query count from 1.

    Args:
        lists: (query_id, item_id, score), in any order; other columns are dropped.
    """
    return (
        lists.select("query_id", "item_id", "score")
        .sort("query_id", "score", "item_id", descending=[False, True, False])
        .with_columns(position=pl.int_range(1, pl.len() + 1, dtype=pl.UInt32).over("query_id"))
    )


def hits(lists: pl.DataFrame, queries: pl.DataFrame) -> pl.DataFrame:
    """Return one row a query, sorted by query_id: where its targets stand in its list.

    Only the lists that hold a target are put in order.

    Args:
        lists: (query_id, item_id, score); queries that are not in `queries` are left out.
        queries: (query_id, targets).

    Returns:
        query_id, `targets` (how many there are, each once) and `positions` (of those in the list,
        from 1, ascending; empty when none is).
    """
    wanted = queries.select("query_id", pl.col("targets").list.unique())
    targets = wanted.explode("targets", empty_as_null=False).rename({"targets": "item_id"})
    rows = lists.select("query_id", "item_id", "score")
    found = rows.select("query_id", "item_id").join(targets, on=["query_id", "item_id"])
    positions = (
        order(rows.join(found, on="query_id", how="semi"))
        .join(found, on=["query_id", "item_id"])
        .group_by("query_id")
        .agg(positions=pl.col("position").sort())
    )
    return (
        wanted.select("query_id", targets=pl.col("targets").list.len())
        .sort("query_id")
        .join(positions, on="query_id", how="left", maintain_order="left")
        .with_columns(pl.col("positions").fill_null(pl.lit([], pl.List(pl.UInt32))))
    )


# Metrics of a query ------------------------------------------------------------------------------


def retrieval_metrics(
    lists: pl.DataFrame, queries: pl.DataFrame, depths: Sequence[int] = DEPTHS
) -> pl.DataFrame:
    """Return recall@k for each depth, mrr and ndcg of each query, sorted by query_id.

    * recall@k = targets among the first k / targets.
    * mrr = 1 / position of the first target (Voorhees, TREC-8, 1999), over the whole list.
    * ndcg = DCG / ideal DCG over the whole list, gain 1 / log2(1 + position) (Järvelin and
      Kekäläinen, 2002, with the discount of Burges et al., 2005); the ideal has all targets first.

    Args:
        lists: (query_id, item_id, score).
        queries: (query_id, targets).
        depths: the ks.
    """
    return retrieval_of(hits(lists, queries), depths)


def retrieval_of(rows: pl.DataFrame, depths: Sequence[int] = DEPTHS) -> pl.DataFrame:
    """Return `retrieval_metrics` by what `hits` found."""
    return _metrics_of(
        rows,
        [_recall(k).alias(f"recall@{k}") for k in depths]
        + [_reciprocal_rank().alias("mrr"), _ndcg(None).alias("ndcg")],
    )


def ranking_metrics(
    lists: pl.DataFrame, queries: pl.DataFrame, cutoffs: Sequence[int] = CUTOFFS
) -> pl.DataFrame:
    """Return ndcg@k for each cut-off, map and mrr of each query, sorted by query_id.

    * ndcg@k as in `retrieval_metrics`, list and ideal cut after k places.
    * map = mean over the targets of the precision at the target's position, 0 for one that is not
      in the list: the average precision of the query, whose mean is MAP.

    Args:
        lists: (query_id, item_id, score).
        queries: (query_id, targets).
        cutoffs: the ks.
    """
    return ranking_of(hits(lists, queries), cutoffs)


def ranking_of(rows: pl.DataFrame, cutoffs: Sequence[int] = CUTOFFS) -> pl.DataFrame:
    """Return `ranking_metrics` by what `hits` found."""
    return _metrics_of(
        rows,
        [_ndcg(k).alias(f"ndcg@{k}") for k in cutoffs]
        + [_average_precision().alias("map"), _reciprocal_rank().alias("mrr")],
    )


def ranking_ceiling(
    lists: pl.DataFrame, queries: pl.DataFrame, cutoffs: Sequence[int] = CUTOFFS
) -> pl.DataFrame:
    """Return `ranking_metrics` of the best order of each list: targets that are in it come first.

    What is missing to 1 was lost by retrieval; what a ranker has less than this, by ranking.
    """
    rows = hits(lists, queries).with_columns(
        positions=pl.int_ranges(1, pl.col("positions").list.len() + 1, dtype=pl.UInt32)
    )
    return ranking_of(rows, cutoffs)


def coverage(lists: pl.DataFrame, catalogue: int) -> float:
    """Return the share of the catalogue that stands in some list (Ge et al., 2010); 0 for none."""
    return lists["item_id"].n_unique() / catalogue if catalogue else 0.0


# AUC: of groups and of all examples --------------------------------------------------------------


def group_auc(
    lists: pl.DataFrame, queries: pl.DataFrame, group: Sequence[str] = ("query_id",)
) -> pl.DataFrame:
    """Return (group columns, auc, impressions), sorted, for groups that can have an AUC.

    The AUC is the share of (target, other) pairs of the group in which the target has the higher
    score, a tie counting one half; a target that is in no list loses all its pairs. A group
    without a target, or whose lists hold nothing but targets, has none and is left out.
    The mean of `auc` weighted by `impressions` is GAUC (Zhu et al., "Optimized Cost per Click in
    Taobao Display Advertising", 2017, equation 13).

    Args:
        lists: (query_id, item_id, score).
        queries: (query_id, targets, and the group columns, never null).
        group: what is a group: a query, or its user.
    """
    wanted = queries.with_columns(pl.col("targets").list.unique())
    examples = labelled(lists, wanted).with_columns(
        standing=pl.col("score").rank("average").over(*group)
    )
    positives = wanted.group_by(*group).agg(targets=pl.col("targets").list.len().sum())
    return (
        examples.group_by(*group)
        .agg(
            impressions=pl.len(),
            found=pl.col("relevance").sum().cast(pl.Int64),
            standings=pl.col("standing").filter(pl.col("relevance") == 1).sum(),
        )
        .join(positives, on=list(group))
        .with_columns(others=pl.col("impressions") - pl.col("found"))
        .filter(pl.col("others") > 0, pl.col("targets") > 0)
        .select(
            *group,
            auc=(pl.col("standings") - pl.col("found") * (pl.col("found") + 1) / 2)
            / (pl.col("targets") * pl.col("others")),
            impressions=pl.col("impressions"),
        )
        .sort(group)
    )


def labelled(lists: pl.DataFrame, queries: pl.DataFrame) -> pl.DataFrame:
    """Return the lists of `queries` with the queries' columns and `relevance`, 1 for a target."""
    columns = ["query_id", "item_id", "score"]
    return (
        lists.select(columns)
        .join(queries, on="query_id", maintain_order="left")
        .with_columns(relevance=pl.col("targets").list.contains(pl.col("item_id")).cast(pl.Int8))
        .drop("targets")
    )


def pooled_metrics(
    lists: pl.DataFrame, queries: pl.DataFrame, resamples: int, level: float, seed: int
) -> dict[str, Interval]:
    """Return `auc` and `average_precision` over the examples of all queries as one list.

    * auc: share of (target, other) pairs, across queries too, in which the target scores higher,
      ties one half (the Mann-Whitney statistic; Fawcett, 2006, section 7).
    * average_precision: precision at each distinct score, weighted by the share of targets that
      have it. Examples of equal score enter together, so their order does not matter.

    A target that is in no list scores below everything. Intervals resample whole queries
    (a cluster bootstrap), because the examples of a query are not independent.
    Without a target, or with nothing but targets, neither is defined and the result is empty.
    """
    wanted = queries.select("query_id", pl.col("targets").list.unique()).sort("query_id")
    examples = labelled(lists, wanted.with_row_index("query")).sort(
        "score", "query", descending=[True, False]
    )
    label = examples["relevance"].to_numpy().astype(bool)
    if label.all() or not wanted["targets"].list.len().sum():
        return {}
    counts = _Levels(
        examples["score"].to_numpy(),
        label,
        examples["query"].to_numpy(),
        wanted["targets"].list.len().to_numpy().astype(np.float64),
    )
    mean = counts(np.ones((1, wanted.height)))[0]
    draws = np.concatenate([counts(w) for w in resampled(wanted.height, resamples, seed, 32)])
    return dict(zip(POOLED, _summaries(mean, draws, level), strict=True))


class _Levels:
    """Targets and others of each query at, and between, the distinct scores that a target has."""

    def __init__(
        self,
        score: npt.NDArray[np.floating],
        label: npt.NDArray[np.bool_],
        query: npt.NDArray[np.integer],
        targets: Floats,
    ) -> None:
        from scipy.sparse import csr_array

        levels = np.unique(score[label])[::-1]
        # Position of each example among the levels, best first: at one of them or just before it.
        before = np.searchsorted(-levels, -score, side="left")
        tied = (before < len(levels)) & (levels[np.minimum(before, len(levels) - 1)] == score)
        shape = (len(levels), len(targets))

        def counted(rows: npt.NDArray[np.bool_]) -> csr_array:
            rows = rows & (before < len(levels))
            entries = (np.ones(int(rows.sum())), (before[rows], query[rows]))
            return csr_array(entries, shape=shape)

        self.found = counted(label)
        self.above = counted(~label & ~tied)
        self.tied = counted(~label & tied)
        self.targets = targets
        self.others = np.bincount(query[~label], minlength=len(targets)).astype(np.float64)

    def __call__(self, weights: Floats) -> Floats:
        """Return (auc, average_precision) for each row of weights over the queries."""
        found, tied = self.found @ weights.T, self.tied @ weights.T
        passed = np.cumsum(self.above @ weights.T + tied, axis=0)
        targets, others = weights @ self.targets, weights @ self.others
        won = (found * (others - passed + tied / 2)).sum(axis=0)
        seen = np.cumsum(found, axis=0)
        precision = np.divide(seen, seen + passed, out=np.zeros_like(seen), where=seen > 0)
        auc = np.divide(won, targets * others, out=np.full(len(won), np.nan), where=others > 0)
        average = (found * precision).sum(axis=0)
        average = np.divide(average, targets, out=np.full(len(won), np.nan), where=targets > 0)
        return np.stack([auc, average], axis=1)


# Intervals ---------------------------------------------------------------------------------------


def resampled(queries: int, resamples: int, seed: int, rows: int | None = None) -> Iterator[Floats]:
    """Yield blocks (resamples, queries): how often a resample of the queries holds each of them.

    The same arguments give the same resamples, so figures from one set of queries are paired.
    """
    block = max(1, min(rows or resamples, _CELLS // max(queries, 1)))
    draw = _kept_draws if queries * resamples <= _KEPT else _draws
    for counts in draw(queries, resamples, seed, block):
        yield counts.astype(np.float64)


def _draws(queries: int, resamples: int, seed: int, block: int) -> Iterator[npt.NDArray[np.intp]]:
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, block):
        count = min(block, resamples - start)
        drawn = rng.integers(0, queries, size=(count, queries))
        drawn += np.arange(count)[:, None] * queries
        yield np.bincount(drawn.ravel(), minlength=count * queries).reshape(count, queries)


@lru_cache(maxsize=8)
def _kept_draws(
    queries: int, resamples: int, seed: int, block: int
) -> tuple[npt.NDArray[np.uint8 | np.uint32], ...]:
    """Keep small resamples, which many figures of the same queries share."""
    return tuple(
        counts.astype(np.uint8 if counts.max(initial=0) < 256 else np.uint32)
        for counts in _draws(queries, resamples, seed, block)
    )


def intervals(
    values: pl.DataFrame,
    resamples: int,
    level: float,
    seed: int,
    weights: npt.ArrayLike | None = None,
) -> dict[str, Interval]:
    """Return the mean of each column with its percentile bootstrap interval.

    Rows (queries) are drawn with replacement, as many as there are (Efron and Tibshirani, "An
    Introduction to the Bootstrap", 1993, section 13.3). All columns see the same resamples.
    A null is left out of its column's mean; a column that is all null, or has no rows, is left
    out of the result.

    Args:
        values: one row a query, one column a metric.
        resamples: how many resamples.
        level: coverage, such as 0.95.
        seed: of the resamples.
        weights: of the rows in the mean, such as impressions; all the same when absent.
    """
    names = [name for name in values.columns if values[name].count()]
    if not names:
        return {}
    matrix = values.select(pl.col(names).cast(pl.Float64)).fill_null(float("nan")).to_numpy()
    known = ~np.isnan(matrix)
    weight = np.ones(len(matrix)) if weights is None else np.asarray(weights, dtype=np.float64)
    totals = np.where(known, matrix, 0.0) * weight[:, None]
    shares = known * weight[:, None]
    ratio = _ratio_of(totals, shares)
    draws = np.concatenate([ratio(w) for w in resampled(len(matrix), resamples, seed)])
    summaries = _summaries(ratio(np.ones((1, len(matrix))))[0], draws, level)
    return dict(zip(names, summaries, strict=True))


def interval(
    values: npt.ArrayLike,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    weights: npt.ArrayLike | None = None,
) -> Interval:
    """Return `intervals` of one metric: {"mean", "low", "high"}.

    Raises:
        ValueError: there is no value to take a mean of.
    """
    column = pl.DataFrame({"value": np.asarray(values, dtype=np.float64)})
    found = intervals(column.fill_nan(None), resamples, level, seed, weights)
    if not found:
        raise ValueError("no value to take a mean of")
    return found["value"]


def paired_difference(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Return the interval of mean(a - b) for two systems' metrics of the same queries, in order.

    Each resample holds the same queries for both, so what makes a query hard for both cancels.

    Raises:
        ValueError: the lengths differ, or there is no value.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape:
        raise ValueError(f"{first.shape} and {second.shape} queries are not pairs")
    return interval(first - second, resamples, level, seed)


def unpaired_difference(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Return the interval of mean(a) - mean(b) for two different sets of queries.

    The two-sample bootstrap (Efron and Tibshirani, 1993, section 8.3): each set is resampled by
    itself.

    Raises:
        ValueError: one of them is empty.
    """
    samples = [np.asarray(sample, dtype=np.float64) for sample in (a, b)]
    samples = [sample[~np.isnan(sample)] for sample in samples]
    if any(not len(sample) for sample in samples):
        raise ValueError("no value to take a mean of")
    seeds = np.random.SeedSequence(seed).generate_state(2)
    drawn = [
        np.concatenate([w @ sample for w in resampled(len(sample), resamples, int(own))])
        / len(sample)
        for sample, own in zip(samples, seeds, strict=True)
    ]
    mean = np.array([samples[0].mean() - samples[1].mean()])
    return _summaries(mean, (drawn[0] - drawn[1])[:, None], level)[0]


def _ratio_of(totals: Floats, shares: Floats) -> Callable[[Floats], Floats]:
    constant = bool((shares == 1).all())

    def ratio(weights: Floats) -> Floats:
        if constant:
            return np.asarray(weights @ totals / len(totals))
        top, bottom = weights @ totals, weights @ shares
        return np.divide(top, bottom, out=np.full_like(top, np.nan), where=bottom > 0)

    return ratio


def _summaries(means: Floats, draws: Floats, level: float) -> list[Interval]:
    low, high = np.nanquantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return [
        {"mean": float(mean), "low": float(bottom), "high": float(top)}
        for mean, bottom, top in zip(means, low, high, strict=True)
    ]


# Formulas over (targets, positions) --------------------------------------------------------------


def _metrics_of(rows: pl.DataFrame, formulas: list[pl.Expr]) -> pl.DataFrame:
    asked = pl.col("targets") > 0
    return rows.select("query_id", *(pl.when(asked).then(formula) for formula in formulas))


def _recall(k: int) -> pl.Expr:
    found = pl.col("positions").list.eval(pl.element() <= k).list.sum()
    return found / pl.col("targets")


def _reciprocal_rank() -> pl.Expr:
    return (1.0 / pl.col("positions").list.first()).fill_null(0.0)


def _average_precision() -> pl.Expr:
    precision = pl.int_range(1, pl.len() + 1) / pl.element()
    return pl.col("positions").list.eval(precision).list.sum() / pl.col("targets")


def _ndcg(k: int | None) -> pl.Expr:
    gain = (1 / (pl.element() + 1.0).log(2)).cast(pl.Float64)
    if k is None:
        shown, ideal = pl.col("positions"), pl.col("targets")
    else:
        shown = pl.col("positions").list.eval(pl.element().filter(pl.element() <= k))
        ideal = pl.min_horizontal("targets", pl.lit(k, pl.UInt32))
    best = pl.int_ranges(1, ideal + 1).list.eval(gain).list.sum()
    return shown.list.eval(gain).list.sum() / best
