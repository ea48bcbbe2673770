"""Checkpoints: what a killed training goes on from; one that comes to its end deletes its own.

If parameters or data change before it is run again, nobody asks for them any more.
"""

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

FINETUNE, TWO_TOWER = "finetune", "two_tower"
KINDS = (FINETUNE, TWO_TOWER)
"""Folders of the store that hold a folder for each training, named by all that decides it."""
_DAY_S = 86_400


@dataclass(frozen=True)
class Checkpoints:
    """Those of one training.

    Attributes:
        folder: of this training alone.
        bytes: of all files.
        changed: when the last of them was, in seconds since 1970.
    """

    folder: Path
    bytes: int
    changed: float


def find_checkpoints(store: Path) -> list[Checkpoints]:
    """Return those in the folder of the stores, the last changed first."""
    trainings = [path for kind in KINDS for path in (store / kind).glob("*") if path.is_dir()]
    found = [_measure(path) for path in trainings]
    return sorted(found, key=lambda one: (-one.changed, one.folder))


def outdated(
    checkpoints: Iterable[Checkpoints],
    now: float,
    unused_days: int | None = None,
    max_bytes: int | None = None,
) -> list[Checkpoints]:
    """Return those that were not changed for so many days, or that so many bytes leave no room for.

    What was changed within a day stays, as its training may be under way.

    Args:
        checkpoints: the last changed first.
        now: in seconds since 1970.
        unused_days: those not changed for more days than these.
        max_bytes: of what is left, those longest unchanged, until the rest is no more.
    """
    upto, gone = 0, []
    for one in checkpoints:
        days = (now - one.changed) / _DAY_S
        unused = unused_days is not None and days > unused_days
        upto += 0 if unused else one.bytes
        over = max_bytes is not None and upto > max_bytes
        if days > 1 and (unused or over):
            gone.append(one)
    return gone


def _measure(folder: Path) -> Checkpoints:
    size, changed = 0, 0.0
    for top, _, names in os.walk(folder):
        for name in ("", *names):
            with contextlib.suppress(FileNotFoundError):  # Its training goes on.
                state = os.stat(os.path.join(top, name))
                size += state.st_size if name else 0
                changed = max(changed, state.st_mtime)
    return Checkpoints(folder, size, changed)
