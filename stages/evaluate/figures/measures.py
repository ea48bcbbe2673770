"""What each query got from each system, and what becomes of it: the content of `metrics/*.json`."""

from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import Any

import polars as pl

from stages.core import metrics
from stages.evaluate.figures.intervals import Bootstrap, Figures, PerQuery
from stages.evaluate.figures.slices import SLICES

BLEND = "blend"
LEARNED = ("item_knn", "als", "two_tower", "content")
"""Retrievers of histories that must be better than what is popular, to be worth their while."""
BASELINES = ("bm25", "popular")
"""Of these the first that runs is what the others are held against."""
BEST_BY = ("recall@10", "recall@100")
"""A retriever that is best by one of these on valid is what the blend is held against."""
ATTRIBUTED = ("ndcg@3", "ndcg@5", "ndcg@10", "map", "mrr")
COVERED = 10
"""Places of a list whose coverage is reported beside that of the whole list."""

Measured = dict[str, dict[str, pl.DataFrame]]
"""By split, by system: one row a query, sorted."""

SLICED = {"retrieval": ("recall@10", "recall@100", "mrr"), "ranking": ("ndcg@5", "mrr")}


def covered(lists: pl.DataFrame, catalogue: int) -> Figures:
    """Return the coverage of the lists and of their first ten places; a count has no interval.

    Args:
        lists: item_id, rank.
        catalogue: items that there are.
    """
    values = {
        "coverage": metrics.coverage(lists, catalogue),
        f"coverage@{COVERED}": metrics.coverage(lists.filter(pl.col("rank") <= COVERED), catalogue),
    }
    return {name: dict.fromkeys(("mean", "low", "high"), value) for name, value in values.items()}


def by_system(figures: dict[str, dict[str, Figures]]) -> dict[str, dict[str, Figures]]:
    """Return {system: {split: figures}} of {split: {system: figures}}; empty figures go."""
    turned: dict[str, dict[str, Figures]] = {}
    for split, systems in figures.items():
        for system, found in systems.items():
            if found:
                turned.setdefault(system, {})[split] = found
    return turned


def ranking_figures(
    lists: pl.DataFrame, queries: pl.DataFrame, measured: pl.DataFrame, bootstrap: Bootstrap
) -> Figures:
    """Return the figures of one ranker on one split's queries.

    End to end, a target that retrieval missed counting 0: ndcg@k, map, mrr (means over queries),
    auc and average_precision (over all examples together), gauc (over users, weighted by their
    impressions; a query of nobody known is a user of its own). And `<metric>_given_retrieved`,
    the means over those queries that have a target in their list.

    Args:
        lists: (query_id, item_id, score).
        queries: query_id, user_id, targets.
        measured: `metrics.ranking_metrics` of them.
        bootstrap: how intervals are made.
    """
    known = queries.with_columns(user=pl.coalesce("user_id", "query_id"))
    users = metrics.group_auc(lists, known.select("query_id", "targets", "user"), ["user"])
    found = measured.filter(pl.col("mrr") > 0)
    given = bootstrap.of({"given": found})["given"]
    return (
        bootstrap.of({"all": measured})["all"]
        | bootstrap.pooled(lists, queries)
        | bootstrap.weighted(users.select("impressions", gauc="auc"), "impressions")
        | {f"{metric}_given_retrieved": interval for metric, interval in given.items()}
    )


def retriever_pairs(names: Iterable[str], valid: PerQuery) -> list[tuple[str, str]]:
    """Return which retrievers are compared, on every split the same.

    Each with the baseline, the tuned encoder with the base one, and the blend with the best single
    retrievers, by recall@10 on valid and, as rankers read the list to its end, by recall@100.
    """
    single = [name for name in names if name != BLEND]
    baseline = next((name for name in BASELINES if name in single), None)
    pairs = [(name, baseline) for name in single if baseline and name != baseline]
    if {"dense", "dense_base"} <= set(single):
        pairs.append(("dense", "dense_base"))
    best = [
        max(single, key=lambda name: (valid[name][metric].mean() or 0.0, name))
        for metric in BEST_BY
    ]
    opponents = sorted({*best, *([baseline] if baseline else [])})
    return pairs + [(BLEND, name) for name in opponents]


