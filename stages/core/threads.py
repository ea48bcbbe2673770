"""Work that is done side by side on the machine's cores."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
"""Cores that this process may use."""
AT_ONCE = min(4, CORES)
"""Pieces of work at once; each holds tables and scores of its own."""

Piece = TypeVar("Piece")
Result = TypeVar("Result")


def side_by_side(
    work: Callable[[Piece], Result], pieces: Iterable[Piece], at_once: int = AT_ONCE
) -> Iterator[Result]:
    """Yield what `work` makes of each piece, in their order, several at once in threads.

    For what NumPy, SciPy, Polars and torch compute, during which other threads run, and of which
    much keeps one core busy; torch has its share of the cores in each. Where a piece fails, or the
    user stops the run, what has begun is waited for and nothing more begins: pieces are to take
    seconds.
    """
    with ThreadPoolExecutor(at_once, initializer=_share_cores, initargs=(at_once,)) as pool:
        yield from pool.map(work, pieces)


def _share_cores(at_once: int) -> None:
    """Give this thread's products of torch their share, where torch is loaded."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(max(CORES // at_once, 1))
