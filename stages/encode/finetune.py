"""Finetune: pairs of window `fit` in, a tuned encoder out: the base, where tuning did not help."""

import shutil
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from stages.core import files, tables
from stages.core.checkpoints import FINETUNE
from stages.core.determinism import seed_everything
from stages.core.log import get_logger, run
from stages.core.params import Params, load_params
from stages.core.storage import atomic_file, atomic_folder, read_json, write_json
from stages.core.store import content_hash
from stages.encode.encoders import CachedEncoder, is_described
from stages.encode.encoders.cached import DESCRIPTION
from stages.encode.tuning.gate import (
    GATE_METRIC,
    compare,
    gains,
    recall_at_10,
    sample_for_evaluation,
    with_target_row,
)
from stages.encode.tuning.saving import save_tuned

log = get_logger(__name__)


def _train(
    params: Params,
    pairs: pl.DataFrame,
    queries: pl.DataFrame,
    documents: pl.DataFrame,
    checkpoints: Path,
) -> tuple[Any, list[dict[str, float]]] | None:
    """Return the model, tuned, and its curve; None in all processes but the first of several."""
    from accelerate import PartialState

    from stages.encode.encoders.sentence_transformers import load_model
    from stages.encode.tuning.training import train

    tuning, seed = params.finetune, params.seed
    seed_everything(seed)
    model = load_model(params.encoder)
    drawn, corpus = sample_for_evaluation(queries, documents, tuning.eval_queries, seed)
    points = train(
        model, pairs, tuning, seed, lambda m: recall_at_10(m, drawn, corpus), checkpoints
    )
    return (model, points) if PartialState().is_main_process else None


def _keep_base(base_folder: Path, model_folder: Path) -> None:
    with atomic_folder(model_folder) as folder:
        shutil.copytree(base_folder, folder, dirs_exist_ok=True)


def _write_curve(path: Path, points: list[dict[str, float]]) -> None:
    schema = {"step": pl.Int64, "loss": pl.Float64, "recall": pl.Float64}
    with atomic_file(path) as temporary:
        pl.DataFrame(points, schema=schema).write_csv(temporary, float_precision=6)


def main(
    params_file: Annotated[Path, typer.Option("--params")] = files.PARAMS,
    pairs_file: Path = files.PAIRS,
    queries_file: Path = files.QUERIES,
    documents_file: Path = files.DOCUMENTS,
    base_folder: Path = files.BASE_MODEL,
    model_folder: Path = files.TUNED_MODEL,
    metrics_file: Path = files.METRICS / "finetune.json",
    curve_file: Path = files.PLOTS / "finetune.csv",
    store: Path = files.VECTOR_STORE,
) -> None:
    """Tune the base encoder on pairs; keep the result only if it is better on valid, paired."""
    params = load_params(params_file)
    pairs = tables.read(pairs_file, tables.PAIRS)
    documents = tables.read(documents_file, tables.DOCUMENTS).filter(window="train")
    valid = tables.read(queries_file, tables.QUERIES).filter(split="valid")
    queries = with_target_row(valid, documents)
    enabled = params.finetune.enabled
    if not enabled or pairs.height < 4 or queries.is_empty():
        kept = "base" if is_described(base_folder) else "none"
        log.info("%d pairs, enabled: %s; encoder kept: %s", pairs.height, enabled, kept)
        _keep_base(base_folder, model_folder)
        write_json(metrics_file, {"kept": kept, "pairs": pairs.height, "steps": 0})
        _write_curve(curve_file, [])
        return
    about = [read_json(base_folder / DESCRIPTION), params.finetune.model_dump(mode="json")]
    encoder = params.encoder.model_dump(mode="json")
    identity = content_hash(pairs.hash_rows().sum(), encoder, *about, params.seed)
    checkpoints = store.parent / FINETUNE / identity
    log.info(
        "%d pairs, %d valid queries; checkpoints %s", pairs.height, queries.height, checkpoints
    )
    trained = _train(params, pairs, queries, documents, checkpoints)
    if trained is None:
        return
    model, points = trained
    candidate = checkpoints / "tuned"
    tuned = save_tuned(model, params.encoder, candidate)
    before = gains(CachedEncoder(base_folder, store), queries, documents)
    after = gains(CachedEncoder(tuned, store), queries, documents)
    compared = compare(before, after, params.evaluate, params.seed)
    if compared["kept"] == "tuned":
        with atomic_folder(model_folder) as folder:
            shutil.copytree(candidate, folder, dirs_exist_ok=True)
    else:
        _keep_base(base_folder, model_folder)
    steps = int(points[-1]["step"]) if points else 0
    counts = {"pairs": pairs.height, "queries": queries.height, "steps": steps}
    write_json(metrics_file, compared | counts | {"window": "fit"})
    _write_curve(curve_file, points)
    shutil.rmtree(checkpoints)
    log.info(
        "valid %s: base %.4f, tuned %.4f; kept %s",
        GATE_METRIC,
        before.mean(),
        after.mean(),
        compared["kept"],
    )


if __name__ == "__main__":
    run(main)
