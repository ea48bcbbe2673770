"""Work side by side: results in order, an end at the first failure."""

import threading
import time

import pytest

from stages.core.threads import side_by_side


def test_pieces_are_worked_at_together_and_results_keep_their_order() -> None:
    together = threading.Barrier(3, timeout=20)

    def work(piece: int) -> int:
        if piece < 3:
            together.wait()  # Passed only where three are at work.
        time.sleep(0.01 * (5 - piece % 5))
        return piece * piece

    assert list(side_by_side(work, range(12), 3)) == [piece * piece for piece in range(12)]
    assert list(side_by_side(work, [], 3)) == []


def test_after_a_failure_nothing_more_begins() -> None:
    begun = []

    def work(piece: int) -> float:
        begun.append(piece)
        return 1 / piece

    with pytest.raises(ZeroDivisionError):
        list(side_by_side(lambda piece: (time.sleep(0.05), work(piece)), range(100), 2))
    assert len(begun) < 10
