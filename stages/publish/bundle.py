"""Bundle: retrievers, fusion, features and the best ranker in, one self-contained folder out."""

import platform
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from stages.core import files, tables
from stages.core.log import get_logger, run
from stages.core.params import RankerName, load_params
from stages.core.storage import atomic_folder, read_json
from stages.publish.serving.manifest import write_manifest

log = get_logger(__name__)

LIBRARIES = (
    "torch",
    "sentence-transformers",
    "transformers",
    "bm25s",
    "faiss-cpu",
    "chromadb",
    "lightgbm",
    "xgboost",
    "polars",
    "numpy",
    "scipy",
)
METRIC = "ndcg@5"


def best_ranker(ranking: dict[str, Any], names: list[RankerName]) -> RankerName:
    """The ranker of largest NDCG@5 on valid; among equals the first named."""
    return max(names, key=lambda name: (ranking[name]["valid"][METRIC]["mean"], -names.index(name)))


def test_figures(report: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """The figures of the test split by name."""
    return {name: report[name]["test"] for name in names}


def newest(events: pl.DataFrame, count: int) -> pl.DataFrame:
    """Return user_id, sorted, and history: a user's newest moments of the whole log, oldest first.

    What a user did tells nothing about others, so held-out parts are in it: it is what a query of
    now brings.

    Args:
        events: user_id, item_id, timestamp.
        count: moments of a user at the most.
    """
    ordered = events.sort("user_id", "timestamp", "item_id")
    kept = ordered.filter(
        pl.col("timestamp").rank("dense", descending=True).over("user_id") <= count
    )
    return kept.group_by("user_id", maintain_order=True).agg(
        history=pl.struct("item_id", "timestamp")
    )


def git_revision() -> str:
    """The code's git revision, "+changes" behind it where files differ; "unknown" outside git."""
    try:
        head = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--", "stages", "service.py", "params.yaml"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("+changes" if changed else "")


def main(
    params_file: Annotated[Path, typer.Option("--params")] = files.PARAMS,
    items_file: Path = files.ITEMS,
    events_file: Path = files.SPLIT_EVENTS,
    retrievers_folder: Path = files.RETRIEVERS,
    blend_model: Path = files.BLEND_MODEL,
    features_folder: Path = files.FEATURES_MODEL,
    rankers_folder: Path = files.RANKERS,
    metrics_folder: Path = files.METRICS,
    bundle_folder: Path = files.BUNDLE,
) -> None:
    """Copy what answers a request into one folder, of window `train`, with a manifest."""
    params = load_params(params_file)
    retrieval = read_json(metrics_folder / "retrieval.json")
    ranking = read_json(metrics_folder / "ranking.json")
    chosen = params.bundle.ranker
    ranker = best_ranker(ranking, params.rankers) if chosen == "best" else chosen
    items = tables.read(items_file, tables.ITEMS, columns=["item_id", "title"])
    events = tables.read(events_file, tables.SPLIT_EVENTS, ["user_id", "item_id", "timestamp"])
    with atomic_folder(bundle_folder) as folder:
        items.write_parquet(folder / "items.parquet")
        users = newest(events, params.bundle.max_history)
        users.cast({"history": tables.HISTORY}).write_parquet(folder / "users.parquet")
        for name in params.retrievers:
            for needed in ("train", "encoder", "parts"):
                if (retrievers_folder / name / needed).exists():
                    _copy(retrievers_folder / name / needed, folder / "retrievers" / name / needed)
        shutil.copyfile(blend_model, folder / "blend.json")
        _copy(features_folder / "train", folder / "features")
        _copy(rankers_folder / ranker, folder / "ranker")
        manifest = write_manifest(
            folder,
            retrievers=params.retrievers,
            ranker=ranker,
            top_k=params.candidates.top_k,
            max_query_chars=params.bundle.max_query_chars,
            max_top_k=min(params.bundle.max_top_k, params.candidates.top_k),
            recipe=params.model_dump(mode="json"),
            revision=git_revision(),
            metrics={
                "retrieval": test_figures(retrieval, [*params.retrievers, "blend"]),
                "ranking": test_figures(ranking, ["blend", *params.rankers]),
            },
            versions={"python": platform.python_version()} | {n: version(n) for n in LIBRARIES},
        )
    log.info("bundle %s: %s, ranker %s", manifest.bundle_id, ", ".join(params.retrievers), ranker)


def _copy(source: Path, target: Path) -> None:
    """Copy a folder's contents without the read-only marks of DVC's cache."""
    shutil.copytree(source, target, copy_function=shutil.copyfile)


if __name__ == "__main__":
    run(main)
