"""Exact search: the same answer as sorting everything, ties and edges included."""

from typing import Literal

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from stages.core.search import FlatIndex, top_k

Device = Literal["cpu", "cuda"]
Precision = Literal["bf16", "fp32"]


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
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
    queries: np.ndarray,
    items: np.ndarray,
    k: int,
    block: int,
    device: Device = "cpu",
    precision: Literal["auto", "bf16", "fp32"] = "auto",
) -> None:
    rows, scores = FlatIndex(items, device, precision).search(queries, k, block)
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
    precision=st.sampled_from(["bf16", "fp32"]),
)
@example(0, 3, 900, 2, 1, 3, 2, "fp32")  # groups, ties on the cut
@example(0, 3, 897, 3, 2, 4, 3, "bf16")  # a last group of one
@example(0, 3, 64, 2, 1, 64, 9, "fp32")  # everything
@example(0, 2, 65, 2, 1, 64, 1, "bf16")  # all but one
@example(0, 2, 700, 2, 0, 2, 1, "bf16")  # nothing but ties
@example(0, 3, 5000, 2, 1, 5, 2, "bf16")  # several tiles, the last short
@hypothesis_settings(max_examples=150, deadline=None)
def test_equals_a_full_sort(
    seed: int,
    queries: int,
    items: int,
    width: int,
    largest: int,
    k: int,
    block: int,
    precision: Precision,
) -> None:
    rng = np.random.default_rng(seed)
    agrees(
        whole_numbers(rng, queries, width, largest),
        whole_numbers(rng, items, width, largest),
        k,
        block,
        precision=precision,
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


def exactly(
    queries: np.ndarray, items: np.ndarray, k: int, precision: Precision, device: Device
) -> None:
    """The answer is that of float64."""
    if (device, precision) == ("cuda", "bf16"):
        pytest.skip("bfloat16 is for the CPU")
    rows, scores = FlatIndex(items, device, precision).search(queries, k, 8)
    exact = (queries.astype(np.float64) @ items.T.astype(np.float64)).astype(np.float32)
    expected = np.argsort(-exact, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_array_equal(scores, np.take_along_axis(exact, expected, 1))


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize("spread", [1.0, 1e-2, 1e-4, 1e-6])
def test_vectors_closer_than_the_precision_holds(
    precision: Precision, spread: float, device: Device
) -> None:
    rng = np.random.default_rng(1)
    centre = rng.normal(size=64)
    length = rng.choice([1e-3, 1.0, 1e3], (5000, 1), p=[0.1, 0.8, 0.1])
    items = ((centre + spread * rng.normal(size=(5000, 64))) * length).astype(np.float32)
    queries = (centre + rng.normal(size=(20, 64))).astype(np.float32)
    exactly(queries, items, 10, precision, device)


@pytest.mark.parametrize(("precision", "spread"), [("bf16", 1e-3), ("fp32", 1e-7)])
def test_products_that_cancel(precision: Precision, spread: float, device: Device) -> None:
    """Scores near zero of long vectors: their error is that of the inputs and of the sum."""
    rng = np.random.default_rng(1)
    centre = rng.normal(size=256) / 16
    items = (centre + spread * rng.normal(size=(5000, 256))).astype(np.float32)
    queries = rng.normal(size=(20, 256))
    queries -= np.outer(queries @ centre, centre) / (centre @ centre)
    exactly(queries.astype(np.float32), items, 10, precision, device)


def test_products_longer_than_the_precision_holds(device: Device) -> None:
    """The inputs have no error in bfloat16, but their products have."""
    rng = np.random.default_rng(1)
    exactly(
        whole_numbers(rng, 20, 5, 120), whole_numbers(rng, 5000, 5, 120) + 128, 5, "bf16", device
    )


def test_the_answer_does_not_depend_on_how_it_is_found(device: Device) -> None:
    rng = np.random.default_rng(2)
    items = rng.normal(size=(9000, 48)).astype(np.float32)
    queries = rng.normal(size=(30, 48)).astype(np.float32)
    rows, scores = FlatIndex(items, device, "fp32").search(queries, 7, 30)
    on_cpu: tuple[Precision, ...] = ("bf16", "fp32")
    for precision in on_cpu if device == "cpu" else on_cpu[1:]:
        for block in (1, 13):
            again = FlatIndex(items, device, precision).search(queries, 7, block)
            np.testing.assert_array_equal(again[0], rows)
            np.testing.assert_array_equal(again[1], scores)


@pytest.mark.parametrize("meant", ["high", "medium"])
def test_float32_that_is_told_to_be_fast(meant: str, device: Device) -> None:
    """CUDA then multiplies in TF32, and some processors in bfloat16."""
    import torch

    rng = np.random.default_rng(3)
    centre = rng.normal(size=64)
    items = (centre + 1e-3 * rng.normal(size=(5000, 64))).astype(np.float32)
    queries = (centre + rng.normal(size=(20, 64))).astype(np.float32)
    torch.set_float32_matmul_precision(meant)
    try:
        exactly(queries, items, 10, "fp32", device)
    finally:
        torch.set_float32_matmul_precision("highest")


def test_bfloat16_is_for_the_cpu() -> None:
    with pytest.raises(ValueError, match="bf16 is for the CPU"):
        FlatIndex(np.ones((3, 2), np.float32), "cuda", "bf16")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_vector_that_is_not_finite_is_named(value: float, device: Device) -> None:
    good, bad = np.ones((3, 2), np.float32), np.ones((3, 2), np.float32)
    bad[1, 0] = value
    with pytest.raises(ValueError, match="of item 1 is not finite"):
        top_k(good, bad, 1, device=device)
    with pytest.raises(ValueError, match="of query 1 is not finite"):
        top_k(bad, good, 1, device=device)


def test_more_than_there_are_gives_all_and_nothing_gives_nothing(device: Device) -> None:
    items = np.array([[1.0], [3.0], [2.0]], np.float32)
    one, none = np.ones((1, 1), np.float32), np.empty((0, 1), np.float32)
    assert top_k(one, items, 10, device=device)[0].tolist() == [[1, 2, 0]]
    assert top_k(none, items, 2, device=device)[0].shape == (0, 2)
    assert top_k(one, none, 2, device=device)[0].shape == (1, 0)
    assert top_k(one, items, 0, device=device)[1].shape == (1, 0)