def ranker_pairs(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return which rankers are compared: each with the unranked blend, and with each other."""
    rankers = [name for name in names if name != BLEND]
    return [(name, BLEND) for name in rankers] + list(combinations(rankers, 2))


def best_alone(alone: Mapping[str, PerQuery]) -> str:
    """Return the retriever of largest NDCG@10 on valid, what rankers are held against.

    Args:
        alone: `metrics.ranking_metrics` of each retriever's own list, by split.
    """

    def on_valid(name: str) -> float:
        return float(alone["valid"][name].select(pl.col("ndcg@10").mean().fill_null(0.0)).item())

    return max(sorted(alone["valid"]), key=on_valid)


def slice_figures(
    slices: pl.DataFrame, measured: Mapping[str, PerQuery], bootstrap: Bootstrap
) -> dict[str, Any]:
    """Return {slice: {"queries": count, "retrieval": figures, "ranking": figures}} of a split.

    Where popular runs, `over_popular` holds the paired differences of the learned retrievers.

    Args:
        slices: the result of `slices_of`.
        measured: {"retrieval": frames by retriever, "ranking": frames by ranker}.
        bootstrap: how intervals are made.
    """
    found: dict[str, Any] = {}
    for name in SLICES:
        rows = slices[name]
        found[name] = {"queries": int(rows.sum())}
        for kind, frames in measured.items():
            inside = {system: frame.filter(rows) for system, frame in frames.items()}
            found[name][kind] = bootstrap.of(inside, SLICED[kind])
            pairs = [(system, "popular") for system in LEARNED if system in inside]
            if "popular" in inside and pairs:
                found[name]["over_popular"] = bootstrap.differences(inside, pairs, SLICED[kind])
    return found


def attribution(
    ranked: PerQuery, ceiling: pl.DataFrame, retrieved: PerQuery, bootstrap: Bootstrap
) -> dict[str, Any]:
    """Return where what is missing to a perfect answer was lost, on one split.

    Returns:
        `rankers`: {ranker: {metric: achieved, lost_by_ranking, lost_by_retrieval}}; the three
        means add up to 1. What retrieval lost is 1 less the metric of the best order of the
        candidates, what ranking lost is that less what was achieved.
        `retrieval`: shares of queries with a target among the candidates of any retriever
        (`found_by_any`), among those that the blend kept (`found_by_blend`), and the difference.
    """
    rankers: dict[str, dict[str, Figures]] = {}
    for name, frame in ranked.items():
        parts = {
            metric: pl.DataFrame(
                {
                    "achieved": frame[metric],
                    "lost_by_ranking": ceiling[metric] - frame[metric],
                    "lost_by_retrieval": 1 - ceiling[metric],
                }
            )
            for metric in ATTRIBUTED
        }
        rankers[name] = bootstrap.of(parts)
    single = [frame for name, frame in retrieved.items() if name != BLEND]
    some = pl.DataFrame({str(number): frame["mrr"] > 0 for number, frame in enumerate(single)})
    found = pl.DataFrame(
        {
            "found_by_any": some.select(pl.any_horizontal(pl.all())).to_series().cast(pl.Float64),
            "found_by_blend": (retrieved[BLEND]["mrr"] > 0).cast(pl.Float64),
        }
    ).with_columns(lost_by_blend=pl.col("found_by_any") - pl.col("found_by_blend"))
    return {"rankers": rankers, "retrieval": bootstrap.of({"all": found})["all"]}


def rank_slice(retrieved: Mapping[str, PerQuery], bootstrap: Bootstrap) -> dict[str, Any]:
    """Return {retriever: {metric: {"rank", "valid", "excess"}}}: is the rank slice too easy?

    Candidates of the rank slice teach the rankers. Were a retriever fitted on what it answers
    there, its recall would be higher than on valid, beyond what chance explains.
    """
    found: dict[str, Any] = {}
    for name, frames in retrieved.items():
        own: dict[str, Any] = {}
        for metric in ("recall@10", "recall@100"):
            excess = bootstrap.excess(frames["rank"][metric], frames["valid"][metric])
            if excess is not None:
                sides = {
                    side: bootstrap.of({side: frames[side]}, [metric])[side][metric]
                    for side in ("rank", "valid")
                }
                own[metric] = {**sides, "excess": excess}
        found[name] = own
    return found
