"""Work in processes: at once, with a share of the cores, and none is left behind."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from stages.core.log import UserError
from stages.core.processes import in_processes
from stages.core.threads import CORES

SLEEP_S = 120


def wait_for(path: Path) -> None:
    until = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < until, f"no {path.name}"
        time.sleep(0.01)


def meet(piece: str, folder: Path) -> tuple[str, int, int]:
    """Return only where every piece is at work: who, in which process, torch's threads there."""
    import torch

    (folder / piece).touch()
    for other in "ab":
        wait_for(folder / other)
    return piece, os.getpid(), torch.get_num_threads()


def fail_or_sleep(piece: str, folder: Path) -> None:
    (folder / piece).write_text(str(os.getpid()))
    if piece == "fails":
        wait_for(folder / "sleeps")
        raise UserError("row 3 is wrong")
    time.sleep(SLEEP_S)


def sleep(piece: str, folder: Path) -> None:
    part = folder / f"{piece}.part"
    part.write_text(str(os.getpid()))
    part.rename(folder / piece)
    time.sleep(SLEEP_S)


def wait_until_ended(process: int) -> None:
    until = time.monotonic() + 30
    while True:
        try:
            status = Path(f"/proc/{process}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return
        if "State:\tZ" in status:  # It ended, and nobody has asked how.
            return
        assert time.monotonic() < until, "it still runs"
        time.sleep(0.05)


def test_pieces_are_worked_at_at_once_each_in_a_process(tmp_path: Path) -> None:
    found = in_processes(partial(meet, folder=tmp_path), ["b", "a"])
    assert [piece for piece, _, _ in found] == ["b", "a"]
    assert len({os.getpid(), *(process for _, process, _ in found)}) == 3
    assert {threads for _, _, threads in found} == {max(CORES // 2, 1)}


def test_a_failure_is_told_and_ends_the_others(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(UserError, match="row 3 is wrong"):
        in_processes(partial(fail_or_sleep, folder=tmp_path), ["sleeps", "fails"])
    assert time.monotonic() - began < SLEEP_S / 2
    wait_until_ended(int((tmp_path / "sleeps").read_text()))


KILLED = """
import sys
from functools import partial
from pathlib import Path
from stages.core.processes import in_processes
from test_processes import sleep

if __name__ == "__main__":
    in_processes(partial(sleep, folder=Path(sys.argv[1])), ["a", "b"])
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_none_outlives_the_process_that_began_it(end: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "killed.py").write_text(KILLED)
    paths = [str(Path(__file__).parent), str(Path.cwd())]
    running = subprocess.Popen(
        [sys.executable, tmp_path / "killed.py", tmp_path],
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
    )
    for piece in "ab":
        wait_for(tmp_path / piece)
    running.send_signal(end)
    assert running.wait(timeout=SLEEP_S / 2) != 0
    for piece in "ab":
        wait_until_ended(int((tmp_path / piece).read_text()))
