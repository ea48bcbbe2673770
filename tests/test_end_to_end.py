"""The whole pipeline on a small recipe, run as a user runs it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.conftest import ROOT, SMALL, Checkout
from tests.encode import tiny_models

pytestmark = pytest.mark.slow


def table_hashes(checkout: Checkout) -> dict[str, str]:
    """Hash of every parquet table, and folder of tables, that dvc.lock names."""
    lock = yaml.safe_load((checkout.folder / "dvc.lock").read_text())
    return {
        out["path"]: out["md5"]
        for stage in lock["stages"].values()
        for out in stage.get("outs", [])
        if out["path"].endswith(".parquet") or out["path"] in ("data/ingest", "data/split")
    }


def test_second_run_does_nothing(small_run: Checkout) -> None:
    assert "Data and pipelines are up to date" in small_run.run("dvc", "repro")
    assert "Data and pipelines are up to date" in small_run.run("dvc", "status")
    assert small_run.run("git", "status", "--porcelain") == ""


def test_metrics_have_the_shape_that_readers_rely_on(small_run: Checkout) -> None:
    retrieval = json.loads((small_run.folder / "metrics" / "retrieval.json").read_text())
    assert set(retrieval) == {"bm25", "dense_base", "dense", "popular", "two_tower", "blend"}
    figure = retrieval["blend"]["test"]["recall@10"]
    assert set(figure) == {"mean", "low", "high"}
    assert 0 <= figure["low"] <= figure["mean"] <= figure["high"] <= 1
    ranking = json.loads((small_run.folder / "metrics" / "ranking.json").read_text())
    assert set(ranking) == {"lightgbm", "xgboost", "blend"}
    assert (small_run.folder / "report" / "index.html").read_text().startswith("<!doctype html>")


def test_one_parameter_reruns_only_what_depends_on_it(small_run: Checkout) -> None:
    status = small_run.run("dvc", "repro", "--dry", "-q")
    assert status == ""
    params = small_run.folder / "params.yaml"
    written = params.read_text()
    try:
        changed = yaml.safe_load(written)
        changed["train"]["xgboost"]["depth"] = 3
        params.write_text(yaml.safe_dump(changed, sort_keys=False))
        said = small_run.run("dvc", "repro", "--dry")
        run = {line.split("'")[1] for line in said.splitlines() if line.startswith("Running stage")}
        assert run == {"train@xgboost", "bundle"}
    finally:
        params.write_text(written)


def test_experiment_with_one_ranker(small_run: Checkout) -> None:
    small_run.run("dvc", "exp", "run", "-n", "one-ranker", "-S", "rankers=[lightgbm]")
    shown = json.loads(small_run.run("dvc", "exp", "show", "--json").split("\n", 1)[0] or "[]")
    assert shown
    assert set(json.loads((small_run.folder / "metrics/ranking.json").read_text())) == {
        "lightgbm",
        "blend",
    }
    small_run.run("git", "checkout", "-q", "--", ".")
    small_run.run("dvc", "checkout", "-q")


def test_wrong_parameters_are_one_sentence(small_run: Checkout, tmp_path: Path) -> None:
    params = yaml.safe_load((small_run.folder / "params.yaml").read_text())
    params["retrievers"].append("sparse")
    params["split"]["trian"] = 0.7
    wrong = tmp_path / "params.yaml"
    wrong.write_text(yaml.safe_dump(params))
    said = small_run.run(
        sys.executable, "-m", "stages.prepare.split", "--params", str(wrong), check=False
    )
    assert said.startswith("error: ")
    assert "split.trian is no parameter" in said
    assert "Traceback" not in said


RECIPE_BGE_M3 = SMALL | {
    "ingest.source": "sample",
    "keywords.backend": "chunks",
    "summaries.use_llm": False,
    "encoder.batch_size": 8,
    "finetune.epochs": 1.0,
    "finetune.mini_batch_size": 8,
    "finetune.eval_steps": 1000,
    "fit.multi_vector.depth": 20,
}
"""The recipe `bge_m3` on the generated shop, by a model of one layer, without a language model."""
ANSWER = """
from pathlib import Path
from stages.publish.serving.recommender import Recommender, text_queries
bundle = Recommender.load(Path("bundle"))
found = bundle.recommend(text_queries(["guitar for a child"]), 5)
alone = bundle.recommend(text_queries(["guitar for a child"]), 5, "multi_vector")
print(found.height, alone.height, alone["retrieval_score"].is_sorted(descending=True))
"""


def test_the_bge_m3_recipe_on_a_tiny_model(tmp_path: Path) -> None:
    """Every retriever of the recipe is fitted, answers, is blended, ranked, bundled and served."""
    model = tiny_models.bge_m3(tmp_path / "model")
    checkout = Checkout(tmp_path / "run", "bge_m3", RECIPE_BGE_M3 | {"encoder.model": str(model)})
    checkout.run("dvc", "repro")
    params = yaml.safe_load((checkout.folder / "params.yaml").read_text())
    assert {"dense_base", "dense", "sparse", "multi_vector"} < set(params["retrievers"])
    retrieval = json.loads((checkout.folder / "metrics" / "retrieval.json").read_text())
    assert set(retrieval) == {*params["retrievers"], "blend"}
    assert all(retrieval[name]["test"]["coverage@10"]["mean"] > 0 for name in retrieval)
    kept = checkout.folder / "bundle" / "retrievers" / "multi_vector" / "train"
    assert (kept / "token_vectors.npy").stat().st_size > 60 * 16 * 2
    said = checkout.run(sys.executable, "-c", ANSWER).splitlines()
    assert said[0] == "5 5 True"
    assert "Data and pipelines are up to date" in checkout.run("dvc", "repro")


LEAST_KILLS, MOST_KILLS = 20, 80


def killed(checkout: Checkout, after: int, seconds: float) -> tuple[int, str]:
    """Kill `dvc repro` and all it started, so long after it said that so many stages have ended.

    Returns:
        the exit status, 0 where it came to its end before, and what it said.
    """
    process = subprocess.Popen(
        ["dvc", "repro"],
        cwd=checkout.folder,
        env=checkout.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    said, begun = [], 0
    for line in process.stdout:
        said.append(line)
        begun += line.startswith("Running stage")
        if begun > after:
            time.sleep(seconds)
            os.killpg(process.pid, signal.SIGKILL)
            break
    # Ends when nobody holds the other end of the pipe: nothing of the group has stayed.
    said.append(process.stdout.read())
    process.stdout.close()
    return process.wait(), "".join(said)


def mend(checkout: Checkout) -> None:
    """Delete what DVC may have been killed while it wrote; git has no `dvc.lock` yet."""
    for name in (".dvc/tmp/rwlock", "dvc.lock"):
        (checkout.folder / name).unlink(missing_ok=True)


def test_killed_over_and_over_the_tables_are_the_same(small_run: Checkout, tmp_path: Path) -> None:
    """Another checkout, killed amid stages until nothing is left to be done, has equal tables."""
    expected = table_hashes(small_run)
    assert len(expected) > 15
    checkout = Checkout(tmp_path)
    rng = np.random.default_rng(7)
    kills, status = 0, -signal.SIGKILL
    while status and kills < MOST_KILLS:
        status, said = killed(checkout, int(rng.integers(0, 2)), rng.uniform(0, 2.5))
        if status > 0:
            assert "rwlock" in said.lower() or "dvc.lock" in said, said
            mend(checkout)
        kills += status == -signal.SIGKILL
    assert status == 0, said
    assert kills >= LEAST_KILLS
    assert table_hashes(checkout) == expected
    assert "Data and pipelines are up to date" in checkout.run("dvc", "repro")
    made = [checkout.folder / name for name in ("data", "models", "metrics", "plots", "report")]
    assert [left for folder in made for left in folder.rglob(".*.tmp")] == []


def test_what_dvc_was_killed_while_writing_is_put_right_as_the_readme_says(
    small_run: Checkout,
) -> None:
    for name, remedy in (
        (".dvc/tmp/rwlock", ("rm", ".dvc/tmp/rwlock")),
        ("dvc.lock", ("git", "checkout", "dvc.lock")),
    ):
        assert f"`{' '.join(remedy)}`" in " ".join((ROOT / "README.md").read_text().split())
        (small_run.folder / name).write_text("")
        assert name in small_run.run("dvc", "repro", check=False)
        small_run.run(*remedy)
        assert "Data and pipelines are up to date" in small_run.run("dvc", "repro")
