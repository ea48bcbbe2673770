"""`python -m stages.store`: what is stored is told, pruned, exported and merged."""

import subprocess
import sys
from pathlib import Path

from stages.core import files
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
