"""BGE-M3's three kinds of output from its real loading path, on a random XLM-R of one layer."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from stages.core.determinism import torch_device
from stages.encode.encoders import CachedEncoder, Encoded, load_encoder
from stages.encode.encoders.batching import Copies
from stages.encode.encoders.bge_m3 import BgeM3Encoder, _lexical
from stages.encode.encoders.sentence_transformers import load_model
from tests.encode import tiny_models
from tests.encode.encoders.test_cached import entries, spent
from tests.encode.tiny_models import settings

TEXTS = ["guitar wood", "a loud drum for a child", "harp"]


def tokens(text: str) -> set[str]:
    """Token ids of a text without [CLS] and [SEP], as sparse keys are written."""
    words = tiny_models.tokenizer()
    return {str(token) for token in words(text, add_special_tokens=False)["input_ids"]}


def test_dense_sparse_and_multi_vector(bge_m3: Path, tmp_path: Path) -> None:
    store = tmp_path / "vectors.sqlite"
    params = settings(bge_m3, kind="bge_m3", multi_vector=True)
    encoder = CachedEncoder(params, store)
    found = encoder.encode(TEXTS, "document", multi=True)
    np.testing.assert_allclose(np.linalg.norm(found.dense, axis=1), 1, atol=1e-6)
    assert found.sparse is not None
    assert found.multi is not None
    for text, weights, vectors in zip(TEXTS, found.sparse, found.multi, strict=True):
        assert set(weights) == tokens(text)
        assert all(0.5 < weight < 1.5 for weight in weights.values())
        # One vector a token, [SEP] too; [CLS] is the dense vector's.
        assert vectors.shape == (len(tiny_models.tokenizer()(text).input_ids) - 1, 16)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=2e-3)

    # Of each text the vectors a token lie apart.
    assert entries(store) == 6
    again = spent(encoder, store).encode(TEXTS, "document", multi=True)
    assert again.dense.tobytes() == found.dense.tobytes()
    assert again.sparse == found.sparse
    assert again.multi is not None
    assert all(a.tobytes() == b.tobytes() for a, b in zip(again.multi, found.multi, strict=True))


def test_multi_vector_only_where_asked_for(bge_m3: Path) -> None:
    plain = load_encoder(settings(bge_m3, kind="bge_m3"))
    assert plain.encode(TEXTS, "query", multi=True).multi is None
    able = load_encoder(settings(bge_m3, kind="bge_m3", multi_vector=True))
    assert able.encode(TEXTS, "query").multi is None
    # What was encoded without vectors a token stays valid.
    assert able.model_hash == plain.model_hash


def test_vectors_a_token_are_made_and_kept_for_first_lines_alone(
    bge_m3: Path, tmp_path: Path
) -> None:
    store = tmp_path / "vectors.sqlite"
    encoder = CachedEncoder(settings(bge_m3, kind="bge_m3", multi_vector=True), store)
    texts = ["guitar wood\nloud\nharp", "loud\nharp", "guitar wood"]
    plain = encoder.encode_documents(texts)
    assert plain.multi is None
    assert entries(store) == 3
    found = encoder.encode_documents(texts, multi=True)
    assert entries(store) == 3 + 2
    assert found.multi is not None
    assert [len(vectors) for vectors in found.multi] == [3, 2, 3]
    assert found.multi[0].tobytes() == found.multi[2].tobytes()
    assert found.dense.tobytes() == plain.dense.tobytes()
    assert found.sparse == plain.sparse
    again = spent(encoder, store).encode_documents(texts, multi=True)
    assert again.multi is not None
    assert [v.tobytes() for v in again.multi] == [v.tobytes() for v in found.multi]
    first = CachedEncoder(encoder.model, tmp_path / "other.sqlite")
    assert first.encode_documents(texts, multi=True).dense.tobytes() == plain.dense.tobytes()
    assert entries(tmp_path / "other.sqlite") == 3 + 2


def test_a_document_s_sparse_weights_are_the_largest_over_its_lines(
    bge_m3: Path, tmp_path: Path
) -> None:
    params = settings(bge_m3, kind="bge_m3", multi_vector=True)
    encoder = CachedEncoder(params, tmp_path / "vectors.sqlite")
    lines = encoder.encode(["guitar wood", "wood drum"], "document", multi=True)
    found = encoder.encode_documents(["guitar wood\nwood drum"], multi=True)
    assert lines.sparse is not None
    assert lines.multi is not None
    first, second = lines.sparse
    largest = {t: max(first.get(t, 0), second.get(t, 0)) for t in first | second}
    assert found.sparse == [largest]
    assert found.multi is not None
    assert found.multi[0].tobytes() == lines.multi[0].tobytes()


def test_the_model_that_is_tuned_gives_the_same_dense_vectors(bge_m3: Path) -> None:
    """Tuning opens BGE-M3's weights as a sentence-transformers model."""
    params = settings(bge_m3, kind="bge_m3")
    model = load_model(params)
    vectors = model.encode(TEXTS, normalize_embeddings=True, show_progress_bar=False)
    np.testing.assert_allclose(vectors, load_encoder(params).encode(TEXTS, "query").dense, 0, 1e-5)


