"""Parts of the benchmarks that can be wrong without showing it."""

import numpy as np
import pytest
import yaml

from benchmarks.noop import chain
from benchmarks.search import Side, recall, report, vectors


def test_recall_counts_what_was_found_in_any_order() -> None:
    exact = np.array([[1, 2, 3, 4], [5, 6, 7, 8]])
    found = np.array([[4, 3, 9, -1], [8, 7, 6, 5]])
    assert recall(found, exact) == pytest.approx((2 / 4 + 4 / 4) / 2)


def test_vectors_are_of_length_one_and_queries_lie_near_items() -> None:
    items, queries = vectors(2000, 50, 64, np.random.default_rng(1))
    assert items.dtype == queries.dtype == np.float32
    assert (items.shape, queries.shape) == ((2000, 64), (50, 64))
    assert np.linalg.norm(items, axis=1) == pytest.approx(np.ones(2000), abs=1e-5)
    similar = queries @ items.T
    assert similar.max(axis=1).mean() > 0.7
    assert abs(similar.mean()) < 0.1


def test_report_says_ratios_of_medians() -> None:
    def side(title: str, seconds: list[float], operations: float = 0.0) -> Side:
        return Side(title, lambda: None, 10, operations, None, seconds)

    said = report(
        {
            "exact": side("exact", [9.0, 2.0, 1.0], 100.0),
            "chroma": side("chroma", [10.0, 10.0, 99.0]),
            "lean": side("lean", [3.0]),
            "mm": side("mm", [1.0], 100.0),
            "square": side("square", [1.0], 200.0),
        }
    )
    assert "| exact | 2.000 | 5 | 0.0 |  |" in said
    assert "5.0 times as fast as Chroma's `query`" in said
    assert "1.5 times where" in said
    assert "50% of the float32 rate" in said
    assert "25% of the square" in said


def test_chain_hangs_together() -> None:
    stages = yaml.safe_load(chain(3))["stages"]
    assert [stage["deps"] for stage in stages.values()] == [["0.txt"], ["1.txt"], ["2.txt"]]
    assert [stage["outs"] for stage in stages.values()] == [["1.txt"], ["2.txt"], ["3.txt"]]
