"""Item-kNN by hand, and what it must not depend on."""

from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from stages.core.log import UserError
from stages.core.params import ItemKnn
from stages.core.tables import EVENTS, QUERIES
from stages.retrieve.retrievers import TrainingData
from stages.retrieve.retrievers.item_knn import ItemKnnRetriever, _best
from tests.retrieve.conftest import START


def events(rows: list[tuple[str, str, int]]) -> pl.DataFrame:
    """(user, item, day) as events."""
    made = [(user, item, START + timedelta(days=day)) for user, item, day in rows]
    names = ("user_id", "item_id", "timestamp")
    return pl.DataFrame(made, {name: EVENTS.columns[name] for name in names}, orient="row")


def asked(*past: tuple[str, int]) -> pl.DataFrame:
    """One query whose history is (item, day), oldest first."""
    history = [{"item_id": item, "timestamp": START + timedelta(days=day)} for item, day in past]
    about = {"query_id": "q", "timestamp": START + timedelta(days=999), "history": history}
    return pl.DataFrame([dict.fromkeys(QUERIES.columns) | about], QUERIES.columns)


def fitted(rows: list[tuple[str, str, int]], **params: Any) -> ItemKnnRetriever:
    made = ItemKnnRetriever(ItemKnn(**params))
    made.fit(TrainingData(pl.DataFrame(), events=events(rows)))
    return made


def scores(made: ItemKnnRetriever, query: pl.DataFrame, k: int = 10) -> dict[str, float]:
    found = made.retrieve(query, k)
    return dict(zip(found["item_id"], found["score"], strict=True))


ROWS = [
    ("ann", "lens", 1),
    ("ann", "case", 3),
    ("ann", "strap", 3),
    ("ann", "bag", 9),
    ("bob", "lens", 2),
    ("bob", "bag", 4),
]


def test_what_follows_counts_by_the_gap_and_what_precedes_does_not() -> None:
    found = scores(fitted(ROWS, damping=0), asked(("lens", 0)))
    # Ann: case and strap one moment on, bag two; Bob: bag one moment on.
    assert found == pytest.approx({"bag": 1.5, "case": 1, "strap": 1}, rel=2e-4)
    assert scores(fitted(ROWS, damping=0), asked(("bag", 0))) == {}


def test_within_a_moment_each_goes_with_each() -> None:
    found = scores(fitted(ROWS, damping=0), asked(("strap", 0)))
    assert found == pytest.approx({"case": 1, "bag": 1}, rel=2e-4)


def test_counts_damp_both_sides() -> None:
    found = scores(fitted(ROWS, damping=0.5), asked(("lens", 0)))
    assert found == pytest.approx(
        {"bag": 1.5 / 2, "case": 1 / np.sqrt(2), "strap": 1 / np.sqrt(2)}, rel=2e-4
    )


def test_what_lies_beyond_the_window_does_not_count() -> None:
    found = scores(fitted(ROWS, damping=0, window=1), asked(("lens", 0)))
    assert found == pytest.approx({"bag": 1, "case": 1, "strap": 1}, rel=2e-4)


def test_the_newest_of_the_history_counts_most() -> None:
    rows = [("ann", "a", 1), ("ann", "x", 2), ("bob", "b", 1), ("bob", "y", 2)]
    made = fitted(rows, damping=0, recency=0.5)
    assert scores(made, asked(("a", 1), ("b", 5))) == pytest.approx({"y": 1, "x": 0.5}, rel=2e-4)
    assert scores(made, asked(("b", 1), ("a", 5))) == pytest.approx({"x": 1, "y": 0.5}, rel=2e-4)
    together = scores(made, asked(("a", 5), ("b", 5)))
    assert together == pytest.approx({"x": 1, "y": 1}, rel=2e-4)


def test_older_moments_than_max_history_are_not_read() -> None:
    rows = [("ann", "a", 1), ("ann", "x", 2), ("bob", "b", 1), ("bob", "y", 2)]
    made = fitted(rows, damping=0, max_history=1)
    assert scores(made, asked(("a", 1), ("b", 5))) == pytest.approx({"y": 1}, rel=2e-4)


