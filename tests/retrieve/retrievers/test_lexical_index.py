"""Inner products of lexical weights, against sums over dictionaries."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.retrieve.retrievers import lexical
from stages.retrieve.retrievers.lexical import LexicalIndex

Weights = dict[str, float]
ITEMS: list[Weights] = [
    {"a": 1.0, "b": 0.5},
    {"b": 2.0},
    {},
    {"c": 1.0, "a": 0.25},
    {"b": 2.0},
]


def column(items: list[Weights]) -> pl.Series:
    rows = [
        [{"token": token, "weight": weight} for token, weight in sorted(item.items())]
        for item in items
    ]
    kind = pl.List(pl.Struct({"token": pl.String, "weight": pl.Float32}))
    return pl.Series("sparse", rows, dtype=kind)


def index(items: list[Weights] = ITEMS) -> LexicalIndex:
    return LexicalIndex.of(column(items))


def found(of: LexicalIndex, asked: list[Weights], k: int) -> list[list[tuple[int, float]]]:
    rows, scores = of.search(of.queries(asked), k)
    return [
        [(int(row), float(score)) for row, score in zip(*pair, strict=True) if score > 0]
        for pair in zip(rows, scores, strict=True)
    ]


def test_by_hand() -> None:
    asked: list[Weights] = [{"a": 2.0, "b": 1.0}, {"c": 3.0, "unheard of": 9.0}, {"?": 1.0}, {}]
    # 2 + 0.5 = 2.5; 2; 0.5: items 1 and 4 score alike and go by their row.
    assert found(index(), asked, 3) == [[(0, 2.5), (1, 2.0), (4, 2.0)], [(3, 3.0)], [], []]
    assert found(index(), asked, 2)[0] == [(0, 2.5), (1, 2.0)]
    assert found(index(), asked, 99)[0] == [(0, 2.5), (1, 2.0), (4, 2.0), (3, 0.5)]


def test_scores_of_pairs_are_those_of_the_search() -> None:
    of = index()
    asked = of.queries([{"a": 2.0, "b": 1.0}, {"c": 3.0}])
    scores = of.scores(asked, np.array([0, 0, 0, 1, 1]), np.array([0, 2, 3, 3, 0]))
    assert scores.tolist() == [2.5, 0, 0.5, 3, 0]
    assert of.scores(asked, np.array([], int), np.array([], int)).shape == (0,)


@pytest.mark.parametrize("items", [[], [{}], [{}, {}]], ids=["none", "one", "two"])
def test_items_without_weights_are_not_found(items: list[Weights]) -> None:
    assert found(index(items), [{"a": 1.0}, {}], 3) == [[], []]


def test_no_query_finds_nothing() -> None:
    rows, scores = index().search(index().queries([]), 3)
    assert rows.shape == scores.shape == (0, 3)


def test_some_items_and_what_was_saved_answer_alike(tmp_path: Path) -> None:
    asked: list[Weights] = [{"a": 2.0, "b": 1.0, "c": 1.0}]
    some = index().only(np.array([False, True, False, True, True]))
    assert found(some, asked, 9) == [[(0, 2.0), (2, 2.0), (1, 1.5)]]
    some.save(tmp_path)
    assert found(LexicalIndex.load(tmp_path), asked, 9) == found(some, asked, 9)


# Quarters: their sums are exact in any order.
weights = st.dictionaries(
    st.sampled_from("abcdefgh"), st.integers(1, 12).map(lambda n: n / 4), max_size=6
)


@settings(deadline=None)
@given(st.lists(weights, max_size=12), st.lists(weights, max_size=6), st.integers(1, 14))
def test_it_is_what_a_loop_finds(items: list[Weights], asked: list[Weights], k: int) -> None:
    expected = []
    for query in asked:
        scores = [
            sum(weight * item[token] for token, weight in query.items() if token in item)
            for item in items
        ]
        ranked = sorted(enumerate(scores), key=lambda pair: (-pair[1], pair[0]))
        expected.append([(row, score) for row, score in ranked if score > 0][:k])
    assert found(index(items), asked, k) == expected


def test_few_scores_at_once_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)

    def drawn(count: int) -> list[Weights]:
        return [
            {str(token): float(rng.random()) for token in rng.integers(40, size=12)}
            for _ in range(count)
        ]

    of, asked = index(drawn(300)), drawn(25)
    expected = found(of, asked, 20)
    monkeypatch.setattr(lexical, "_CELLS", 700)
    assert found(of, asked, 20) == expected
    assert found(of, asked[7:8], 20) == expected[7:8]
