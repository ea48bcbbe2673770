"""Batches of a fixed shape, and the copies of a model that compute them."""

import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from stages.core.log import UserError
from stages.core.params import Encoder
from stages.encode.encoders.base import Kind
from stages.encode.encoders.batching import (
    SHAPES,
    Copies,
    by_shape,
    filled,
    in_memory,
    rows_at_once,
)
from stages.encode.encoders.sentence_transformers import SentenceTransformersEncoder
from tests.encode import tiny_models
from tests.encode.tiny_models import settings


def test_texts_of_like_length_are_batched_and_full_ones_apart() -> None:
    batches = by_shape([3, 16, 15, 17, 40, 39, 9], longest=40, rows=lambda _: 2)
    assert batches == [(16, [0, 2]), (16, [6]), (32, [1, 3]), (40, [4]), (40, [5])]
    assert by_shape([], 40, lambda _: 2) == []
    assert filled([4, 5], 5) == [4, 5, 4, 4, 4]


@hypothesis_settings(deadline=None)
@given(
    st.lists(st.integers(1, 100), max_size=50),
    st.integers(100, 130),
    st.integers(1, 200),
)
def test_every_text_is_in_one_batch_that_it_fits(
    lengths: list[int], longest: int, tokens: int
) -> None:
    def rows(length: int) -> int:
        return max(tokens // length, 1)

    step = SHAPES[0]
    batches = by_shape(lengths, longest, rows)
    assert sorted(at for _, positions in batches for at in positions) == list(range(len(lengths)))
    for length, positions in batches:
        assert 1 <= len(positions) <= rows(length)
        assert length % step == 0 or length == longest
        assert all(length - step <= lengths[at] <= length for at in positions)
        assert len({lengths[at] == longest for at in positions}) == 1
        assert length == longest or all(lengths[at] < length for at in positions)


def test_rows_are_as_many_as_fit_by_length_and_device_alone() -> None:
    lengths = (16, 48, 128, 512, 1024, 8192, 1 << 16)
    assert [rows_at_once(length, "cpu") for length in lengths] == [24, 8, 3, 2, 2, 2, 2]
    assert [rows_at_once(length, "cuda:1") for length in lengths] == [64, 64, 64, 64, 32, 4, 1]


class Model:
    """Computes on one device at a time; `to` makes it that of another."""

    def __init__(self) -> None:
        self.device = "a"

    def to(self, device: str) -> "Model":
        self.device = device
        return self


def test_copies_work_at_once_and_results_keep_their_order() -> None:
    copies = Copies(Model(), ["a", "b", "c"])
    together = threading.Barrier(3, timeout=20)
    seen = set()

    def work(model: Model, batch: int) -> int:
        seen.add(model.device)
        if batch < 3:
            together.wait()  # Passed only where three are at work.
        time.sleep(0.01 * (5 - batch % 5))
        return batch * batch

    assert copies.map(work, range(12)) == [n * n for n in range(12)]
    assert seen == {"a", "b", "c"}
    assert [model.device for model in copies.models] == ["a", "b", "c"]


def test_one_batch_asks_for_no_copy_and_an_error_is_passed_on() -> None:
    copies = Copies(Model(), ["a", "b"])
    assert copies.map(lambda model, batch: (model.device, batch), [7]) == [("a", 7)]
    assert len(copies.models) == 1
    with pytest.raises(ZeroDivisionError):
        copies.map(lambda _, batch: 1 // batch, [1, 0, 1])
    assert copies.map(lambda _, batch: batch, [1, 2, 3]) == [1, 2, 3]


@pytest.mark.parametrize(
    ("params", "kind", "fixed_shape", "lower"),
    [
        ({"max_doc_length": 8192}, "document", True, "encoder.max_doc_length to under 512"),
        ({"max_doc_length": 8192}, "query", True, "encoder.max_query_length to under 256"),
        ({"batch_size": 32}, "document", False, "encoder.batch_size, here 32"),
        ({"batch_size": 1}, "document", False, "encoder.max_doc_length to under 256"),
    ],
)
def test_a_batch_that_does_not_fit_is_said_with_what_to_lower(
    params: dict[str, int], kind: Kind, fixed_shape: bool, lower: str
) -> None:
    import torch

    def work(model: Model, batch: int) -> int:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.50 GiB. GPU 0 has 8.")

    with pytest.raises(UserError) as caught, in_memory(Encoder(**params), kind, fixed_shape):
        Copies(Model(), ["a", "b"]).map(work, [1, 2, 3])
    assert str(caught.value) == (
        f"CUDA out of memory. Tried to allocate 9.50 GiB; lower {lower}, or name GPUs with more "
        "free memory in encoder.gpus"
    )


def test_copies_of_a_sentence_transformers_model_give_the_same_bits(bert: Path) -> None:
    texts = [f"{word} {'wood ' * (n % 20)}" for n, word in enumerate(tiny_models.WORDS)]
    encoder = SentenceTransformersEncoder(settings(bert))
    alone = encoder.encode(texts, "document", fixed_shape=True).dense
    encoder._copies = Copies(encoder._model, [str(encoder._model.device)] * 2)
    assert encoder.encode(texts, "document", fixed_shape=True).dense.tobytes() == alone.tobytes()
    assert len(encoder._copies.models) == 2
