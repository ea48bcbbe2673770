"""`python -m stages.store`: what is stored is told, pruned, exported and merged."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stages.core import files
from stages.core.checkpoints import Checkpoints, outdated
from stages.core.store import Store
from tests.conftest import ROOT


def command(*words: str, status: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "stages.store", *words], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


def test_from_one_machine_to_another(tmp_path: Path) -> None:
    here, there, moved = (str(tmp_path / name) for name in ("here", "there", "moved"))
    with Store(Path(here) / files.LLM_STORE.name) as store:
        store.put_many({"a": b"1" * 1_000_000, "b": b"2" * 999_998}, kind="answers of llama")
    with Store(Path(here) / files.VECTOR_STORE.name) as store:
        store.put_many({"v": b"3"})
    said = command("size", "--folder", here)
    assert "| answers.sqlite | answers of llama | 2 | 2.0 |" in said
    assert "| vectors.sqlite | unknown | 1 | 0.0 |" in said

    command("export", moved, "--folder", here)
    assert sorted(path.name for path in Path(moved).iterdir()) == [
        "answers.sqlite",
        "vectors.sqlite",
    ]
    assert "2 entries taken over, 2 now" in command("merge", moved, "--folder", there)
    assert "0 entries taken over, 2 now" in command("merge", moved, "--folder", there)
    assert "2 entries forgotten, 0 left" in command("prune", "--max-bytes", "2", "--folder", there)


def test_what_cannot_be_done_is_said(tmp_path: Path) -> None:
    assert "holds no store" in command("size", "--folder", str(tmp_path), status=1)
    with Store(tmp_path / files.LLM_STORE.name):
        pass
    said = command("prune", "--folder", str(tmp_path), status=1)
    assert "say what to forget" in said


def left_by_killed(folder: Path, kind: str, name: str, size: int, days: float) -> Path:
    """Checkpoints of a training that was killed so many days ago."""
    training = folder / kind / name
    (training / "checkpoint-2").mkdir(parents=True)
    (training / "checkpoint-2" / "weights").write_bytes(b"x" * size)
    at = time.time() - days * 86_400
    for path in (training / "checkpoint-2" / "weights", training / "checkpoint-2", training):
        os.utime(path, (at, at))
    return training


def test_checkpoints_of_killed_trainings_are_told_and_pruned(tmp_path: Path) -> None:
    here = ("--folder", str(tmp_path))
    oldest = left_by_killed(tmp_path, "finetune", "a", 2_000_000, 100)
    older = left_by_killed(tmp_path, "two_tower", "b", 1_000_000, 50)
    running = left_by_killed(tmp_path, "finetune", "c", 3_000_000, 0)
    said = command("size", *here)
    assert "| checkpoints | finetune | 2 | 5.0 |" in said
    assert "| checkpoints | two_tower | 1 | 1.0 |" in said
    assert "0 trainings deleted, of 3 left" in command("prune", "--unused-days", "101", *here)
    assert "1 trainings deleted, of 2 left" in command("prune", "--unused-days", "90", *here)
    assert not oldest.exists()
    assert older.exists()
    assert "1 trainings deleted, of 1 left" in command("prune", "--max-bytes", "0", *here)
    assert not older.exists()
    assert (running / "checkpoint-2" / "weights").exists()


@pytest.mark.parametrize(
    ("unused_days", "max_bytes", "gone"),
    [
        (None, None, ""),
        (9, None, "c"),
        (0, None, "bc"),
        (None, 111, ""),
        (None, 110, "c"),
        (None, 10, "bc"),
        (None, 0, "bc"),
        (9, 11, "c"),
        (9, 10, "bc"),
    ],
)
def test_the_longest_unchanged_leave(
    unused_days: int | None, max_bytes: int | None, gone: str
) -> None:
    now = 1_800_000_000.0
    ages = {"a": (0.5, 10), "b": (5, 1), "c": (10, 100)}
    found = [
        Checkpoints(Path(name), size, now - days * 86_400) for name, (days, size) in ages.items()
    ]
    left = outdated(found, now, unused_days, max_bytes)
    assert "".join(str(one.folder) for one in left) == gone
