"""Finetune: pairs of window `fit` in, a tuned encoder out: the base, where tuning did not help."""

import shutil
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from stages.core import files, tables
from stages.core.determinism import seed_everything
from stages.core.log import get_logger, run
from stages.core.metrics import interval, paired_difference
from stages.core.params import Encoder, load_params
from stages.core.storage import atomic_file, atomic_folder, read_json, write_json
from stages.core.store import content_hash
from stages.encode.encoders import CachedEncoder, describe, load_encoder
from stages.encode.encoders.cached import DESCRIPTION
from stages.encode.tuning.gate import (
    GATE_METRIC,
    gains,
    recall_at_10,
    sample_for_evaluation,
    with_target_row,
)

log = get_logger(__name__)


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
    tuning, base, seed = params.finetune, params.encoder, params.seed
    pairs = tables.read(pairs_file, tables.PAIRS)
    documents = tables.read(documents_file, tables.DOCUMENTS).filter(window="train")
    valid = tables.read(queries_file, tables.QUERIES).filter(split="valid")
    queries = with_target_row(valid, documents)
    if not tuning.enabled or pairs.height < 4 or queries.is_empty():
        log.info("%d pairs, enabled: %s; the base encoder is kept", pairs.height, tuning.enabled)
        _keep_base(base_folder, model_folder)
        write_json(metrics_file, {"kept": "base", "pairs": pairs.height, "steps": 0})
        _write_curve(curve_file, [])
        return

    from accelerate import PartialState

    from stages.encode.encoders.sentence_transformers import load_model
    from stages.encode.tuning.training import train

    seed_everything(seed)
    model = load_model(base)
    drawn, corpus = sample_for_evaluation(queries, documents, tuning.eval_queries, seed)
    about = [read_json(base_folder / DESCRIPTION), tuning.model_dump(mode="json")]
    identity = content_hash(pairs.hash_rows().sum(), base.model_dump(mode="json"), *about, seed)
    checkpoints = store.parent / "finetune" / identity
    log.info(
        "%d pairs, %d valid queries; checkpoints %s", pairs.height, queries.height, checkpoints
    )
    points = train(
        model, pairs, tuning, seed, lambda m: recall_at_10(m, drawn, corpus), checkpoints
    )
    if not PartialState().is_main_process:
        return

    candidate = checkpoints / "tuned"
    shutil.rmtree(candidate, ignore_errors=True)
    model.save(str(candidate), create_model_card=False)
    description = Encoder(
        **base.model_dump(exclude={"kind", "model", "multi_vector"}),
        kind="bge_m3" if base.kind == "bge_m3" else "sentence_transformers",
        model=".",
    )
    heads = _keep_heads(base, candidate)
    loaded = load_encoder(description.model_copy(update={"model": str(candidate)}))
    describe(candidate, description, loaded.model_hash, **heads)
    before = gains(CachedEncoder(base_folder, store), queries, documents)
    after = gains(CachedEncoder(candidate, store), queries, documents)
    settings: dict[str, Any] = {
        "resamples": params.evaluate.bootstrap,
        "level": params.evaluate.level,
        "seed": seed,
    }
    difference = paired_difference(after, before, **settings)
    kept = "tuned" if difference["low"] > 0 else "base"
    if kept == "tuned":
        with atomic_folder(model_folder) as folder:
            shutil.copytree(candidate, folder, dirs_exist_ok=True)
    else:
        _keep_base(base_folder, model_folder)
    write_json(
        metrics_file,
        {
            "base": interval(before, **settings),
            "difference": difference,
            "kept": kept,
            "metric": GATE_METRIC,
            "pairs": pairs.height,
            "queries": queries.height,
            "steps": int(points[-1]["step"]) if points else 0,
            "tuned": interval(after, **settings),
            "window": "fit",
        },
    )
    _write_curve(curve_file, points)
    shutil.rmtree(checkpoints)
    log.info(
        "valid %s: base %.4f, tuned %.4f; kept %s", GATE_METRIC, before.mean(), after.mean(), kept
    )


def _keep_base(base_folder: Path, model_folder: Path) -> None:
    with atomic_folder(model_folder) as folder:
        shutil.copytree(base_folder, folder, dirs_exist_ok=True)


def _keep_heads(base: Encoder, candidate: Path) -> dict[str, str]:
    """Put the base's heads beside tuned weights of BGE-M3, and return what is to be said of them.

    The loss reads the dense vector alone, so the layers behind lexical weights and vectors a token
    are not trained; they read hidden states that training has moved.
    """
    if base.kind != "bge_m3":
        return {}
    from stages.encode.encoders.bge_m3 import HEADS, folder_of

    published = folder_of(base)
    for name in HEADS:
        shutil.copyfile(published / name, candidate / name)
    log.info("the dense output is tuned; the heads %s are the base's, untuned", ", ".join(HEADS))
    return {"heads": "the base's, untuned"}


def _write_curve(path: Path, points: list[dict[str, float]]) -> None:
    schema = {"step": pl.Int64, "loss": pl.Float64, "recall": pl.Float64}
    with atomic_file(path) as temporary:
        pl.DataFrame(points, schema=schema).write_csv(temporary, float_precision=6)


if __name__ == "__main__":
    run(main)
