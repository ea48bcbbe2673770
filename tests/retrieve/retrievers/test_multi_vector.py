"""Late interaction and the weighted sum, by hand and against FlagEmbedding."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from stages.core.determinism import torch_device
from stages.core.log import UserError
from stages.core.params import Encoder, Fit, MultiVector, OutputWeights, RetrieverName
from stages.encode.embed import embeddings_frame
from stages.encode.encoders import CachedEncoder, Encoded
from stages.encode.encoders.base import Kind
from stages.retrieve.retrievers import TrainingData, late_interaction, make_retriever
from stages.retrieve.retrievers.late_interaction import TokenVectors
from stages.retrieve.retrievers.multi_vector import HybridIndex, MultiVectorRetriever
from tests.encode import tiny_models
from tests.retrieve.conftest import OWN, TEXTS, TWINS, documents, queries, vectors

ITEMS = [
    np.array([[1, 0]], np.float16),
    np.array([[0.6, 0.8], [0, 1]], np.float16),
    np.array([[0, -1], [-1, 0], [0, -1]], np.float16),
]
ASKED = np.array([[1, 0], [0, 1]], np.float16)


def column(items: list[np.ndarray]) -> pl.Series:
    kind = pl.List(pl.Array(pl.Float16, items[0].shape[1]))
    return pl.Series([item.tolist() for item in items], dtype=kind)


def test_max_sim_by_hand() -> None:
    of = TokenVectors.of(column(ITEMS))
    # The first token is nearest to (1, 0), (0.6, 0.8) and (0, -1); the second to (1, 0), (0, 1),
    # and (-1, 0).
    expected = [(1 + 0) / 2, (0.6 + 1) / 2, (0 + 0) / 2]
    np.testing.assert_allclose(of.max_sim(ASKED, np.arange(3)), expected, atol=3e-4)
    assert of.max_sim(ASKED, np.array([2, 0])).tolist() == [0, 0.5]
    assert of.max_sim(ASKED, np.array([], int)).tolist() == []
    assert of.only(np.array([True, False, True])).max_sim(ASKED, np.arange(2)).tolist() == [0.5, 0]


def drawn(count: int, width: int = 16) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    made = [rng.normal(size=(rng.integers(1, 9), width)) for _ in range(count)]
    return [
        (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16) for rows in made
    ]


def test_max_sim_is_flagembedding_s(bge_m3_peer, monkeypatch: pytest.MonkeyPatch) -> None:
    items, asked = drawn(40), drawn(3)
    of = TokenVectors.of(column(items))
    order = np.random.default_rng(0).permutation(40)
    for query in asked:
        expected = [
            float(bge_m3_peer.colbert_score(query.astype(np.float32), items[n].astype(np.float32)))
            for n in order
        ]
        found = of.max_sim(query, order)
        np.testing.assert_allclose(found, expected, atol=1e-6)
        monkeypatch.setattr(late_interaction, "_AT_ONCE", {"cpu": 11, "cuda": 11})
        np.testing.assert_allclose(of.max_sim(query, order), found, atol=1e-12)
        monkeypatch.undo()


def test_vectors_that_were_saved_stay_on_disk(tmp_path: Path) -> None:
    of = TokenVectors.of(column(ITEMS))
    of.save(tmp_path)
    loaded = TokenVectors.load(tmp_path)
    assert isinstance(loaded._vectors, np.memmap)
    assert isinstance(loaded.only(np.array([True, False, True]))._vectors, np.memmap)
    assert loaded.max_sim(ASKED, np.arange(3)).tolist() == of.max_sim(ASKED, np.arange(3)).tolist()
    # 2 bytes a number, 6 tokens of 2.
    assert loaded._vectors.nbytes == 24


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.bge_m3(tmp_path_factory.mktemp("bge_m3"))


@pytest.fixture(scope="session")
def bge_m3_peer(model: Path):
    from FlagEmbedding import BGEM3FlagModel

    return BGEM3FlagModel(str(model), use_fp16=False, devices=[torch_device()])


def fitted(model: Path, **params: object) -> MultiVectorRetriever:
    settings = tiny_models.settings(model, kind="bge_m3", multi_vector=True)
    encoder = CachedEncoder(settings)
    known = documents()
    encoded = encoder.encode_documents(known["text"].to_list(), multi=True)
    keyed = known.with_columns(window=pl.lit("train"))
    frame = embeddings_frame(keyed, encoded, encoder.model.model_hash)
    made = MultiVectorRetriever(MultiVector.model_validate(params))
    made.fit(TrainingData(known, frame, encoder))
    return made


@pytest.mark.parametrize(
    "weights",
    [(1.0, 0.3, 1.0), (0.15, 0.5, 0.35), (0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)],
    ids=["paper", "paper, long documents", "late interaction", "lexical", "dense"],
)
def test_scores_are_flagembedding_s(
    weights: tuple[float, float, float], model: Path, bge_m3_peer
) -> None:
    """`compute_score` divides by the sum of the weights."""
    names = dict(zip(("dense", "sparse", "multi_vector"), weights, strict=True))
    words = ["loud drum of wood", "pedal metal", OWN[2]]
    found = fitted(model, weights=names).retrieve(queries(words), 100)
    assert found.height == len(words) * len(TEXTS)
    asked = {f"q{n:02d}": text for n, text in enumerate(words)}
    pairs = [(asked[query], TEXTS[item]) for query, item in found[:, :2].iter_rows()]
    scores = bge_m3_peer.compute_score(
        pairs, max_query_length=32, max_passage_length=32, weights_for_different_modes=list(weights)
    )
    expected = np.array(scores["colbert+sparse+dense"]) * sum(weights)
    np.testing.assert_allclose(found["score"].to_numpy(), expected, atol=2e-3)
    assert max(expected) > min(expected) + 0.02


def by_hand(k: int, tokens: np.ndarray = ASKED, **params: object) -> tuple[list[int], list[float]]:
    """Score one query against three items: the first is near it, the second holds its token."""
    dense = np.array([[0.6, 0.8], [0.8, -0.6], [-0.6, -0.8]], np.float32)
    encoded = Encoded(dense, [{"b": 1.0}, {"a": 0.5}, {"c": 4.0}], ITEMS)
    keyed = pl.DataFrame({"window": ["train"] * 3, "item_id": ["x", "y", "z"], "text": ["?"] * 3})
    frame = embeddings_frame(keyed, encoded, "by hand")
    index = HybridIndex.of(*(frame[column] for column in MultiVectorRetriever.reads))
    asked = Encoded(np.array([[0.6, 0.8]], np.float32), [{"a": 2.0}], [tokens])
    [items], [scores] = index.search(asked, k, MultiVector.model_validate(params))
    return items.tolist(), scores.tolist()


def test_the_weighted_sum_by_hand() -> None:
    weights = {"dense": 2.0, "sparse": 0.5, "multi_vector": 3.0}
    items, scores = by_hand(3, weights=weights)
    assert items == [0, 1, 2]
    # 2 * 1 + 0 + 3 * 0.5; 2 * 0 + 0.5 * (2 * 0.5) + 3 * 0.8; 2 * -1 + 0 + 3 * 0.
    assert scores == pytest.approx([3.5, 2.9, -2.0], abs=1e-3)


def test_candidates_are_the_best_of_either_search() -> None:
    weights = {"dense": 0.0, "sparse": 0.0, "multi_vector": 1.0}
    # By dense vectors the first, by tokens the second; the third would be the best.
    for depth, best, score in ((1, 1, -0.4), (3, 2, 1)):
        items, scores = by_hand(1, -ASKED, depth=depth, weights=weights)
        assert items == [best]
        assert scores == pytest.approx([score], abs=1e-3)


def test_as_many_as_asked_for_also_beyond_depth(model: Path) -> None:
    assert by_hand(3, depth=1)[0] == [0, 1, 2]
    asked = queries(["pedal metal", OWN[2], "loud drum of wood"])
    found = fitted(model, depth=1, block=2).retrieve(asked, 5)
    assert found.group_by("query_id").len()["len"].to_list() == [5, 5, 5]
    assert found.equals(fitted(model, depth=5).retrieve(asked, 5))


def test_of_so_many_queries_at_once_vectors_are_held(model: Path) -> None:
    class Noting(CachedEncoder):
        def encode(self, texts: Sequence[str], kind: Kind, multi: bool = False) -> Encoded:
            asked.append(len(texts))
            return super().encode(texts, kind, multi)

    asked: list[int] = []
    words = ["pedal metal", None, OWN[2], "loud drum of wood", OWN[1], OWN[0]]
    found = {}
    for block in (2, 512):
        made = fitted(model, block=block)
        made._encoder = Noting(made._encoder.model)
        found[block] = made.retrieve(queries(words), 4)
    assert asked == [2, 2, 1, 5]
    assert_frame_equal(found[2], found[512], abs_tol=1e-5)


def test_twins_beyond_depth_go_by_item_id(model: Path) -> None:
    found = fitted(model, depth=1).retrieve(queries(["pedal metal"]), 1)
    assert found["item_id"].to_list() == [TWINS[0]]


def test_weights_that_are_all_zero_are_refused() -> None:
    with pytest.raises(ValueError, match="one of dense, sparse and multi_vector must be over 0"):
        OutputWeights(dense=0, sparse=0, multi_vector=0)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("sparse", r"carry no sparse; set encoder\.kind: bge_m3"),
        ("multi_vector", r"no sparse and no multi_vector; set .* and encoder\.multi_vector: true"),
    ],
)
def test_outputs_that_are_missing_are_named_with_what_makes_them(
    name: RetrieverName, remedy: str
) -> None:
    without = TrainingData(documents(), vectors(), CachedEncoder(Encoder()))
    with pytest.raises(UserError, match=remedy):
        make_retriever(name, Fit()).fit(without)


def test_of_no_items_nothing_is_found(model: Path) -> None:
    nothing = fitted(model).only(pl.Series([], dtype=pl.String))
    assert nothing.retrieve(queries(["pedal metal"]), 5).is_empty()
