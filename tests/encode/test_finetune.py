"""The stage finetune, whole: what is learned is kept, what did not help is not."""

import logging
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

from stages.core import tables
from stages.core.log import UserError
from stages.core.params import Encoder
from stages.core.storage import read_json
from stages.encode import base
from stages.encode import finetune as stage
from stages.encode.encoders import CachedEncoder, load_encoder
from stages.encode.tuning.gate import reciprocal_gain, target_ranks
from stages.evaluate.checks.learning import check_encoder
from stages.evaluate.page import content
from tests.encode.tiny_models import described, settings
from tests.encode.tuning.test_training import ASKED, FOUND, finetune, pairs


def queries(split: str = "valid") -> pl.DataFrame:
    return pl.DataFrame(
        [
            {
                "query_id": f"q{n}",
                "user_id": None,
                "timestamp": datetime(2023, 1, 1, tzinfo=UTC),
                "text": word,
                "history": [],
                "targets": [f"i{n}"],
                "split": split,
            }
            for n, word in enumerate(ASKED)
        ],
        tables.QUERIES.columns,
    )


def documents() -> pl.DataFrame:
    """The ten passages, and thirty that nobody asks for."""
    others = [f"{sort} {word}" for sort in ("wood", "metal", "loud") for word in FOUND]
    return pl.DataFrame(
        [
            {"window": window, "item_id": f"i{n:02d}" if n > 9 else f"i{n}", "text": text}
            for window in tables.WINDOWS
            for n, text in enumerate([*FOUND, *others])
        ],
        tables.DOCUMENTS.columns,
    )


FILES = {
    "--params": "params.yaml",
    "--pairs-file": "pairs.parquet",
    "--queries-file": "queries.parquet",
    "--documents-file": "documents.parquet",
    "--base-folder": "base",
    "--model-folder": "tuned",
    "--metrics-file": "metrics.json",
    "--curve-file": "curve.csv",
    "--store": "store/vectors.sqlite",
}


def prepare(
    folder: Path, params: Encoder, rows: pl.DataFrame | None = None, **changes: Any
) -> None:
    tables.write(pairs() if rows is None else rows, folder / "pairs.parquet", tables.PAIRS)
    tables.write(queries(), folder / "queries.parquet", tables.QUERIES)
    tables.write(documents(), folder / "documents.parquet", tables.DOCUMENTS)
    described(folder / "base", params)
    chosen = {
        "seed": 5,
        "encoder": params.model_dump(mode="json"),
        "evaluate": {"bootstrap": 100},
        "finetune": finetune(**changes).model_dump(mode="json"),
    }
    (folder / "params.yaml").write_text(yaml.safe_dump(chosen))


def run(folder: Path, params: Encoder, rows: pl.DataFrame | None = None, **changes: Any) -> Any:
    """Run the stage on the toy task; return its metrics."""
    prepare(folder, params, rows, **changes)
    stage.main(*(folder / name for name in FILES.values()))
    return read_json(folder / "metrics.json")


def hash_of(folder: Path) -> str:
    return load_encoder(folder).model_hash


def test_tuning_that_helps_is_kept(bert: Path, tmp_path: Path) -> None:
    metrics = run(tmp_path, settings(bert))
    assert metrics["kept"] == "tuned"
    assert metrics["difference"]["low"] > 0
    gain = metrics["tuned"]["mean"] - metrics["base"]["mean"]
    assert metrics["difference"]["mean"] == pytest.approx(gain, abs=1e-5)
    assert (metrics["pairs"], metrics["queries"], metrics["window"]) == (40, 10, "fit")
    assert hash_of(tmp_path / "tuned") != hash_of(tmp_path / "base")

    # The folder is whole: it answers from elsewhere, as it did for the gate.
    moved = (tmp_path / "tuned").rename(tmp_path / "moved")
    encoder = CachedEncoder(moved)
    known = documents().filter(window="train")["text"].to_list()
    asked, known = encoder.encode(ASKED, "query").dense, encoder.encode(known, "document").dense
    ranks = target_ranks(asked, known, np.arange(10))
    assert reciprocal_gain(ranks).mean() == pytest.approx(metrics["tuned"]["mean"], abs=1e-6)

    curve = pl.read_csv(tmp_path / "curve.csv")
    assert curve.columns == ["step", "loss", "recall"]
    assert curve["step"].to_list()[-1] == metrics["steps"]
    assert not any((tmp_path / "store" / "finetune").iterdir())


