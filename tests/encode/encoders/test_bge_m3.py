"""BGE-M3's three kinds of output from its real loading path, on a random XLM-R of one layer."""

from pathlib import Path

import numpy as np
import pytest

from stages.core.log import UserError
from stages.encode.encoders import CachedEncoder, load_encoder
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
    found = encoder.encode(TEXTS, "document")
    np.testing.assert_allclose(np.linalg.norm(found.dense, axis=1), 1, atol=1e-6)
    assert found.sparse is not None
    assert found.multi is not None
    for text, weights, vectors in zip(TEXTS, found.sparse, found.multi, strict=True):
        assert set(weights) == tokens(text)
        assert all(0.5 < weight < 1.5 for weight in weights.values())
        # One vector a token, [SEP] too; [CLS] is the dense vector's.
        assert vectors.shape == (len(tiny_models.tokenizer()(text).input_ids) - 1, 16)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=2e-3)

    assert entries(store) == 3
    again = spent(encoder, store).encode(TEXTS, "document")
    assert again.dense.tobytes() == found.dense.tobytes()
    assert again.sparse == found.sparse
    assert again.multi is not None
    assert all(a.tobytes() == b.tobytes() for a, b in zip(again.multi, found.multi, strict=True))


def test_multi_vector_only_where_asked_for(bge_m3: Path) -> None:
    plain = load_encoder(settings(bge_m3, kind="bge_m3"))
    assert plain.encode(TEXTS, "query").multi is None
    asked = load_encoder(settings(bge_m3, kind="bge_m3", multi_vector=True))
    assert asked.model_hash != plain.model_hash


def test_a_document_s_sparse_weights_are_the_largest_over_its_lines(
    bge_m3: Path, tmp_path: Path
) -> None:
    params = settings(bge_m3, kind="bge_m3", multi_vector=True)
    encoder = CachedEncoder(params, tmp_path / "vectors.sqlite")
    lines = encoder.encode(["guitar wood", "wood drum"], "document")
    found = encoder.encode_documents(["guitar wood\nwood drum"])
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


def test_a_model_that_is_nowhere_is_named() -> None:
    with pytest.raises(UserError, match="no/such"):
        load_encoder(settings(Path("no/such"), kind="bge_m3"))