def many() -> list[str]:
    """Texts of 3 to 34 tokens, some of which fill their batch's length, some cut at 32."""
    words = tiny_models.WORDS
    return [" ".join((words * 2)[n : n + 1 + (7 * n) % 32]) for n in range(len(words))]


def same_bits(found: Encoded, expected: Encoded, rows: Sequence[int]) -> None:
    assert found.dense.tobytes() == np.ascontiguousarray(expected.dense[list(rows)]).tobytes()
    assert found.sparse is not None
    assert found.multi is not None
    assert expected.sparse is not None
    assert expected.multi is not None
    assert found.sparse == [expected.sparse[row] for row in rows]
    for mine, row in zip(found.multi, rows, strict=True):
        assert mine.tobytes() == expected.multi[row].tobytes()


@pytest.mark.parametrize("copies", [1, 3])
def test_every_output_has_the_same_bits_in_whatever_company(copies: int, tmp_path: Path) -> None:
    """By a model of MiniLM's width, whose sums may be cut otherwise in another shape."""
    texts = many()
    model = tiny_models.bge_m3(tmp_path, width=384)
    encoder = BgeM3Encoder(settings(model, kind="bge_m3", multi_vector=True))
    together = encoder.encode(texts, "document", fixed_shape=True, multi=True)
    module = encoder._copies.models[0]
    encoder._copies = Copies(module, [str(next(module.parameters()).device)] * copies)
    for rows in (range(3, 4), range(0, len(texts), 5), range(len(texts))[::-1]):
        part = [texts[row] for row in rows]
        alone = encoder.encode(part, "document", fixed_shape=True, multi=True)
        same_bits(alone, together, rows)
    assert len(encoder._copies.models) == copies


def test_every_output_is_what_flagembedding_encodes(bge_m3: Path) -> None:
    from FlagEmbedding import BGEM3FlagModel

    peer = BGEM3FlagModel(str(bge_m3), use_fp16=False, devices=[torch_device()])
    expected = peer.encode(
        many(), max_length=32, return_dense=True, return_sparse=True, return_colbert_vecs=True
    )
    encoder = load_encoder(settings(bge_m3, kind="bge_m3", multi_vector=True))
    for fixed in (True, False):
        found = encoder.encode(many(), "document", fixed_shape=fixed, multi=True)
        np.testing.assert_allclose(found.dense, expected["dense_vecs"], 0, 1e-5)
        assert found.sparse is not None
        assert found.multi is not None
        for mine, theirs in zip(found.sparse, expected["lexical_weights"], strict=True):
            assert mine == pytest.approx({token: float(w) for token, w in theirs.items()}, abs=1e-5)
        for vectors, others in zip(found.multi, expected["colbert_vecs"], strict=True):
            np.testing.assert_allclose(vectors.astype(np.float32), others, 0, 5e-4)


def test_a_token_has_its_largest_weight_and_signs_none() -> None:
    tokens = np.array([[2, 7, 5, 7, 3, 0], [2, 9, 3, 0, 0, 0]])
    weights = np.array([[0, 0.25, 0.5, 0.75, 0, 0], [0, 0, 0, 0, 0, 0]], np.float32)
    assert _lexical(tokens, weights) == [{"5": 0.5, "7": 0.75}, {}]


def test_gpus_where_there_is_none_are_passed_over_and_told(
    bge_m3: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    winnow = logging.getLogger("winnow")
    winnow.addHandler(caplog.handler)
    try:
        encoder = load_encoder(settings(bge_m3, kind="bge_m3", gpus=[0, 1]))
    finally:
        winnow.removeHandler(caplog.handler)
    assert "encoder.gpus [0, 1]: there is no CUDA here, the CPU encodes" in caplog.text
    plain = load_encoder(settings(bge_m3, kind="bge_m3"))
    assert encoder.model_hash == plain.model_hash
