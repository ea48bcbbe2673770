"""Fusion of candidates: sums by hand, what is missing, weights and their figure."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.core import metrics, storage, tables
from stages.evaluate.checks.lists import disordered
from stages.retrieve.blending.fusion import Fusion, figures_of, simplex

Method = Literal["rrf", "weighted", "interleave"]
Lists = dict[str, dict[str, dict[str, float]]]


def candidates(lists: Lists) -> pl.DataFrame:
    """A candidates table of retriever -> query -> item -> score."""
    rows = [
        {"query_id": query, "item_id": item, "retriever": name, "rank": rank, "score": score}
        for name, queries in lists.items()
        for query, items in queries.items()
        for rank, (item, score) in enumerate(
            sorted(items.items(), key=lambda pair: (-pair[1], pair[0])), start=1
        )
    ]
    return pl.DataFrame(rows, tables.CANDIDATES.columns)


TWO = candidates(
    {
        "x": {"q": {"a": 3.0, "b": 2.0, "c": 1.0}, "only x": {"a": 1.0}},
        "y": {"q": {"c": 9.0, "d": 5.0}},
    }
)


def scores(fusion: Fusion, query: str = "q", k: int = 10) -> dict[str, float]:
    found = tables.check(fusion.blend(TWO, k), tables.CANDIDATES).filter(query_id=query)
    assert found["retriever"].unique().to_list() == ["blend"]
    assert found.sort("rank")["rank"].to_list() == list(range(1, found.height + 1))
    return dict(found.sort("rank").select("item_id", "score").iter_rows())


def test_reciprocal_rank_fusion_by_hand() -> None:
    found = scores(Fusion("rrf", {"x": 0.5, "y": 0.5}, rrf_k=60))
    expected = {
        "c": 0.5 / 63 + 0.5 / 61,
        "a": 0.5 / 61,
        "b": 0.5 / 62,
        "d": 0.5 / 62,
    }
    assert list(found) == ["c", "a", "b", "d"]  # b and d tie
    assert found == pytest.approx(expected, rel=1e-6)


def test_a_weighted_sum_by_hand() -> None:
    """Scores 3, 2, 1 standardise to ±1.2247 and 0, scores 9, 5 to ±1; a missing one is least."""
    high = math.sqrt(1.5)
    found = scores(Fusion("weighted", {"x": 0.6, "y": 0.4}))
    expected = {
        "a": 0.6 * high - 0.4,
        "b": -0.4,
        "c": -0.6 * high + 0.4,
        "d": -0.6 * high - 0.4,
    }
    assert list(found) == ["a", "c", "b", "d"]
    assert found == pytest.approx(expected, rel=1e-6)


def test_lists_taken_in_turn_by_hand() -> None:
    """x gives a, b, c and y gives c, d; what one has given the other does not give again."""
    assert list(scores(Fusion("interleave", {"x": 0.5, "y": 0.5}))) == ["a", "c", "b", "d"]
    # Three of x to one of y: due at 2/3, 2, 10/3 and at 2, 6.
    found = scores(Fusion("interleave", {"x": 0.75, "y": 0.25}))
    assert list(found) == ["a", "b", "c", "d"]
    expected = {"a": 0.75 / 0.5, "b": 0.75 / 1.5, "c": 0.25 / 0.5, "d": 0.25 / 1.5}
    assert found == pytest.approx(expected, rel=1e-5)


def test_a_list_without_weight_comes_after_the_others() -> None:
    found = scores(Fusion("interleave", {"x": 1.0, "y": 0.0}))
    assert list(found) == ["a", "b", "c", "d"]


def test_the_only_find_of_a_retriever_counts() -> None:
    lists: Lists = {"x": {"q": {"a": 3.0, "b": 2.0, "c": 1.0}}, "y": {"q": {"z": 5.0}}}
    found = Fusion("weighted", {"x": 0.2, "y": 0.8}).blend(candidates(lists), 10)
    assert found.sort("rank")["item_id"].to_list() == ["z", "a", "b", "c"]


@pytest.mark.parametrize("method", ["rrf", "weighted", "interleave"])
def test_a_query_that_one_retriever_did_not_answer(method: Method) -> None:
    found = scores(Fusion(method, {"x": 0.5, "y": 0.5}), "only x")
    assert list(found) == ["a"]
    assert math.isfinite(found["a"])


@pytest.mark.parametrize("method", ["rrf", "weighted", "interleave"])
def test_retrievers_without_a_weight_and_weights_without_a_retriever(method: Method) -> None:
    assert "d" not in scores(Fusion(method, {"x": 1.0}))
    alone = Fusion(method, {"x": 1.0, "absent": 1.0}).blend(TWO, 10)
    places = ["query_id", "item_id", "rank"]
    assert alone.select(places).equals(Fusion(method, {"x": 1.0}).blend(TWO, 10).select(places))
    with_zero = Fusion(method, {"x": 1.0, "y": 0.0}).blend(TWO, 3).filter(query_id="q")
    assert with_zero["item_id"].to_list()[:2] == ["a", "b"]


@pytest.mark.parametrize("method", ["rrf", "weighted", "interleave"])
def test_a_retriever_without_weight_decides_what_others_leave_equal(method: Method) -> None:
    lists: Lists = {"x": {"known": {"a": 1.0}}, "hot": {"cold": {"a": 1.0, "b": 2.0, "c": 9.0}}}
    found = Fusion(method, {"x": 1.0, "hot": 0.0}).blend(candidates(lists), 10)
    cold = found.filter(query_id="cold").sort("rank")
    assert cold["item_id"].to_list() == ["c", "b", "a"]


def test_a_head_and_a_tail_by_hand() -> None:
    """x alone gives a, b, c, d and y alone c, d, a, b: what the head has the tail has not again."""
    fusion = Fusion("rrf", {"x": 1.0, "y": 0.0}, head=1, tail={"x": 0.0, "y": 1.0})
    found = scores(fusion)
    assert list(found) == ["a", "c", "d", "b"]
    assert list(found.values()) == sorted(set(found.values()), reverse=True)
    assert found["a"] == scores(Fusion("rrf", {"x": 1.0, "y": 0.0}))["a"]
    assert list(scores(replace(fusion, head=3))) == ["a", "b", "c", "d"]
    assert list(scores(fusion, k=2)) == ["a", "c"]
    assert list(scores(fusion, "only x")) == ["a"]
    assert list(scores(fusion.among(["x"]))) == ["a", "b", "c"]


def test_no_more_than_k() -> None:
    assert list(scores(Fusion("rrf", {"x": 0.5, "y": 0.5}), k=2)) == ["c", "a"]


def test_nothing_joins_to_nothing() -> None:
    found = Fusion("weighted", {"x": 0.5, "y": 0.5}).blend(TWO.clear(), 5)
    assert tables.check(found, tables.CANDIDATES).is_empty()


def test_saved_and_loaded(tmp_path: Path) -> None:
    fusion = Fusion("rrf", {"x": 0.25, "y": 0.75}, rrf_k=13.0, origin="set")
    for each in (fusion, replace(fusion, head=20, tail={"x": 1.0, "y": 0.0})):
        each.save(tmp_path / "blend.json")
        assert Fusion.load(tmp_path / "blend.json") == each


def test_a_file_that_does_not_say_where_weights_are_from_is_of_tuned_ones(tmp_path: Path) -> None:
    older = {"method": "rrf", "weights": {"x": 1.0}, "rrf_k": 60.0}
    storage.write_json(tmp_path / "blend.json", older)
    assert Fusion.load(tmp_path / "blend.json") == Fusion("rrf", {"x": 1.0}, origin="tuned")


items = st.sampled_from("abcdefgh")
one_list = st.dictionaries(items, st.integers(-3, 3).map(float), max_size=8)
queries = st.fixed_dictionaries({"q1": one_list, "q2": one_list, "q3": one_list})


@given(queries, st.sampled_from(["rrf", "weighted", "interleave"]))
def test_the_blend_of_one_retriever_keeps_its_order(
    lists: dict[str, dict[str, float]], method: Method
) -> None:
    mine = candidates({"x": lists})
    found = Fusion(method, {"x": 1.0}).blend(mine, 100)
    key = ["query_id", "item_id", "rank"]
    assert found.select(key).sort(key).equals(mine.select(key).sort(key))


@given(
    queries,
    queries,
    st.sampled_from(["rrf", "weighted", "interleave"]),
    st.integers(1, 9),
    st.sampled_from(simplex(["x", "y"], 2)),
    st.sampled_from(simplex(["x", "y"], 2)),
)
def test_a_head_is_that_of_its_weights_and_a_tail_keeps_the_order_of_its_own(
    xs: dict[str, dict[str, float]],
    ys: dict[str, dict[str, float]],
    method: Method,
    head: int,
    weights: dict[str, float],
    tail: dict[str, float],
) -> None:
    mine = candidates({"x": xs, "y": ys})
    both = Fusion(method, weights, head=head, tail=tail).blend(mine, 100)
    first, last = Fusion(method, weights).blend(mine, 100), Fusion(method, tail).blend(mine, 100)
    assert disordered(both).is_empty()
    for query in ("q1", "q2", "q3"):
        found, one, other = (
            frame.filter(query_id=query).sort("rank")["item_id"].to_list()
            for frame in (both, first, last)
        )
        assert found[:head] == one[:head]
        assert found[head:] == [item for item in other if item not in one[:head]]


@given(st.integers(1, 4), st.integers(1, 6))
def test_weights_sum_to_one_and_none_is_left_out(count: int, steps: int) -> None:
    names = [f"r{n}" for n in range(count)]
    grid = simplex(names, steps)
    assert len(grid) == math.comb(steps + count - 1, count - 1)
    assert len({tuple(weights.values()) for weights in grid}) == len(grid)
    for weights in grid:
        assert list(weights) == names
        assert sum(weights.values()) == pytest.approx(1, abs=1e-5)
        assert all(
            weight * steps == pytest.approx(round(weight * steps), abs=1e-4)
            for weight in weights.values()
        )


@given(
    st.fixed_dictionaries({"x": queries, "y": queries, "z": queries}),
    st.fixed_dictionaries(
        {name: st.lists(items, min_size=1, max_size=3, unique=True) for name in ("q1", "q2", "q3")}
    ),
    st.sampled_from(["rrf", "weighted", "interleave"]),
    st.sampled_from([1, 3, 10]),
)
@settings(max_examples=40, deadline=None)
def test_figures_of_fusions_are_those_of_their_lists(
    lists: Lists, targets: dict[str, list[str]], method: Method, cut: int
) -> None:
    names, mine = sorted(lists), candidates(lists)
    wanted = pl.DataFrame(list(targets.items()), ["query_id", "targets"], orient="row")
    rows = wanted.select("query_id", item_id="targets").explode("item_id")
    grid = simplex(names, 2)
    fusions = [Fusion(method, weights) for weights in grid]
    fusions += [replace(fusions[0], head=1, tail=weights) for weights in grid]
    parts = fusions[0].contributions(mine)
    for depth in (2, 5):
        found = figures_of(fusions, parts, rows, depth, cut)
        for fusion, ndcg, recall in zip(fusions, *found, strict=True):
            blended = fusion.blend(mine, 100)
            ranked = metrics.ranking_metrics(blended, wanted, [cut])
            assert ndcg == pytest.approx(ranked[f"ndcg@{cut}"].mean(), abs=1e-9)
            listed = metrics.retrieval_metrics(blended, wanted, [depth])
            assert recall == pytest.approx(listed[f"recall@{depth}"].mean(), abs=1e-9)


def test_no_candidates_have_no_figures_but_zero() -> None:
    fusion = Fusion("rrf", {"x": 1.0})
    parts = fusion.contributions(TWO.clear())
    targets = pl.DataFrame({"query_id": ["q"], "item_id": ["a"]})
    with_tail = replace(fusion, head=10, tail={"x": 1.0})
    np.testing.assert_array_equal(
        figures_of([fusion, with_tail], parts, targets, 9), [[0.0] * 2] * 2
    )
