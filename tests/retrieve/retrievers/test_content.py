"""Content by hand: fusion, whitening, decay; a checkerboard; new items, and those without parts."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.core.log import UserError
from stages.core.params import Content
from stages.core.tables import QUERIES
from stages.retrieve.retrievers import TrainingData
from stages.retrieve.retrievers.content import ContentRetriever
from stages.retrieve.retrievers.description import fuse, whitened
from tests.retrieve.conftest import START, queries

Vectors = dict[str, list[float]]
CROSS: Vectors = {"n": [0, 1], "e": [1, 0], "s": [0, -1], "w": [-1, 0]}
"""Their mean is 0, so that centring leaves them; the mean square of their cosines is 1/3."""
LINE: Vectors = {"n": [1.0], "e": [1.0], "s": [-1.0], "w": [-1.0]}
"""Their mean is 0; the mean square of their cosines is 1."""


def frame(vectors: Vectors) -> pl.DataFrame:
    width = len(next(iter(vectors.values()))) if vectors else 0
    return pl.DataFrame(
        {"item_id": list(vectors), "vector": list(vectors.values())},
        {"item_id": pl.String, "vector": pl.Array(pl.Float32, width)},
    )


def fitted(
    texts: Vectors | None, pictures: Vectors | None = None, **params: Any
) -> ContentRetriever:
    made = ContentRetriever(Content(**{"whitening": 0, **params}))
    given_text, given_pictures = (None if v is None else frame(v) for v in (texts, pictures))
    made.fit(TrainingData(pl.DataFrame(), embeddings=given_text, pictures=given_pictures))
    return made


def asked(*past: tuple[str, int]) -> pl.DataFrame:
    """One query whose history is (item, day)."""
    history = [{"item_id": item, "timestamp": START + timedelta(days=day)} for item, day in past]
    about = {"query_id": "q", "timestamp": START + timedelta(days=999), "history": history}
    return pl.DataFrame([dict.fromkeys(QUERIES.columns) | about], QUERIES.columns)


def scores(made: ContentRetriever, query: pl.DataFrame, k: int = 10) -> dict[str, float]:
    found = made.retrieve(query, k)
    return dict(zip(found["item_id"], found["score"], strict=True))


def near(expected: dict[str, float]) -> Any:
    return pytest.approx(expected, abs=1e-6)


def test_texts_alone_are_compared_by_cosine() -> None:
    assert scores(fitted(CROSS), asked(("n", 0))) == near({"e": 0, "s": -1, "w": 0})


def test_vectors_are_centred() -> None:
    moved = {item: [x + 5, y - 3] for item, (x, y) in CROSS.items()}
    assert scores(fitted(moved), asked(("n", 0))) == near({"e": 0, "s": -1, "w": 0})


def test_equally_spread_parts_are_weighted_as_said() -> None:
    swapped: Vectors = {"n": [0, 1], "e": [0, -1], "s": [1, 0], "w": [-1, 0]}
    found = scores(fitted(CROSS, swapped, picture_weight=0.3), asked(("n", 0)))
    # e: its text has cosine 0, its picture -1; s: its text -1, its picture 0.
    assert found == near({"w": 0, "e": -0.3, "s": -0.7})


def test_a_part_that_is_spread_wider_weighs_no_more_for_it() -> None:
    found = scores(fitted(CROSS, LINE, picture_weight=0.5), asked(("n", 0)))
    text, picture = 0.5 / (1 / 3) ** 0.5, 0.5 / 1
    a, b = text / (text + picture), picture / (text + picture)
    assert found == near({"e": b, "w": -b, "s": -a - b})


def test_an_item_with_one_part_is_compared_by_it() -> None:
    """Some pictures are missing; the mean of the others is 0 all the same."""
    seen: Vectors = {"n": [0, 1], "s": [0, -1]}
    cross = fitted(CROSS, seen, picture_weight=0.3)
    assert scores(cross, asked(("n", 0))) == near({"e": 0, "w": 0, "s": -1})
    # To w, which lacks it too, by the texts alone.
    assert scores(cross, asked(("e", 0))) == near({"n": 0, "s": 0, "w": -1})
    texts: Vectors = {"n": [0, 1], "s": [0, -1], "ne": [0.6, 0.8], "sw": [-0.6, -0.8]}
    found = scores(fitted(texts, seen, picture_weight=0.3), asked(("n", 0)))
    # Of the six pairs two have cosine -1, two 0.8 and two -0.8; that of the pictures has -1.
    text, picture = 0.7 / ((2 + 4 * 0.8**2) / 6) ** 0.5, 0.3
    known = (text / (text + picture)) ** 0.5
    assert found == near({"s": -1, "ne": 0.8 * known, "sw": -0.8 * known})


def test_pictures_alone_are_enough() -> None:
    assert scores(fitted(None, LINE), asked(("n", 0))) == near({"e": 1, "s": -1, "w": -1})
    assert scores(fitted({}, LINE), asked(("n", 0))) == near({"e": 1, "s": -1, "w": -1})


@pytest.mark.parametrize("weight", [0, 1])
def test_a_part_without_weight_speaks_only_where_it_is_alone(weight: int) -> None:
    """With weight 0 for one part, items that have only it are compared by it."""
    texts, pictures = CROSS, {"x": [1.0], "y": [1.0], "n": [-1.0], "e": [-1.0]}
    made = fitted(texts, pictures, picture_weight=weight)
    assert scores(made, asked(("x", 0)))["y"] == pytest.approx(1, abs=1e-4)
    expected = {"e": 0, "s": -1} if weight == 0 else {"e": 1, "s": 0}
    found = scores(made, asked(("n", 0)))
    assert {item: found[item] for item in expected} == pytest.approx(expected, abs=1e-4)


def test_whitening_by_hand() -> None:
    points = [(2, 0), (0, 1), (1, 1), (1, -1)]
    vectors = {f"+{n}": [float(x), float(y)] for n, (x, y) in enumerate(points)}
    vectors |= {f"-{n}": [-float(x), -float(y)] for n, (x, y) in enumerate(points)}
    ids, found = whitened(frame(vectors), 0.5)
    # Variances 12/8 and 6/8; two more points of variance (1.5 + 0.75) / 2 beside the eight.
    across, along = 1.5 + 1.125 * 2 / 8, 0.75 + 1.125 * 2 / 8
    expected = np.array([across**-0.25, along**-0.25])
    place = ids.to_list().index("+2")
    np.testing.assert_allclose(found[place], expected / np.linalg.norm(expected), atol=1e-9)
    _, plain = whitened(frame(vectors), 0)
    np.testing.assert_allclose(plain[place], np.full(2, 0.5**0.5), atol=1e-9)


@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.5, 1.0]), st.booleans())
@settings(max_examples=25, deadline=None)
def test_turning_moving_and_scaling_a_part_changes_nothing(
    seed: int, whitening: float, flat: bool
) -> None:
    rng = np.random.default_rng(seed)
    count, width = int(rng.integers(2, 12)), int(rng.integers(2, 6))
    points = rng.normal(size=(count, width))
    points[:, -1] *= 0.0 if flat else 1.0  # Directions in which nothing lies do no harm.
    turn = np.linalg.qr(rng.normal(size=(width, width)))[0]
    both = []
    for made in (points, 3 * points @ turn + rng.normal(size=width)):
        named: Vectors = {f"i{n:02d}": row.tolist() for n, row in enumerate(made)}
        ids, vectors = fuse([(frame(named), 1.0)], Content(whitening=whitening))
        assert len(ids) == count
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
        both.append(vectors @ vectors.T)
    np.testing.assert_allclose(both[0], both[1], atol=1e-3)


def test_the_newest_of_the_history_counts_most() -> None:
    # (0.5 n + e) / |0.5 n + e|
    found = scores(fitted(CROSS, recency=0.5), asked(("n", 1), ("e", 5)))
    assert found == near({"s": -0.5 / 1.25**0.5, "w": -1 / 1.25**0.5})
    together = scores(fitted(CROSS, recency=0.5), asked(("n", 5), ("e", 5)))
    assert together == near({"s": -(0.5**0.5), "w": -(0.5**0.5)})


def test_older_moments_than_max_history_are_not_read_but_not_given_either() -> None:
    found = scores(fitted(CROSS, max_history=1), asked(("n", 1), ("e", 5)))
    assert found == near({"s": 0, "w": -1})


def test_a_history_that_cancels_out_finds_nothing() -> None:
    assert scores(fitted(CROSS), asked(("n", 5), ("s", 5))) == {}


def test_what_one_has_comes_again_only_if_it_may() -> None:
    found = scores(fitted(CROSS, repeat=True), asked(("n", 0)))
    assert found == near({"n": 1, "e": 0, "s": -1, "w": 0})


def test_items_without_a_vector_are_neither_found_nor_read() -> None:
    made = fitted(CROSS)
    assert scores(made, asked(("gone", 3))) == {}
    # What is unknown was a moment all the same.
    found = scores(fitted(CROSS, recency=0.5), asked(("n", 1), ("gone", 2), ("e", 3)))
    assert found == near({"s": -0.25 / 1.0625**0.5, "w": -1 / 1.0625**0.5})


@pytest.mark.parametrize("vectors", [{}, {"a": [1.0, 2.0]}, {"a": [1.0, 2.0], "b": [1.0, 2.0]}])
def test_where_all_items_are_alike_nothing_is_found(vectors: Vectors, tmp_path: Path) -> None:
    made = fitted(vectors, whitening=0.5)
    assert scores(made, asked(("a", 0))) == {}
    made.save(tmp_path)
    assert scores(ContentRetriever.load(tmp_path), asked(("a", 0))) == {}


def checkerboard(rng: np.random.Generator, side: int = 20) -> Vectors:
    """Items of even number lie around one point, odd ones around another."""
    noise = rng.normal(size=(side, 8))
    return {f"i{n:02d}": [3.0 * (n % 2), *noise[n]] for n in range(side)}


@pytest.mark.parametrize("fusion", ["weighted", "concatenated"])
def test_half_of_a_group_finds_the_rest_of_it(fusion: str) -> None:
    rng = np.random.default_rng(0)
    texts, pictures = checkerboard(rng), checkerboard(rng)
    for item in ("i03", "i08"):
        del texts[item], pictures[f"i{int(item[1:]) + 1:02d}"]
    made = fitted(texts, pictures, fusion=fusion, dims=2)
    for start in (0, 1):
        half = [f"i{n:02d}" for n in range(start, 10, 2)]
        found = made.retrieve(queries([None], [half]), 5)
        assert sorted(found["item_id"]) == [f"i{n:02d}" for n in range(10 + start, 20, 2)]


def test_an_item_that_nobody_chose_yet_is_found() -> None:
    """No event is read at all: the history is the asker's own."""
    vectors = {"old": [1, 0.1], "new": [1, 0], "far": [-1, 0.2], "up": [0, 1], "down": [0, -1]}
    assert next(iter(scores(fitted(vectors), asked(("old", 0))))) == "new"


