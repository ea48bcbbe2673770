"""Vectors are kept by model and text: nothing is encoded twice, and what is kept is what was."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from stages.core.log import UserError
from stages.core.params import Encoder
from stages.core.store import Store
from stages.encode.encoders import CachedEncoder, Encoded, TextEncoder, load_encoder
from stages.encode.encoders.base import Kind
from tests.encode import tiny_models
from tests.encode.tiny_models import described, settings

TEXTS = ["guitar wood", "violin for a child", "loud drum", "guitar wood", "é – ☂"]


class Spent:
    """The same model by name and size, which can encode no more."""

    def __init__(self, model: TextEncoder) -> None:
        self.model_hash = model.model_hash
        self.dimension = model.dimension
        self.precision = model.precision
        self.multi_vector = model.multi_vector

    def encode(
        self, texts: Sequence[str], kind: Kind, fixed_shape: bool = False, multi: bool = False
    ) -> Encoded:
        raise AssertionError(f"asked for {texts}")


def spent(encoder: CachedEncoder, store: Path) -> CachedEncoder:
    return CachedEncoder(Spent(encoder.model), store)


def entries(path: Path) -> int:
    with Store(path) as store:
        return len(store)


def test_kept_vectors_are_the_same_bits_and_nothing_is_encoded_again(
    bert: Path, tmp_path: Path
) -> None:
    store = tmp_path / "vectors.sqlite"
    encoder = CachedEncoder(settings(bert), store)
    first = encoder.encode(TEXTS, "document")
    assert entries(store) == 4
    again = spent(encoder, store).encode(TEXTS[::-1], "document")
    assert again.dense.tobytes() == first.dense[::-1].tobytes()
    assert (again.sparse, again.multi) == (None, None)
    np.testing.assert_allclose(first.dense, encoder.model.encode(TEXTS, "document").dense, 0, 1e-6)


def test_only_a_changed_text_is_encoded(bert: Path, tmp_path: Path) -> None:
    store = tmp_path / "vectors.sqlite"
    encoder = CachedEncoder(settings(bert), store)
    encoder.encode([*TEXTS, "harp"], "document")
    before = entries(store)
    changed = encoder.encode([*TEXTS, "harp of wood"], "document")
    assert entries(store) == before + 1
    with pytest.raises(AssertionError, match=r"asked for .'cello'"):
        spent(encoder, store).encode([*TEXTS, "cello"], "document")
    fresh = CachedEncoder(settings(bert), tmp_path / "fresh.sqlite")
    again = fresh.encode([*TEXTS, "harp of wood"], "document")
    assert changed.dense.tobytes() == again.dense.tobytes()


def test_a_vector_has_the_same_bits_in_whatever_company(tmp_path: Path) -> None:
    """By the packaged model: matrices of its size round by their shape."""
    texts = [f"{word} {'of loud wood ' * (n % 13)}" for n, word in enumerate(tiny_models.WORDS)]
    encoder = load_encoder(Encoder())
    together = encoder.encode(texts, "document", fixed_shape=True).dense
    free = encoder.encode(texts, "document").dense
    np.testing.assert_allclose(together, free, atol=1e-6)
    for part in (texts[3:4], texts[::5], texts[::-1]):
        alone = encoder.encode(part, "document", fixed_shape=True).dense
        rows = [texts.index(text) for text in part]
        assert alone.tobytes() == np.ascontiguousarray(together[rows]).tobytes()


def test_fixed_shapes_read_prompts_and_cut_as_free_ones_do(bert: Path) -> None:
    encoder = load_encoder(settings(bert, max_doc_length=20, batch_size=4))
    encoder._model.prompts = {"document": "gift for a loud child on stage "}
    texts = ["wood", "harp " * 12, "harp " * 40, ""]
    np.testing.assert_allclose(
        encoder.encode(texts, "document", fixed_shape=True).dense,
        encoder.encode(texts, "document").dense,
        atol=1e-6,
    )
    assert encoder.encode([], "document", fixed_shape=True).dense.shape == (0, 16)


def test_queries_documents_and_models_are_kept_apart(bert: Path, tmp_path: Path) -> None:
    store = tmp_path / "vectors.sqlite"
    CachedEncoder(settings(bert), store).encode(["harp"], "document")
    CachedEncoder(settings(bert), store).encode(["harp"], "query")
    CachedEncoder(settings(tiny_models.bert(tmp_path / "b", seed=1)), store).encode(
        ["harp"], "query"
    )
    assert entries(store) == 3


def test_equal_texts_in_another_order_give_equal_bits(bert: Path, tmp_path: Path) -> None:
    texts = [f"{word} {'wood ' * (n % 5)}" for n, word in enumerate(tiny_models.WORDS)]
    params = settings(bert, batch_size=4)
    first = CachedEncoder(params, tmp_path / "a.sqlite").encode(texts, "document")
    again = CachedEncoder(params, tmp_path / "b.sqlite").encode(texts[::-1], "document")
    assert again.dense.tobytes() == first.dense[::-1].tobytes()


class Recorder:
    """An encoder that remembers the order in which it was asked."""

    model_hash = "recorder"
    dimension = 1
    multi_vector = False

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode(
        self, texts: Sequence[str], kind: Kind, fixed_shape: bool = False, multi: bool = False
    ) -> Encoded:
        self.asked += texts
        return Encoded(np.array([[len(text)] for text in texts], np.float32))


def test_new_texts_are_encoded_longest_first_whatever_their_order(tmp_path: Path) -> None:
    texts = ["bb", "a", "dddd", "aa", "ccc", "aa"]
    for order in (texts, texts[::-1]):
        recorder, store = Recorder(), tmp_path / f"{order[0]}.sqlite"
        found = CachedEncoder(recorder, store).encode(order, "query").dense.ravel().tolist()
        assert found == [len(text) for text in order]
        assert recorder.asked == ["dddd", "ccc", "aa", "bb", "a"]


class Lexical:
    """An encoder with lexical weights, of which a text without letters has none."""

    model_hash = "lexical"
    dimension = 1
    multi_vector = False

    def encode(
        self, texts: Sequence[str], kind: Kind, fixed_shape: bool = False, multi: bool = False
    ) -> Encoded:
        weights = [{word: 0.5 for word in text.split() if word.isalpha()} for text in texts]
        return Encoded(np.ones((len(texts), 1), np.float32), weights)


@pytest.mark.parametrize("texts", [["loud drum", "!"], ["!", "?"]], ids=["some", "none"])
def test_kept_vectors_have_their_lexical_weights_even_none(
    tmp_path: Path, texts: list[str]
) -> None:
    encoder = CachedEncoder(Lexical(), tmp_path / "vectors.sqlite")
    first, again = (encoder.encode(texts, "document") for _ in range(2))
    assert again.sparse == first.sparse == Lexical().encode(texts, "document").sparse


@pytest.mark.parametrize("kept", [True, False], ids=["store", "no store"])
def test_a_document_is_the_normalised_mean_of_its_lines(
    bert: Path, tmp_path: Path, kept: bool
) -> None:
    encoder = CachedEncoder(settings(bert), tmp_path / "vectors.sqlite" if kept else None)
    lines = encoder.encode(["guitar", "loud drum", "child"], "document").dense
    found = encoder.encode_documents(["guitar\nloud drum\nchild", "loud drum", "child\nchild"])
    mean = lines.mean(axis=0)
    np.testing.assert_allclose(found.dense[0], mean / np.linalg.norm(mean), atol=1e-6)
    np.testing.assert_allclose(found.dense[1:], lines[1:], atol=1e-6)
    assert found.dense.dtype == np.float32


def test_many_kept_vectors_are_read_in_their_order(tmp_path: Path) -> None:
    texts = [f"{n:04d}" + "x" * (n % 7) for n in range(2500)]
    encoder = CachedEncoder(Recorder(), tmp_path / "vectors.sqlite")
    for _ in range(2):
        found = encoder.encode(texts, "document").dense
        assert found.ravel().tolist() == [len(text) for text in texts]


@pytest.mark.parametrize("kept", [True, False], ids=["store", "no store"])
def test_no_texts_have_no_vectors(bert: Path, tmp_path: Path, kept: bool) -> None:
    encoder = CachedEncoder(settings(bert), tmp_path / "vectors.sqlite" if kept else None)
    assert encoder.encode([], "query").dense.shape == (0, tiny_models.WIDTH)
    assert encoder.encode_documents([]).dense.shape == (0, tiny_models.WIDTH)


def test_a_description_opens_the_encoder_that_it_describes(bert: Path, tmp_path: Path) -> None:
    by_name = load_encoder(described(tmp_path / "elsewhere", settings(bert)))
    assert by_name.model_hash == load_encoder(settings(bert)).model_hash
    inside = tiny_models.bert(tmp_path / "inside", seed=3)
    tiny_models.describe(inside, settings(Path(".")), load_encoder(settings(inside)))
    moved = inside.rename(tmp_path / "moved")
    assert load_encoder(moved).model_hash == load_encoder(settings(moved)).model_hash


@pytest.mark.parametrize(("kind", "half"), [("sentence_transformers", "bf16"), ("bge_m3", "fp16")])
def test_what_auto_came_to_is_kept_where_it_comes_to_something_else(
    kind: str, half: str, tmp_path: Path
) -> None:
    make = tiny_models.bge_m3 if kind == "bge_m3" else tiny_models.bert
    model = make(tmp_path / "model")
    on_gpu = load_encoder(settings(model, kind, precision=half))
    tiny_models.describe(tmp_path, settings(model, kind, precision="auto"), on_gpu)
    moved = load_encoder(tmp_path)
    assert (moved.precision, moved.model_hash) == (half, on_gpu.model_hash)
    assert moved.encode(["harp"], "query").dense.shape == (1, on_gpu.dimension)


def test_weights_that_changed_are_refused(tmp_path: Path) -> None:
    model = tiny_models.bert(tmp_path / "model", seed=0)
    folder = described(tmp_path / "about", settings(model))
    tiny_models.bert(model, seed=1)
    with pytest.raises(UserError, match="weights or settings changed"):
        load_encoder(folder)


def test_a_folder_without_description_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no encoder\.json"):
        CachedEncoder(tmp_path).encode(["harp"], "query")
