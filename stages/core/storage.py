"""Atomic writes: a reader sees the old output or the whole new one, never a half."""

import glob
import json
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; rename it to `path` when the block succeeds.

    What processes that were killed left beside it is removed first.
    """
    temporary = _temporary(path)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path`; it takes the place of `path` when the block succeeds.

    What processes that were killed left beside it is removed first.
    """
    temporary = _temporary(path)
    temporary.mkdir()
    try:
        yield temporary
        if path.exists():
            shutil.rmtree(path)
        temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, keys sorted, floats of six places: equal values give equal bytes.

    Raises:
        ValueError: a number is NaN or infinite, which JSON cannot hold.
    """
    text = json.dumps(
        _rounded(value), sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False
    )
    write_text(path, text + "\n")


def read_json(path: Path) -> Any:
    """Read JSON; a file that is not JSON is an error that names it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path}: not JSON ({error}); run the stage that writes it again"
        ) from error


def _temporary(path: Path) -> Path:
    """Return this process's name beside `path`, where nothing is; make the folder they stand in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        pid = left.name.removeprefix(f".{path.name}.").removesuffix(".tmp")
        if pid.isdecimal() and (int(pid) == os.getpid() or not _runs(int(pid))):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def _runs(pid: int) -> bool:
    """Whether a process of this host has the number; if it is a later one, what is left stays."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # somebody else's
        pass
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2]
    except OSError:  # macOS has none
        return True
    # A dead process has its number until its parent asks for it: in some containers, for ever.
    return not state.startswith("Z")


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(inner) for inner in value]
    if hasattr(value, "item") and not isinstance(value, str):
        value = value.item()
    if isinstance(value, float) and math.isfinite(value):
        return round(value, 6)
    return value
