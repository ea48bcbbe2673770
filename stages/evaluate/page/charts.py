"""Charts as inline SVG: the same figures give the same bytes, and no reader needs a network."""

import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import polars as pl
from markupsafe import Markup

from stages.core.metrics import DEPTHS, Interval

_PALETTE = ("#cc79a7", "#5f9ea0", "#b0413e", "#7a8b2e")
_FIXED = {
    "blend": "#1f2933",
    "bm25": "#0072b2",
    "dense_base": "#56b4e9",
    "dense": "#e69f00",
    "sparse": "#9467bd",
    "multi_vector": "#a3566c",
    "popular": "#8c6d31",
    "item_knn": "#5d6dbe",
    "lightgbm": "#009e73",
    "xgboost": "#d55e00",
}
_INK, _FAINT, _GRID = "#1f2933", "#6b7785", "#e4e8ec"
_GOOD, _BAD, _OPEN = "#008060", "#c0392b", "#8a949e"
_WIDTH = 5.2
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "winnow",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.edgecolor": _GRID,
    "axes.labelcolor": _FAINT,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "xtick.color": _FAINT,
    "ytick.color": _FAINT,
    "text.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}


def colours(names: Iterable[str]) -> dict[str, str]:
    """Return a colour for each name, the same in every chart for those that are known."""
    rest = iter(_PALETTE * 10)
    return {name: _FIXED.get(name) or next(rest) for name in names}


def called(metric: str) -> str:
    """Return a metric's name as it is written: NDCG@5, Recall@10."""
    name, at, depth = metric.partition("@")
    short = {"ndcg", "map", "mrr", "auc", "gauc"}
    written = name.upper() if name in short else name.replace("_", " ").capitalize()
    return written + at + depth


def recall_curve(retrieval: Mapping[str, Any], split: str, names: Sequence[str]) -> Markup:
    """Draw recall@k on one split by retriever, the interval as a band."""
    with _canvas(3.1) as (figure, axis):
        for name, colour in colours(names).items():
            figures = retrieval[name].get(split, {})
            rows = [(k, figures[f"recall@{k}"]) for k in DEPTHS if f"recall@{k}" in figures]
            if not rows:
                continue
            ks = [k for k, _ in rows]
            low, mid, high = ([r[side] for _, r in rows] for side in ("low", "mean", "high"))
            axis.fill_between(ks, low, high, color=colour, alpha=0.15, linewidth=0)
            width = 2.2 if name == "blend" else 1.5
            axis.plot(ks, mid, color=colour, marker="o", ms=3.5, lw=width, label=name)
        axis.set_xscale("log")
        axis.set_xticks(DEPTHS, [str(k) for k in DEPTHS])
        axis.minorticks_off()
        axis.set_ylim(0, 1.02)
        axis.set_ylabel("Recall@k")
        axis.set_xlabel("k")
        _legend(figure)
        return _svg(figure, f"recall-{split}", f"Recall at k of each retriever on {split}")


def ranking_bars(
    ranking: Mapping[str, Any], split: str, shown: Sequence[str], names: Sequence[str]
) -> Markup:
    """Draw one group of bars a metric, one bar a ranker, with intervals."""
    with _canvas(3.1) as (figure, axis):
        width = 0.8 / len(names)
        for place, (name, colour) in enumerate(colours(names).items()):
            rows = [ranking[name].get(split, {}).get(metric) for metric in shown]
            at = [i + (place - (len(names) - 1) / 2) * width for i, r in enumerate(rows) if r]
            known = [r for r in rows if r]
            axis.bar(
                at,
                [r["mean"] for r in known],
                width * 0.9,
                yerr=_whiskers(known),
                color=colour,
                label=name,
                error_kw={"elinewidth": 1, "capsize": 2, "ecolor": _FAINT},
            )
        axis.set_xticks(range(len(shown)), [called(metric) for metric in shown])
        axis.grid(axis="x", visible=False)
        _legend(figure)
        return _svg(figure, "ranking", f"Ranking metrics of each ranker on {split}")


def forest(differences: dict[str, Interval], name: str, label: str) -> Markup:
    """Draw differences with their intervals around zero: green above, red below, grey across."""
    with _canvas(0.9 + 0.27 * len(differences)) as (figure, axis):
        for place, interval in enumerate(reversed(differences.values())):
            colour = _GOOD if interval["low"] > 0 else _BAD if interval["high"] < 0 else _OPEN
            axis.plot([interval["low"], interval["high"]], [place, place], color=colour, lw=2)
            axis.plot([interval["mean"]], [place], "o", color=colour, ms=5)
        axis.axvline(0, color=_INK, lw=0.8)
        axis.set_yticks(range(len(differences)), list(reversed(differences)), color=_INK)
        axis.grid(axis="y", visible=False)
        axis.set_ylim(-0.7, len(differences) - 0.3)
        axis.set_xlabel(label)
        return _svg(figure, name, label)