def test_all_components_keep_all_cosines_and_fewer_keep_the_largest() -> None:
    rng = np.random.default_rng(1)
    parts = [(frame(checkerboard(rng)), 0.7), (frame(checkerboard(rng)), 0.3)]
    ids, wide = fuse(parts, Content())
    same, turned = fuse(parts, Content(fusion="concatenated", dims=1000))
    assert ids.equals(same)
    np.testing.assert_allclose(turned @ turned.T, wide @ wide.T, atol=1e-5)
    _, few = fuse(parts, Content(fusion="concatenated", dims=3))
    u, s, _ = np.linalg.svd(wide.astype(float), full_matrices=False)
    expected = u[:, :3] * s[:3]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(few @ few.T, expected @ expected.T, atol=1e-4)


@pytest.mark.parametrize("fusion", ["weighted", "concatenated"])
def test_equal_inputs_give_equal_bytes(fusion: Any, tmp_path: Path) -> None:
    texts, pictures = (checkerboard(np.random.default_rng(n)) for n in (1, 2))
    for name, turn in (("a", 1), ("b", -1)):
        made = fitted(
            *(dict(list(v.items())[::turn]) for v in (texts, pictures)), fusion=fusion, dims=4
        )
        (tmp_path / name).mkdir()
        made.save(tmp_path / name)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


