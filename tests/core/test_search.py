"""Exact search: the same answer as sorting everything, ties and edges included."""

from typing import Literal

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from stages.core.search import top_k

Device = Literal["cpu", "cuda"]


@pytest.fixture(params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest) -> Device:
    import torch

    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU here")
    return request.param


def sorted_whole(queries: np.ndarray, items: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    scores = queries @ items.T
    rows = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return rows, np.take_along_axis(scores, rows, 1)


def whole_numbers(rng: np.random.Generator, rows: int, width: int, largest: int) -> np.ndarray:
    """Vectors whose products float32 holds exactly, so that ties are ties."""
    return rng.integers(-largest, largest + 1, (rows, width)).astype(np.float32)


def agrees(
    queries: np.ndarray, items: np.ndarray, k: int, block: int, device: Device = "cpu"
) -> None:
    rows, scores = top_k(queries, items, k, block, device)
    expected_rows, expected_scores = sorted_whole(queries, items, k)
    assert rows.dtype == np.int64
    assert scores.dtype == np.float32
    np.testing.assert_array_equal(scores, expected_scores)
    np.testing.assert_array_equal(rows, expected_rows)


@given(
    seed=st.integers(0, 2**32 - 1),
    queries=st.integers(0, 7),
    items=st.integers(0, 900),
    width=st.integers(1, 4),
    largest=st.integers(0, 3),
    k=st.integers(0, 8) | st.integers(0, 1000),
    block=st.integers(1, 4),
)
@example(seed=0, queries=3, items=900, width=2, largest=1, k=3, block=2)  # groups, ties on the cut
@example(seed=0, queries=3, items=897, width=3, largest=2, k=4, block=3)  # a last group of one
@example(seed=0, queries=3, items=64, width=2, largest=1, k=64, block=9)  # everything
@example(seed=0, queries=2, items=65, width=2, largest=1, k=64, block=1)  # all but one
@example(seed=0, queries=2, items=700, width=2, largest=0, k=2, block=1)  # nothing but ties
@hypothesis_settings(max_examples=150, deadline=None)
def test_equals_a_full_sort(
    seed: int, queries: int, items: int, width: int, largest: int, k: int, block: int
) -> None:
    rng = np.random.default_rng(seed)
    agrees(
        whole_numbers(rng, queries, width, largest),
        whole_numbers(rng, items, width, largest),
        k,
        block,
    )


@pytest.mark.parametrize("queries", [1, 3, 4, 5, 8, 9])
def test_at_the_edges_of_blocks(queries: int, device: Device) -> None:
    rng = np.random.default_rng(queries)
    for items in (40, 640, 1000):
        agrees(whole_numbers(rng, queries, 3, 2), whole_numbers(rng, items, 3, 2), 5, 4, device)


@pytest.mark.parametrize("count", [2 * 4 * 64, 2 * 4 * 64 + 1, 64 * 50])
def test_by_groups_and_without(count: int, device: Device) -> None:
    """With k = 3, groups are looked at from nine of them on."""
    rng = np.random.default_rng(count)
    agrees(whole_numbers(rng, 6, 2, 1), whole_numbers(rng, count, 2, 1), 3, 512, device)


def test_the_best_items_may_share_a_group(device: Device) -> None:
    items = np.zeros((64 * 40, 1), np.float32)
    items[130:135, 0] = [3, 5, 4, 5, 2]
    rows, scores = top_k(np.ones((1, 1), np.float32), items, 4, device=device)
    assert rows.tolist() == [[131, 133, 132, 130]]
    assert scores.tolist() == [[5, 5, 4, 3]]


def test_padding_is_never_found(device: Device) -> None:
    """Rows that fill the last group would score 0, more than all that is there."""
    items = -np.ones((641, 2), np.float32)
    rows, scores = top_k(np.ones((2, 2), np.float32), items, 2, device=device)
    assert rows.tolist() == [[0, 1]] * 2
    assert (scores == -2).all()


def test_real_vectors_give_the_same_items(device: Device) -> None:
    rng = np.random.default_rng(1)
    queries = rng.normal(size=(20, 24)).astype(np.float32)
    items = rng.normal(size=(3000, 24)).astype(np.float32)
    rows, scores = top_k(queries, items, 10, 8, device)
    expected_rows, expected_scores = sorted_whole(queries, items, 10)
    np.testing.assert_allclose(scores, expected_scores, rtol=1e-5)
    np.testing.assert_array_equal(rows, expected_rows)


def test_more_than_there_are_gives_all_and_nothing_gives_nothing(device: Device) -> None:
    items = np.array([[1.0], [3.0], [2.0]], np.float32)
    one, none = np.ones((1, 1), np.float32), np.empty((0, 1), np.float32)
    assert top_k(one, items, 10, device=device)[0].tolist() == [[1, 2, 0]]
    assert top_k(none, items, 2, device=device)[0].shape == (0, 2)
    assert top_k(one, none, 2, device=device)[0].shape == (1, 0)
    assert top_k(one, items, 0, device=device)[1].shape == (1, 0)