def test_cosine_by_hand() -> None:
    found = scores(fitted(ROWS, similarity="cosine"), asked(("lens", 0)))
    half = 1 / np.sqrt(2)
    assert found == pytest.approx({"bag": 1, "case": half, "strap": half}, rel=2e-4)


def test_bm25_prefers_what_choosy_users_share() -> None:
    rows = [("few", "a", 1), ("few", "x", 1)]
    rows += [("many", item, 1) for item in ("a", "y", "p", "q", "r", "s")]
    found = scores(fitted(rows, similarity="bm25"), asked(("a", 0)))
    assert found["x"] > found["y"] > 0


@pytest.mark.parametrize("similarity", ["directional", "cosine", "bm25"])
def test_what_one_has_comes_again_only_if_it_may(similarity: str) -> None:
    rows = [*ROWS, ("cid", "bag", 1), ("cid", "lens", 2), ("dan", "tent", 1)]
    past = asked(("lens", 1), ("bag", 2))
    assert "bag" not in scores(fitted(rows, similarity=similarity), past)
    assert "bag" in scores(fitted(rows, similarity=similarity, repeat=True), past)


def test_of_equal_evidence_the_better_known_item_comes_first() -> None:
    rows = [("ann", "a", 1), ("ann", "x", 2), ("ann", "y", 2), ("bob", "y", 1)]
    assert list(scores(fitted(rows, damping=0), asked(("a", 1)))) == ["y", "x"]


def test_neighbours_are_the_nearest_and_their_equals() -> None:
    found = scores(fitted(ROWS, damping=0, neighbours=1), asked(("lens", 0)))
    assert list(found) == ["bag"]
    equal = fitted([("ann", "a", 1), ("ann", "x", 2), ("ann", "y", 2)], neighbours=1)
    assert list(scores(equal, asked(("a", 1)))) == ["x", "y"]


@pytest.mark.parametrize("similarity", ["directional", "cosine", "bm25"])
def test_nothing_leans_on_the_order_of_ids(similarity: str) -> None:
    rng = np.random.default_rng(5)
    names = [f"i{n:03d}" for n in range(80)]
    other = dict(zip(names, rng.permutation(names), strict=True))
    weights = rng.dirichlet(np.full(80, 0.3))
    rows = [
        (f"u{user:03d}", names[item], int(rng.integers(20)))
        for user in range(150)
        for item in rng.choice(80, 8, p=weights)
    ]
    past = [(names[n], int(n)) for n in rng.choice(80, 5, replace=False)]
    here = scores(fitted(rows, similarity=similarity), asked(*past), 80)
    renamed = [(f"v{user}", other[item], day) for user, item, day in rows]
    there = fitted(renamed, similarity=similarity)
    found = scores(there, asked(*((other[item], day) for item, day in past)), 80)
    assert {other[item]: score for item, score in here.items()} == pytest.approx(found, rel=1e-5)
    # Equal scores are rare enough that the lists are the same, too.
    assert [other[item] for item in list(here)[:10]] == list(found)[:10]


def test_without_events_it_says_so() -> None:
    with pytest.raises(UserError, match="item_knn needs events"):
        ItemKnnRetriever(ItemKnn()).fit(TrainingData(pl.DataFrame()))


def test_the_best_of_a_row_by_value_then_column() -> None:
    from scipy import sparse

    rng = np.random.default_rng(3)
    dense = rng.choice(np.array([0, 1e-30, 0.1, 0.5, 3e20], np.float32), (40, 33))
    columns, values = _best(sparse.csr_matrix(dense), 7)
    expected = np.argsort(-dense, axis=1, kind="stable")[:, :7]
    np.testing.assert_array_equal(values, np.take_along_axis(dense, expected, 1))
    np.testing.assert_array_equal(columns[values > 0], expected[values > 0])
