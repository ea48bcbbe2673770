"""Work that is done in processes, each with its share of the machine's cores."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from functools import partial
from typing import Any, TypeVar

from stages.core import log
from stages.core.threads import CORES

_STEP_S = 1.0
"""Seconds after which it is looked whether the user stopped the run."""

Piece = TypeVar("Piece")
Result = TypeVar("Result")


def in_processes(work: Callable[[Piece], Result], pieces: Sequence[Piece]) -> list[Result]:
    """Return what `work` makes of each piece, in their order, all at once, each in a process.

    For training in many small steps, of which Python is a part and which more than a core hardly
    quickens; each process imports for itself, some seconds. Where a piece fails, or the user stops
    the run, the others end at once; and so do all where this process is killed.

    Args:
        work: what can be pickled, by the name of its module.
        pieces: what it is given, small; each names itself on its progress bar.
    """
    spawned = multiprocessing.get_context("spawn")
    share = max(CORES // max(len(pieces), 1), 1)
    with ProcessPoolExecutor(len(pieces), spawned, _begin, (share, spawned.RLock())) as pool:
        try:
            made = [
                pool.submit(partial(_work, work, place, piece))
                for place, piece in enumerate(pieces)
            ]
            waiting = set(made)
            while waiting:  # In steps: a wait without an end is not interrupted.
                done, waiting = wait(waiting, _STEP_S, FIRST_EXCEPTION)
                for ended in done:
                    ended.result()
            return [one.result() for one in made]
        except BaseException:
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def _begin(threads: int, lock: Any) -> None:
    """Set up a process: it ends with the one that began it, however that does."""
    import torch
    from tqdm import tqdm

    torch.set_num_threads(threads)
    tqdm.set_lock(lock)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(work: Callable[[Piece], Result], place: int, piece: Piece) -> Result:
    log.on_line(place, str(piece))
    return work(piece)
