"""Atomic writes: the old output or the whole new one, and nothing beside it, whoever was killed."""

import os
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from stages.core.storage import atomic_file, atomic_folder, write_text

WRITER = """
import sys, time
from pathlib import Path
from stages.core.storage import atomic_file, atomic_folder
path = Path(sys.argv[2])
if sys.argv[1] == "file":
    with atomic_file(path) as temporary:
        temporary.write_text("half")
        print("writing", flush=True)
        time.sleep(600)
with atomic_folder(path) as temporary:
    (temporary / "part").write_text("half")
    print("writing", flush=True)
    time.sleep(600)
"""


def writer(kind: str, path: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", WRITER, kind, str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    return process


def atomic(kind: str, path: Path) -> AbstractContextManager[Path]:
    return atomic_file(path) if kind == "file" else atomic_folder(path)


def write(kind: str, path: Path) -> None:
    with atomic(kind, path) as temporary:
        (temporary if kind == "file" else temporary / "part").write_text("whole")


@pytest.mark.parametrize("left", ["file", "folder"])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_process_left_is_removed(tmp_path: Path, left: str, kind: str) -> None:
    path = tmp_path / "base.[x]"
    killed = writer(left, path)
    killed.kill()
    # Dead, and not asked for: such a one still has its number.
    os.waitid(os.P_PID, killed.pid, os.WEXITED | os.WNOWAIT)
    assert [found.name for found in tmp_path.iterdir()] == [f".base.[x].{killed.pid}.tmp"]
    write(kind, path)
    assert list(tmp_path.iterdir()) == [path]
    killed.wait()


def test_what_a_living_process_writes_stays(tmp_path: Path) -> None:
    path = tmp_path / "base"
    living = writer("folder", path)
    try:
        write("folder", path)
        assert (tmp_path / f".base.{living.pid}.tmp" / "part").read_text() == "half"
    finally:
        living.kill()
        living.wait()


def test_names_of_others_stay(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    others = [f".base.parquet.{gone.pid}.tmp", f".other.{gone.pid}.tmp", ".base.draft.tmp"]
    for name in [*others, f".base.{gone.pid}.tmp", f".base.{os.getpid()}.tmp"]:
        write_text(tmp_path / name, "mine")
    write("folder", tmp_path / "base")
    assert {path.name for path in tmp_path.iterdir()} == {*others, "base"}


def write_half_and_fail(path: Path) -> None:
    path.write_text("half")
    path.parent.write_text("no file")


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_failed_write_leaves_the_old_output_alone(tmp_path: Path, kind: str) -> None:
    write(kind, tmp_path / "out")
    with pytest.raises(IsADirectoryError), atomic(kind, tmp_path / "out") as temporary:
        write_half_and_fail(temporary if kind == "file" else temporary / "part")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    kept = tmp_path / "out" if kind == "file" else tmp_path / "out" / "part"
    assert kept.read_text() == "whole"