@pytest.mark.parametrize("fusion", ["weighted", "concatenated"])
def test_other_ids_for_the_same_items_give_the_same_scores(fusion: Any) -> None:
    rng = np.random.default_rng(2)
    texts, pictures = checkerboard(rng), checkerboard(rng)
    names = dict(zip(texts, rng.permutation([f"x{n}" for n in range(20)]).tolist(), strict=True))
    options: Any = {"fusion": fusion, "dims": 4, "whitening": 0.5}
    before = scores(fitted(texts, pictures, **options), asked(("i03", 1), ("i05", 2)), 18)
    renamed = [{names[item]: row for item, row in v.items()} for v in (texts, pictures)]
    after = scores(fitted(*renamed, **options), asked((names["i03"], 1), (names["i05"], 2)), 18)
    assert {names[item]: score for item, score in before.items()} == pytest.approx(after, abs=1e-4)
    assert [names[item] for item in before] == list(after)


@pytest.mark.parametrize("index", ["exact", "flat", "ivf", "hnsw", "chroma"])
def test_a_long_history_still_leaves_k_items(index: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    vectors: Vectors = {
        f"i{n:04d}": row.tolist() for n, row in enumerate(rng.normal(size=(500, 8)))
    }
    made = fitted(vectors, index=index)
    made.save(tmp_path)
    past = [f"i{n:04d}" for n in range(0, 400, 2)]
    for retriever in (made, ContentRetriever.load(tmp_path)):
        found = retriever.retrieve(queries([None, None], [past, past[:1]]), 20)
        counts = dict(found["query_id"].value_counts().iter_rows())
        assert counts == {"q00": 20, "q01": 20}
        assert set(found.filter(query_id="q00")["item_id"]).isdisjoint(past)


def test_without_vectors_it_says_so() -> None:
    with pytest.raises(UserError, match="content needs embeddings or pictures"):
        ContentRetriever(Content()).fit(TrainingData(pl.DataFrame()))
