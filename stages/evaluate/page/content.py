"""What the page says: headlines, tables and charts, from the figures of the metrics files."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import polars as pl
from markupsafe import Markup

from stages.core.metrics import Interval
from stages.evaluate.page import charts

_BARS = ("ndcg@3", "ndcg@5", "ndcg@10", "map", "mrr")
_RETRIEVAL_COLUMNS = (
    "recall@1",
    "recall@5",
    "recall@10",
    "recall@20",
    "recall@50",
    "recall@100",
    "mrr",
    "ndcg",
    "coverage",
)
_RANKING_COLUMNS = (*_BARS, "auc", "average_precision", "gauc")
_HEADLINE = "ndcg@5"
_JOINS = {
    "rrf": "by reciprocal ranks",
    "weighted": "by standardised scores",
    "interleave": "by taking from the lists in turn",
}
_ORIGIN = {
    "tuned": "were tuned on valid",
    "set": "were set by hand",
    "even": "are even, as there was no valid query to tune them on",
}
_ENOUGH = 30
"""Queries of a slice, at the least, for a word on it."""


@dataclass(frozen=True)
class Tile:
    """One headline figure."""

    value: str
    interval: str
    label: str
    note: str


@dataclass(frozen=True)
class Grid:
    """A table of figures: a row a system, a cell its mean and interval."""

    caption: str
    columns: list[str]
    rows: list[tuple[str, list[tuple[str, str]]]]


def best_ranker(ranking: Mapping[str, Any]) -> str:
    """Return the ranker of largest NDCG@5 on valid, `blend` when there is no other."""
    names = sorted(name for name in ranking if name != "blend")

    def on_valid(name: str) -> float:
        return float(ranking[name].get("valid", {}).get(_HEADLINE, {}).get("mean", 0.0))

    return max(names, key=on_valid, default="blend")


def sentence(
    ranking: Mapping[str, Any],
    comparisons: Mapping[str, Any],
    attribution: Mapping[str, Any],
    asked: str,
) -> str:
    """Say in words how good the recommender is on test, and how sure that is.

    Args:
        ranking: figures of rankers and the blend.
        comparisons: of each with the baseline, by split.
        attribution: what was lost where, by split.
        asked: what test asks, in words.
    """
    best = best_ranker(ranking)
    figure = ranking[best].get("test", {}).get(_HEADLINE)
    if figure is None:
        return "There are no test queries, so nothing can be said."
    parts = attribution["test"]["rankers"][best][_HEADLINE]
    words = [
        f"On {asked}, {best} reaches an NDCG@5 of "
        f"{figure['mean']:.3f} ({_range(figure)}), where 1 puts the chosen item first every time."
    ]
    change = comparisons["test"]["ranking"].get(f"{best}_vs_blend", {}).get(_HEADLINE)
    if change is not None:
        words.append(
            f"That is {_verdict(change)} the order in which retrieval gave its candidates."
        )
    words.append(
        f"Of what is missing, {parts['lost_by_retrieval']['mean']:.3f} is retrieval not finding "
        f"the item and {parts['lost_by_ranking']['mean']:.3f} is ranking it too low."
    )
    return " ".join(words)


def tiles(
    retrieval: Mapping[str, Any], ranking: Mapping[str, Any], comparisons: Mapping[str, Any]
) -> list[Tile]:
    """Return the headline figures on test."""
    best = best_ranker(ranking)
    blend = retrieval["blend"].get("test", {})
    ranked = ranking[best].get("test", {})
    compared = comparisons["test"]["retrieval"]
    other = "popular" if "blend_vs_popular" in compared else "bm25"
    found = compared.get(f"blend_vs_{other}", {})
    baseline = {"bm25": "BM25", "popular": "what is popular"}[other]
    against = comparisons["test"]["ranking"].get(f"{best}_vs_blend", {})
    wanted = [
        (ranked, _HEADLINE, f"NDCG@5, {best}", against.get(_HEADLINE), "the blend"),
        (ranked, "mrr", f"MRR, {best}", against.get("mrr"), "the blend"),
        (blend, "recall@10", "Recall@10, retrieval", found.get("recall@10"), baseline),
        (blend, "recall@100", "Recall@100, retrieval", found.get("recall@100"), baseline),
    ]
    return [
        Tile(
            f"{figures[metric]['mean']:.3f}",
            _range(figures[metric]),
            label,
            f"{_number(change['mean'], '+')} on {other} ({_range(change, '+')})" if change else "",
        )
        for figures, metric, label, change, other in wanted
        if metric in figures
    ]


def tables(retrieval: Mapping[str, Any], ranking: Mapping[str, Any]) -> dict[str, list[Grid]]:
    """Return every figure, a grid a split."""
    wanted = (
        ("retrieval", retrieval, _RETRIEVAL_COLUMNS, ("test", "valid", "rank")),
        ("ranking", ranking, _RANKING_COLUMNS, ("test", "valid")),
    )
    return {
        kind: [
            Grid(
                split,
                [charts.called(column) for column in columns],
                [
                    (name, [_cell(figures.get(split, {}).get(column)) for column in columns])
                    for name, figures in _blend_last(systems)
                    if split in figures
                ],
            )
            for split in splits
        ]
        for kind, systems, columns, splits in wanted
    }


def figures(
    retrieval: Mapping[str, Any],
    ranking: Mapping[str, Any],
    comparisons: Mapping[str, Any],
    slices: Mapping[str, Any],
    attribution: Mapping[str, Any],
) -> dict[str, Markup]:
    """Return the charts that every run has, on test but for the recall curves."""
    retrievers = [name for name, _ in _blend_last(retrieval)]
    rankers = ["blend", *(name for name in sorted(ranking) if name != "blend")]
    compared = comparisons["test"]
    drawn = {
        "recall_test": charts.recall_curve(retrieval, "test", retrievers),
        "recall_valid": charts.recall_curve(retrieval, "valid", retrievers),
        "ranking": charts.ranking_bars(ranking, "test", _BARS, rankers),
    }
    for kind, metric in (("retrieval", "recall@10"), ("ranking", _HEADLINE)):
        rows = {
            name.replace("_vs_", " − "): found[metric]
            for name, found in compared[kind].items()
            if metric in found
        }
        if rows:
            drawn[f"forest_{kind}"] = charts.forest(
                rows, f"forest-{kind}", f"difference in {charts.called(metric)} on test"
            )
    lost = {name: attribution["test"]["rankers"][name] for name in rankers}
    if all(_HEADLINE in found for found in lost.values()):
        drawn["losses"] = charts.losses(lost, _HEADLINE)
    for kind, metric, systems in (
        ("retrieval", "recall@10", retrievers),
        ("ranking", _HEADLINE, rankers),
    ):
        lines = {
            f"{name.replace('_', ' ')} ({found['queries']})": {
                system: found[kind][system][metric]
                for system in systems
                if metric in found[kind].get(system, {})
            }
            for name, found in slices["test"].items()
            if found["queries"]
        }
        if lines:
            drawn[f"slices_{kind}"] = charts.dots(
                lines, f"slices-{kind}", f"{charts.called(metric)} on test"
            )
    return drawn


def shortcomings(slices: Mapping[str, Any], comparisons: Mapping[str, Any]) -> list[str]:
    """Say of which retrievers it is not sure that they are worth their while, on test.

    A learned one must beat popular for users that are known, one that finds new items for these
    too, and the blend must not be worse than its best part, at the top or in the depth that rankers
    read. A handful of queries tells neither.
    """
    said = []
    for name, about, systems in (
        ("warm_users", "users that are known", None),
        ("cold_items", "items that are new", ("two_tower", "content")),
    ):
        if slices[name]["queries"] < _ENOUGH:
            continue
        for pair, figures in slices[name].get("over_popular", {}).items():
            system, change = pair.removesuffix("_vs_popular"), figures.get("recall@10")
            if change is None or change["low"] > 0 or (systems and system not in systems):
                continue
            said.append(
                f"{system} is not surely better than popular for {about}: Recall@10 "
                f"{_number(change['mean'], '+')} ({_range(change, '+')})."
            )
    for pair, figures in comparisons["retrieval"].items():
        for metric in ("recall@10", "recall@100"):
            change = figures.get(metric)
            if pair.startswith("blend_vs_") and change is not None and change["high"] < 0:
                said.append(
                    f"The blend is surely worse than {pair.removeprefix('blend_vs_')}: "
                    f"{charts.called(metric)} {_number(change['mean'], '+')} "
                    f"({_range(change, '+')})."
                )
    return said


def blend_in_words(fusion: Mapping[str, Any]) -> str:
    """Say how the blend joins, by which weights, and whether these were set or tuned.

    Args:
        fusion: what `blend` wrote.
    """
    joins, origin = _JOINS[fusion["method"]], _ORIGIN[fusion["origin"]]
    said = f"The blend joins {joins}; its weights {origin}: {_weights(fusion['weights'])}."
    if fusion["tail"] is None:
        return said
    return (
        f"{said} From rank {fusion['head'] + 1} on they are those that found most on valid: "
        f"{_weights(fusion['tail'])}."
    )


def _weights(of: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {weight:g}" for name, weight in sorted(of.items()))


def asked(cuts: Mapping[str, Any]) -> str:
    """Return in words what test asks.

    Args:
        cuts: what `split` wrote.
    """
    if cuts["method"] == "leave_last_out":
        return "each user's last event"
    of = " of their shop" if "parts" in cuts else ""
    return f"queries later than everything it learned from{of}"


def split_in_words(cuts: Mapping[str, Any]) -> str | None:
    """Return what a reader must know of a split that is not one cut in time; none of one that is.

    Args:
        cuts: what `split` wrote.
    """
    if "parts" in cuts:
        shops = ", ".join(
            f"{name} at {datetime.fromtimestamp(own['train_end_ms'] / 1000, UTC):%Y-%m-%d}"
            for name, own in cuts["parts"].items()
        )
        return (
            f"Each shop is cut in its own time (end of train: {shops}). What is fitted on all of "
            "them together has seen what came later in another shop, of other users and items."
        )
    if cuts["method"] != "leave_last_out":
        return None
    if not cuts["timed"]:
        return (
            "This is no split by time: the data has no times, and what is held out of each user "
            "was drawn at random."
        )
    return (
        "This is no split by time: each user's last events are held out, and what answers has "
        "learned from what others did after the question."
    )


def honest(rank_slice: Mapping[str, Any]) -> Markup | None:
    """Return the chart of recall on rank beside valid; none when either has no queries."""
    rows = {
        name: {side: found["recall@10"][side] for side in ("rank", "valid")}
        for name, found in _blend_last(rank_slice)
        if "recall@10" in found
    }
    return charts.dots(rows, "rank-slice", "Recall@10") if rows else None


def learned(
    importances: Mapping[str, pl.DataFrame], points: pl.DataFrame, towers: pl.DataFrame
) -> dict[str, Markup]:
    """Return the charts of what was learned: importance by ranker, the curves of training."""
    drawn = {
        f"importance_{name}": charts.importance(gains, name)
        for name, gains in importances.items()
        if not gains.is_empty()
    }
    if not points.is_empty():
        drawn["finetune"] = charts.finetune_curve(points)
    if not towers.is_empty():
        drawn["two_tower"] = charts.towers_curve(towers)
    return drawn


def counts(value: Any) -> list[tuple[str, str]]:
    """Return the numbers and words of a nested metrics file as (name, value), in its order."""
    return [(" · ".join(path).replace("_", " "), text) for path, text in _leaves(value, ())]


def gate(finetune: Mapping[str, Any]) -> str:
    """Say what the gate of fine-tuning decided, and why."""
    if not finetune:
        return ""
    change = finetune.get("difference")
    if finetune.get("kept") == "none":
        return ""
    if change is None:
        return f"Nothing was tuned; the {finetune.get('kept', 'base')} encoder answers."
    metric = charts.called(str(finetune.get("metric", "its metric")))
    return (
        f"On valid the tuned encoder is {_verdict(change)} the base one by {metric}; "
        f"the {finetune['kept']} encoder answers."
    )


def _verdict(change: Interval) -> str:
    if change["low"] > 0:
        return f"better by {_number(change['mean'])} ({_range(change)}) than"
    if change["high"] < 0:
        span = f"{_number(-change['high'])} to {_number(-change['low'])}"
        return f"worse by {_number(-change['mean'])} ({span}) than"
    span = f"{_number(change['mean'], '+')}, {_range(change, '+')}"
    return f"not surely different ({span}) from"


def _range(interval: Interval, sign: str = "") -> str:
    return f"{_number(interval['low'], sign)} to {_number(interval['high'], sign)}"


def _number(value: float, sign: str = "") -> str:
    return f"{value:{sign}.3f}".replace("-", "\N{MINUS SIGN}")


def _cell(interval: Interval | None) -> tuple[str, str]:
    if interval is None:
        return "", ""
    spread = "" if interval["low"] == interval["high"] else _range(interval)
    return f"{interval['mean']:.3f}", spread


def _blend_last(systems: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return sorted(systems.items(), key=lambda entry: (entry[0] == "blend", entry[0]))


def _leaves(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, (*path, str(key)))
    elif isinstance(value, bool) or value is None:
        yield path, str(value).lower()
    elif isinstance(value, int | float):
        yield path, f"{value:,}"
    elif isinstance(value, list):
        yield path, ", ".join(str(inner) for inner in value)
    else:
        yield path, str(value)
