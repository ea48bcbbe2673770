"""The catalogue of a window: what was known of items, over what the source says for good."""

import polars as pl
import pytest

from stages.core import tables
from stages.core.catalogue import of_window

ITEMS = pl.DataFrame(
    {
        "item_id": ["a", "b", "c"],
        "title": ["A", "B", None],
        "description": None,
        "features": pl.Series([[], [], []], dtype=pl.List(pl.String)),
        "categories": [["old"], [], ["kept"]],
        "brand": None,
        "price": [1.0, None, 3.0],
        "image": None,
        "part": "rr",
    },
    schema_overrides=dict.fromkeys(("description", "brand", "image"), pl.String),
)
KNOWN = pl.DataFrame(
    [
        ("fit", "a", "available", "1"),
        ("fit", "a", "categories", "1 > 2"),
        ("fit", "gone", "available", "0"),
        ("train", "a", "categories", "1 > 3"),
        ("train", "b", "categories", "7"),
        ("train", "b", "790", "n5"),
        ("train", "c", "price", "2.5"),
        ("train", "a", "price", "dear"),
    ],
    tables.SPLIT_PROPERTIES.columns,
    orient="row",
)


def test_each_window_has_what_it_knew() -> None:
    fit, train = (of_window(ITEMS, KNOWN, window) for window in tables.WINDOWS)
    assert fit["categories"].to_list() == [["1", "2"], [], ["kept"]]
    assert train["categories"].to_list() == [["1", "3"], ["7"], ["kept"]]
    assert fit["available"].to_list() == ["1", None, None]
    assert train["available"].to_list() == [None, None, None]
    assert train["790"].to_list() == [None, "n5", None]
    assert fit["price"].to_list() == [1.0, None, 3.0]
    assert train["price"].to_list() == [1.0, None, 2.5]


@pytest.mark.parametrize("window", tables.WINDOWS)
def test_it_is_a_catalogue_of_the_same_items_and_columns(window: str) -> None:
    found = tables.check(of_window(ITEMS, KNOWN, window), tables.ITEMS)
    assert found.columns == [*ITEMS.columns, "790", "available"]
    assert found["item_id"].to_list() == ["a", "b", "c"]
    untouched = ["item_id", "title", "description", "features", "brand", "image", "part"]
    assert found.select(untouched).equals(ITEMS.select(untouched))


def test_without_properties_items_are_as_they_were() -> None:
    assert of_window(ITEMS, KNOWN.clear(), "fit") is ITEMS


def test_a_window_that_knew_nothing_has_the_columns_all_the_same() -> None:
    found = of_window(ITEMS, KNOWN.filter(window="train"), "fit")
    assert found.columns == [*ITEMS.columns, "790"]
    assert found.select(ITEMS.columns).equals(ITEMS)
