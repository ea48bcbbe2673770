"""Fixtures that several rooms' tests share."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets; tests that need it skip, saying so, where it is not."""
    folder = os.environ.get("WINNOW_REAL_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("WINNOW_REAL_DATA names no folder with real data")
    return Path(folder).resolve()


SMALL = {
    "ingest.sample.reviews": 400,
    "ingest.sample.items": 60,
    "ingest.sample.users": 120,
    "ingest.sample.impressions": 500,
    "ingest.sample.pictures": 3,
    "encoder.max_query_length": 48,
    "encoder.max_doc_length": 48,
    "pairs.max_pairs": 64,
    "finetune.batch_size": 16,
    "finetune.max_query_length": 32,
    "finetune.max_doc_length": 32,
    "finetune.eval_steps": 2,
    "finetune.eval_queries": 20,
    "fit.two_tower.min_steps": 20,
    "candidates.top_k": 20,
    "evaluate.bootstrap": 200,
    # Forty queries a split: every verdict that is a matter of statistics is wide here.
    "audit.max_shuffled_auc": 0.9,
    "audit.max_rank_excess": 0.9,
}
"""The sample recipe, small enough to run whole in a test."""


SMALL_LOG = {
    "ingest.interactions.columns": {"user": "who", "item": "what", "time": "at"},
    "ingest.interactions.time_unit": "iso",
    "candidates.top_k": 20,
    "fit.two_tower.dim": 16,
    "fit.two_tower.hidden": [32],
    "evaluate.bootstrap": 200,
    "audit.max_rank_excess": 0.9,
}
"""The recipe for a log, for the one that `small_log` writes."""


class Checkout:
    """A copy of the repository with its own git history and DVC cache, on a small recipe."""

    def __init__(
        self, folder: Path, recipe: str = "sample", settings: Mapping[str, Any] = SMALL
    ) -> None:
        self.folder = folder
        self.environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "DVC_NO_ANALYTICS": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }
        listed = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split("\n")
        for name in filter(None, listed):
            if (ROOT / name).is_file() and name != "dvc.lock":
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, folder / name)
        params = yaml.safe_load((ROOT / "recipes" / f"{recipe}.yaml").read_text())
        for dotted, value in settings.items():
            *path, last = dotted.split(".")
            section = params
            for part in path:
                section = section[part]
            section[last] = value
        (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
        self.run("git", "init", "-q")
        self.commit("start")

    def run(self, *command: str, check: bool = True, timeout: float = 1200) -> str:
        """Run a command in the checkout, return what it printed."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if check:
            assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done.stdout + done.stderr

    def commit(self, message: str) -> None:
        """Commit everything that git does not ignore."""
        self.run("git", "add", "-A")
        who = ("-c", "user.name=test", "-c", "user.email=test@localhost")
        self.run("git", *who, "commit", "-q", "-m", message, "--allow-empty")


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout in which `dvc repro` has run once, whole."""
    checkout = Checkout(tmp_path_factory.mktemp("checkout"))
    checkout.run("dvc", "repro")
    checkout.commit("reproduced")
    return checkout


def small_log(seed: int = 3) -> str:
    """A log in which what comes next is known: twelve series of six, mostly taken in their order.

    A user follows one series after another, a day or more between two moments; one moment in five
    is a whim.
    """
    rng = np.random.default_rng(seed)
    lines = ["who,what,at"]
    for user in range(240):
        day = int(rng.integers(0, 300))
        for series in rng.permutation(12)[: rng.integers(2, 5)]:
            for part in range(6):
                whim = rng.random() < 0.2
                item = f"{rng.integers(12)}-{rng.integers(6)}" if whim else f"{series}-{part}"
                at = date(2022, 1, 1) + timedelta(days=day)
                lines.append(f"u{user},{item},{at.isoformat()}T00:00:00")
                day += int(rng.integers(1, 6))
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="session")
def small_log_run(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout in which `dvc repro` has run once, whole, on a log without words."""
    checkout = Checkout(tmp_path_factory.mktemp("log"), "interactions", SMALL_LOG)
    (checkout.folder / "data" / "raw").mkdir(parents=True, exist_ok=True)
    (checkout.folder / "data" / "raw" / "log.csv").write_text(small_log())
    checkout.run("dvc", "repro")
    checkout.commit("reproduced")
    return checkout
