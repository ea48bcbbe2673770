"""Shares of a history by hand."""

import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from stages.rank.features.affinity import Affinity
from stages.retrieve.retrievers.history import past_items
from tests.rank.features.test_neighbours import asked

ITEMS = pl.DataFrame(
    {
        "item_id": ["a", "b", "c", "d"],
        "brand": ["X", "Y", "X", None],
        "categories": [["red", "tall"], ["red", "red"], ["blue"], []],
        "price": [10.0, 40.0, None, 0.0],
    }
)
HISTORIES = [[("b", 1), ("c", 2)], [("d", 1)], []]
EVERY = np.repeat(np.arange(3), 4), np.tile(np.arange(4), 3)
PAST = past_items(asked(HISTORIES), ITEMS["item_id"]), len(HISTORIES)
NONE = [math.nan] * 4
OLD, NEW = 0.9 / 1.9, 1 / 1.9


def test_by_hand() -> None:
    found = Affinity().fit(ITEMS).of(*PAST, *EVERY)
    expected = {
        "same_brand": [NEW, OLD, NEW, math.nan, *NONE, *NONE],
        "same_categories": [OLD / 2, OLD, NEW, math.nan, *NONE, *NONE],
        "price_over_past": [math.log(1 / 4), 0, math.nan, math.nan, *NONE, *NONE],
    }
    assert set(found) == set(expected)
    for name, values in expected.items():
        assert found[name] == pytest.approx(values, nan_ok=True), name


def test_a_catalogue_that_says_nothing_compares_nothing() -> None:
    empty = ITEMS.with_columns(
        brand=pl.lit(None, pl.String),
        categories=pl.lit([], pl.List(pl.String)),
        price=pl.lit(None, pl.Float64),
    )
    found = Affinity().fit(empty).of(*PAST, *EVERY)
    assert all(np.isnan(values).all() for values in found.values())


def test_a_saved_one_says_the_same(tmp_path: Path) -> None:
    made = Affinity().fit(ITEMS)
    made.save(tmp_path)
    again = Affinity().load(tmp_path).of(*PAST, *EVERY)
    for name, values in made.of(*PAST, *EVERY).items():
        assert np.array_equal(values, again[name], equal_nan=True), name
