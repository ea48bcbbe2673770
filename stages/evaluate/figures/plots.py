"""The data behind the charts of `dvc plots`."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from stages.core import metrics
from stages.core.storage import atomic_file
from stages.evaluate.figures.intervals import Figures


def recall_curve(retrieval: dict[str, dict[str, Figures]]) -> pl.DataFrame:
    """Return retriever, split, k, recall, low, high: the curve that `dvc plots` draws."""
    rows = [
        (retriever, split, k, figures[name]["mean"], figures[name]["low"], figures[name]["high"])
        for retriever, splits in retrieval.items()
        for split, figures in splits.items()
        for k in metrics.DEPTHS
        if (name := f"recall@{k}") in figures
    ]
    names = ["retriever", "split", "k", "recall", "low", "high"]
    return pl.DataFrame(rows, names, orient="row")


def ranking_bars(ranking: dict[str, dict[str, Figures]]) -> pl.DataFrame:
    """Return ranker, split, metric, mean, low, high: the bars that `dvc plots` draws."""
    rows = [
        (ranker, split, metric, interval["mean"], interval["low"], interval["high"])
        for ranker, splits in ranking.items()
        for split, figures in splits.items()
        for metric, interval in figures.items()
    ]
    names = ["ranker", "split", "metric", "mean", "low", "high"]
    return pl.DataFrame(rows, names, orient="row")


def towers_curve(retrievers: Path, names: Sequence[str]) -> pl.DataFrame:
    """Return epoch, step, loss and mrr of training the two towers of window train.

    There are no rows where they are not among the retrievers, and no mrr where no users were held
    out (`fit.two_tower.patience`).

    Args:
        retrievers: folder of what was fitted, where a retriever that is no longer named may lie.
        names: the retrievers.
    """
    schema = {"epoch": pl.Int64, "step": pl.Int64, "loss": pl.Float64, "mrr": pl.Float64}
    if "two_tower" not in names:
        return pl.DataFrame(schema=schema)
    curve = retrievers / "two_tower" / "train" / "curve.csv"
    return pl.read_csv(curve, schema_overrides=schema).select(*schema)


def write_csv(frame: pl.DataFrame, path: Path) -> None:
    """Write a plot's data, six places."""
    with atomic_file(path) as temporary:
        frame.with_columns(pl.selectors.float().round(6)).write_csv(temporary)
