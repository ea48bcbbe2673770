"""Encoders of kind sentence_transformers and minilm: vectors, lengths, hashes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers.normalizers import BertNormalizer

from stages.core.log import UserError
from stages.encode.encoders import load_encoder
from stages.encode.encoders.base import weights_hash
from stages.encode.encoders.sentence_transformers import SentenceTransformersEncoder, read_at_most
from tests.encode import tiny_models
from tests.encode.tiny_models import settings

TEXTS = ["guitar wood", "violin", "a drum that is loud", "guitar wood"]


def test_rows_are_float32_unit_vectors_in_the_order_of_texts(bert: Path) -> None:
    encoder = SentenceTransformersEncoder(settings(bert))
    dense = encoder.encode(TEXTS, "document").dense
    assert dense.dtype == np.float32
    assert dense.shape == (4, encoder.dimension)
    np.testing.assert_allclose(np.linalg.norm(dense, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(dense[0], dense[3], atol=1e-6)
    alone = np.concatenate([encoder.encode([text], "document").dense for text in TEXTS])
    np.testing.assert_allclose(dense, alone, atol=1e-6)
    assert encoder.encode([], "query").dense.size == 0


def test_queries_and_documents_are_cut_at_their_own_lengths(bert: Path) -> None:
    params = settings(bert, max_query_length=4, max_doc_length=6)
    encoder = SentenceTransformersEncoder(params)
    two, four = "guitar violin", "guitar violin drum flute"
    six = f"{four} piano harp"

    def same(left: str, right: str, kind: str) -> bool:
        rows = encoder.encode([left, right], kind).dense
        return bool(np.allclose(rows[0], rows[1], atol=1e-6))

    # Two tokens are [CLS] and [SEP].
    assert same(two, six, "query")
    assert same(four, six, "document")
    assert not same(two, six, "document")


@pytest.mark.parametrize("make", [tiny_models.bert, tiny_models.bge_m3])
def test_a_length_over_the_model_s_positions_is_cut_to_them(make, tmp_path: Path) -> None:
    """RoBERTa numbers positions from its padding index on, so that it reads fewer than it has."""
    made = make(tmp_path / "made", positions=12)
    model = made if make is tiny_models.bert else tiny_models.mean_pooled(made, tmp_path / "pooled")
    encoder = SentenceTransformersEncoder(settings(model, max_doc_length=500))
    dense = encoder.encode(["guitar " * 40], "document").dense
    assert np.isfinite(dense).all()


def test_a_static_model_is_an_encoder(static: Path) -> None:
    encoder = SentenceTransformersEncoder(settings(static, max_query_length=2))
    rows = encoder.encode(["guitar", "guitar wood", "drum"], "document").dense
    np.testing.assert_allclose(rows @ rows[0], [1, np.sqrt(0.5), 0], atol=1e-6)
    cut = encoder.encode(["guitar wood drum"], "query").dense
    np.testing.assert_allclose(rows @ cut[0], [np.sqrt(0.5), 1, 0], atol=1e-6)


def test_the_packaged_minilm_knows_what_texts_mean() -> None:
    encoder = load_encoder(settings(None, kind="minilm"))
    assert encoder.dimension == 384
    texts = ["A kitten rests on the rug.", "Shares fell on Monday."]
    about, unlike = (
        encoder.encode(texts, "document").dense
        @ (encoder.encode(["a cat lying on a carpet"], "query").dense[0])
    )
    assert about > 0.4
    assert unlike < 0.15


def test_the_hash_is_of_weights_and_lengths_but_not_of_the_folder(
    bert: Path, tmp_path: Path
) -> None:
    def hashed(model: Path, **options: int) -> str:
        return SentenceTransformersEncoder(settings(model, **options)).model_hash

    first = hashed(bert)
    assert hashed(tiny_models.bert(tmp_path / "same", seed=0)) == first
    assert hashed(bert, batch_size=3) == first
    others = {
        hashed(tiny_models.bert(tmp_path / "other", seed=1)),
        hashed(bert, max_query_length=31),
        hashed(bert, max_doc_length=31),
    }
    assert len(others | {first}) == 4


def test_the_hash_is_of_all_that_decides_vectors(bert: Path, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    def hashed(name: str, change: Callable[[Any], object]) -> str:
        model = SentenceTransformer(str(bert), device="cpu")
        change(model)
        model.save(str(tmp_path / name), create_model_card=False)
        return SentenceTransformersEncoder(settings(tmp_path / name)).model_hash

    def keep_case(model: Any) -> None:
        model.tokenizer.backend_tokenizer.normalizer = BertNormalizer(lowercase=False)

    def read_less(model: Any) -> None:
        read_at_most(model, 3)

    same = SentenceTransformersEncoder(settings(bert)).model_hash
    assert hashed("same", read_less) == same, "lengths are the parameters' to set"
    others = {
        hashed("pooling", lambda model: model.__setitem__(1, Pooling(16, pooling_mode="cls"))),
        hashed("prompts", lambda model: model.prompts.update(query="search: ")),
        hashed("tokenizer", keep_case),
    }
    assert len(others | {same}) == 4


def test_weights_of_every_shape_are_hashed() -> None:
    import torch

    def hashed(scalar: float) -> str:
        state = {"scale": torch.tensor(scalar), "bias": torch.zeros(2, dtype=torch.bfloat16)}
        return weights_hash(state)

    assert hashed(1.0) == hashed(1.0) != hashed(2.0)


def test_a_model_that_is_nowhere_is_named() -> None:
    with pytest.raises(UserError, match=r"encoder\.model '/no/such/model'"):
        load_encoder(settings(Path("/no/such/model")))