def test_tuning_that_does_not_help_is_not_kept(bert: Path, tmp_path: Path) -> None:
    metrics = run(tmp_path, settings(bert), lr=1e-12, epochs=1.0)
    assert metrics["kept"] == "base"
    assert metrics["steps"] > 0
    assert metrics["difference"] == {"mean": 0, "low": 0, "high": 0}
    assert metrics["tuned"] == metrics["base"]
    assert hash_of(tmp_path / "tuned") == hash_of(tmp_path / "base")


def test_disabled_is_the_base(bert: Path, tmp_path: Path) -> None:
    assert run(tmp_path, settings(bert), enabled=False) == {"kept": "base", "pairs": 40, "steps": 0}
    assert hash_of(tmp_path / "tuned") == hash_of(tmp_path / "base")
    assert pl.read_csv(tmp_path / "curve.csv").is_empty()


def test_without_an_encoder_there_is_none_to_tune(bert: Path, tmp_path: Path) -> None:
    prepare(tmp_path, settings(bert), enabled=False)
    chosen = yaml.safe_load((tmp_path / "params.yaml").read_text())
    chosen |= {"encoder": {"kind": "none"}, "retrievers": ["bm25"]}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(chosen))
    base.main(tmp_path / "params.yaml", tmp_path / "base")
    stage.main(*(tmp_path / name for name in FILES.values()))
    metrics = read_json(tmp_path / "metrics.json")
    assert metrics == {"kept": "none", "pairs": 40, "steps": 0}
    with pytest.raises(UserError, match=r"encoder\.kind is none"):
        load_encoder(tmp_path / "tuned")
    assert check_encoder(metrics, pairs()).message == "There is no encoder."
    assert content.gate(metrics) == ""


@pytest.mark.parametrize("rows", [pairs(3), pairs(users=1)], ids=["three pairs", "one user"])
def test_too_little_to_learn_from_is_the_base(
    rows: pl.DataFrame, bert: Path, tmp_path: Path
) -> None:
    metrics = run(tmp_path, settings(bert), rows)
    assert (metrics["kept"], metrics["steps"]) == ("base", 0)


def test_bge_m3_is_tuned_by_its_dense_output_and_keeps_the_base_s_heads(
    bge_m3: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    params = settings(bge_m3, kind="bge_m3", multi_vector=True)
    winnow = logging.getLogger("winnow")
    winnow.addHandler(caplog.handler)
    try:
        metrics = run(tmp_path, params, lr=5e-3, epochs=8.0)
    finally:
        winnow.removeHandler(caplog.handler)
    assert metrics["kept"] == "tuned"
    assert "colbert_linear.pt, sparse_linear.pt are the base's, untuned" in caplog.text
    told = read_json(tmp_path / "tuned" / "encoder.json")
    assert told["heads"] == "the base's, untuned"
    for head in ("colbert_linear.pt", "sparse_linear.pt"):
        assert (tmp_path / "tuned" / head).read_bytes() == (bge_m3 / head).read_bytes()

    # What `dense` reads of it, and what it gives as somebody's base.
    asked = ["harp of wood"]
    tuned = load_encoder(tmp_path / "tuned").encode(asked, "query", multi=True)
    assert tuned.sparse is not None
    assert tuned.multi is None
    moved = settings(tmp_path / "tuned", kind="bge_m3", multi_vector=True)
    found = load_encoder(moved).encode(asked, "query", multi=True)
    untuned = load_encoder(params).encode(asked, "query", multi=True)
    assert found.dense.tobytes() == tuned.dense.tobytes() != untuned.dense.tobytes()
    assert found.sparse == tuned.sparse
    assert found.sparse is not None
    assert untuned.sparse is not None
    assert found.sparse[0].keys() == untuned.sparse[0].keys()
    assert found.multi is not None
    assert untuned.multi is not None
    assert found.multi[0].shape == untuned.multi[0].shape


@pytest.mark.slow
def test_two_processes_train_one_model(bert: Path, tmp_path: Path) -> None:
    """As `finetune.launcher: accelerate launch --num_processes 2` starts them, on the CPU."""
    prepare(tmp_path, settings(bert))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    options = [text for option, name in FILES.items() for text in (option, str(tmp_path / name))]
    done = subprocess.run(
        [sys.executable, *launcher, "-m", "stages.encode.finetune", *options],
        cwd=Path(__file__).parent.parent.parent,
        env=os.environ
        | {"ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    metrics = read_json(tmp_path / "metrics.json")
    assert metrics["kept"] == "tuned"
    # Seven batches an epoch, two at once.
    assert metrics["steps"] == 3 * (7 // 2)
    assert hash_of(tmp_path / "tuned") != hash_of(tmp_path / "base")