def dots(rows: dict[str, dict[str, Interval]], name: str, label: str) -> Markup:
    """Draw one line a row, one dot a system, with intervals: for slices."""
    systems = list(dict.fromkeys(system for row in rows.values() for system in row))
    with _canvas(1.0 + 0.42 * len(rows)) as (figure, axis):
        step = 0.6 / max(len(systems), 1)
        for place, (system, colour) in enumerate(colours(systems).items()):
            for line, row in enumerate(reversed(rows.values())):
                if system not in row:
                    continue
                y = line + ((len(systems) - 1) / 2 - place) * step
                interval = row[system]
                axis.plot([interval["low"], interval["high"]], [y, y], color=colour, lw=1.5)
                label_of = system if line == len(rows) - 1 else None
                axis.plot([interval["mean"]], [y], "o", color=colour, ms=4, label=label_of)
        axis.set_yticks(range(len(rows)), list(reversed(rows)), color=_INK)
        axis.grid(axis="y", visible=False)
        axis.set_ylim(-0.6, len(rows) - 0.4)
        axis.set_xlim(left=0)
        axis.set_xlabel(label)
        _legend(figure)
        return _svg(figure, name, label)


def losses(rankers: dict[str, Any], metric: str) -> Markup:
    """Draw one stacked bar a ranker: achieved, lost by ranking, lost by retrieval."""
    parts = {
        "achieved": _GOOD,
        "lost_by_ranking": "#e9a03b",
        "lost_by_retrieval": "#c3cad1",
    }
    with _canvas(1.2 + 0.42 * len(rankers)) as (figure, axis):
        for line, name in enumerate(reversed(rankers)):
            left = 0.0
            for part, colour in parts.items():
                mean = max(rankers[name][metric][part]["mean"], 0.0)
                label = part.replace("_", " ") if line == 0 else None
                axis.barh(line, mean, 0.62, left=left, color=colour, label=label)
                if mean > 0.06:
                    ink = "white" if part == "achieved" else _INK
                    at = left + mean / 2
                    axis.text(at, line, f"{mean:.3f}", ha="center", va="center", color=ink)
                left += mean
        axis.set_yticks(range(len(rankers)), list(reversed(rankers)), color=_INK)
        axis.set_xlim(0, 1)
        axis.grid(visible=False)
        axis.set_xlabel(f"{called(metric)}, out of 1")
        _legend(figure)
        return _svg(figure, "losses", f"What {metric} was lost to")


def importance(gains: pl.DataFrame, name: str, shown: int = 15) -> Markup:
    """Draw the features of largest gain, as a share of all gain."""
    total = gains["gain"].sum() or 1.0
    top = gains.sort("gain", "feature", descending=[True, False]).head(shown).reverse()
    with _canvas(0.7 + 0.23 * top.height) as (figure, axis):
        axis.barh(top["feature"].to_list(), [gain / total for gain in top["gain"]], color="#56b4e9")
        axis.tick_params(axis="y", colors=_INK)
        axis.grid(axis="y", visible=False)
        axis.set_xlabel("share of gain")
        return _svg(figure, f"importance-{name}", f"Feature importance of {name}")


def finetune_curve(points: pl.DataFrame) -> Markup:
    """Draw loss and validation recall by step; the columns are step, loss, recall."""
    title = "Loss and recall while fine-tuning"
    return _training(points, "finetune", title, "recall", "Recall@10 on valid")


def towers_curve(points: pl.DataFrame) -> Markup:
    """Draw loss and, where users were held out, their MRR by step; the columns are so named."""
    title = "Loss of the two towers while training"
    return _training(points, "two-tower", title, "mrr", "MRR of held-out users")


def _training(points: pl.DataFrame, name: str, title: str, measured: str, label: str) -> Markup:
    """Draw loss by step and, on an axis of its own, what was measured on the way, if anything."""
    with _canvas(2.6) as (figure, axis):
        lines = [(axis, "loss", "loss", _BAD)]
        if points[measured].count():
            lines.append((axis.twinx(), measured, label, _GOOD))
        for side, column, called_so, colour in lines:
            known = points.drop_nulls(column)
            xs, ys = known["step"].to_list(), known[column].to_list()
            side.plot(xs, ys, color=colour, lw=1.5, marker="o", ms=3)
            side.set_ylabel(called_so, color=colour)
            side.axhline(0, lw=0)
            side.set_ylim(bottom=0)
            side.grid(visible=side is axis)
        axis.set_xlabel("step")
        return _svg(figure, name, title)


def _whiskers(rows: Sequence[Interval]) -> list[list[float]]:
    below = [max(row["mean"] - row["low"], 0.0) for row in rows]
    return [below, [max(row["high"] - row["mean"], 0.0) for row in rows]]


def _legend(figure: Any) -> None:
    figure.legend(fontsize=8, loc="outside upper center", ncols=4, handlelength=1.4)


@contextmanager
def _canvas(height: float) -> Iterator[tuple[Any, Any]]:
    """Yield a figure of the page's width and style, and its axes; the height is in inches."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        yield figure, figure.subplots()


def _svg(figure: Any, name: str, title: str) -> Markup:
    """Return the figure as an <svg> element whose ids no other chart of the page has."""
    buffer = io.StringIO()
    metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(buffer, format="svg", metadata=metadata)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'((?:xlink:)?href="#|url\(#)', rf"\g<1>{name}-", text)
    text = re.sub(r'<svg([^>]*?) width="[^"]*"', r"<svg\1", text, count=1)
    text = re.sub(r'<svg([^>]*?) height="[^"]*"', r"<svg\1", text, count=1)
    label = Markup.escape(title)
    return Markup(text.replace("<svg", f'<svg role="img" aria-label="{label}"', 1))
