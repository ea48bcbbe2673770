"""Scores of pairs are those that the sums over histories give."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from stages.core import tables
from stages.rank.features import neighbours
from stages.rank.features.neighbours import RECENCIES, SIMILARITIES, Neighbours
from stages.retrieve.retrievers.history import past_items
from stages.retrieve.retrievers.similarity import similar_items

START = datetime(2023, 1, 1, tzinfo=UTC)
IDS = pl.Series("item_id", [f"i{n}" for n in range(8)])


def log(seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    rows = [
        (f"u{user}", f"i{item}", START + timedelta(days=int(day)))
        for user in range(30)
        for day, item in enumerate(rng.choice(7, 4, replace=False))
    ]
    schema = {"user_id": pl.String, "item_id": pl.String, "timestamp": tables.TIME}
    return pl.DataFrame(rows, schema, orient="row")


def asked(histories: list[list[tuple[str, int]]]) -> pl.DataFrame:
    rows = [
        {
            "query_id": f"q{n}",
            "user_id": None,
            "timestamp": START + timedelta(days=90),
            "text": None,
            "history": [
                {"item_id": item, "timestamp": START + timedelta(days=at)} for item, at in history
            ],
            "targets": [],
            "split": "test",
        }
        for n, history in enumerate(histories)
    ]
    return pl.DataFrame(rows, tables.QUERIES.columns)


def past(histories: list[list[tuple[str, int]]]) -> tuple[pl.DataFrame, int]:
    return past_items(asked(histories), IDS), len(histories)


HISTORIES = [
    [("i1", 1), ("i2", 2), ("i3", 3)],
    [],
    [("i1", 1), ("gone", 2), ("i4", 3), ("i5", 3), ("i1", 3)],
]
EVERY = np.repeat(np.arange(3), 8), np.tile(np.arange(8), 3)
STEPS = [{"i1": [2], "i2": [1], "i3": [0]}, {}, {"i1": [2, 0], "i4": [0], "i5": [0]}]
"""How many moments each item of a history lies back; an unknown item's moment counts as one."""


def test_every_score_is_the_weighted_sum_over_the_history() -> None:
    found = Neighbours().fit(log(), IDS).scores(*past(HISTORIES), *EVERY)
    for name, params in SIMILARITIES.items():
        similar = similar_items(log(), IDS, params).toarray()
        for suffix, recency in RECENCIES.items():
            due = [
                sum(
                    recency**step * similar[int(past[1:]), item]
                    for past, times in STEPS[query].items()
                    for step in times
                )
                for query, item in zip(*EVERY, strict=True)
            ]
            assert max(due) > 0
            assert found[f"{name}{suffix}"] == pytest.approx(due, rel=1e-5), name + suffix
    seen = [query != 1 and f"i{item}" in STEPS[query] for query, item in zip(*EVERY, strict=True)]
    assert found["seen"].tolist() == seen
    assert set(found) == {"seen"} | {f"{a}{b}" for a in SIMILARITIES for b in RECENCIES}


def test_order_of_pairs_and_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Neighbours().fit(log(), IDS)
    due = made.scores(*past(HISTORIES), *EVERY)
    order = np.random.default_rng(1).permutation(len(EVERY[0]))
    monkeypatch.setattr(neighbours, "_CHUNK", 5)
    found = made.scores(*past(HISTORIES), EVERY[0][order], EVERY[1][order])
    for name, values in due.items():
        assert found[name] == pytest.approx(values[order], rel=1e-6), name


def test_a_large_catalogue_is_searched_to_the_same_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    due = Neighbours().fit(log(), IDS).scores(*past(HISTORIES), *EVERY)
    monkeypatch.setattr(neighbours, "_TABLE", 0)
    found = Neighbours().fit(log(), IDS).scores(*past(HISTORIES), *EVERY)
    for name, values in due.items():
        assert np.array_equal(found[name], values), name


def test_nothing_known_is_zero() -> None:
    found = Neighbours().fit(log().clear(), IDS).scores(*past(HISTORIES), *EVERY)
    assert not any(values.any() for name, values in found.items() if name != "seen")
    none = np.empty(0, np.int64)
    assert Neighbours().fit(log(), IDS).scores(*past([]), none, none)["seen"].tolist() == []


def test_a_saved_one_says_the_same(tmp_path: Path) -> None:
    made = Neighbours().fit(log(), IDS)
    made.save(tmp_path)
    loaded = Neighbours().load(tmp_path, IDS)
    assert loaded._values.flags.c_contiguous, "each request would copy all of it"
    again = loaded.scores(*past(HISTORIES), *EVERY)
    for name, values in made.scores(*past(HISTORIES), *EVERY).items():
        assert np.array_equal(values, again[name]), name
