"""Work that is done side by side on the machine's cores."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

AT_ONCE = min(4, os.cpu_count() or 1)
"""Pieces of work at once; each holds tables and scores of its own."""

Piece = TypeVar("Piece")
Result = TypeVar("Result")


def side_by_side(
    work: Callable[[Piece], Result], pieces: Iterable[Piece], at_once: int = AT_ONCE
) -> Iterator[Result]:
    """Yield what `work` makes of each piece, in their order, several at once in threads.

    For what NumPy, SciPy, Polars and torch compute, during which other threads run, and of which
    much keeps one core busy. Where a piece fails, or the user stops the run, what has begun is
    waited for and nothing more begins: pieces are to take seconds.
    """
    with ThreadPoolExecutor(at_once) as pool:
        yield from pool.map(work, pieces)
