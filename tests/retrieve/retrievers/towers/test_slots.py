"""The slot map by hand: what has a slot of its own, and what is unknown."""

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.retrieve.retrievers.towers.slots import (
    attributes,
    named,
    slot_map,
    slots_of,
    unknown_slots,
)


def said(frame: pl.DataFrame, leave_out: tuple[str, ...] = (), buckets: int = 2) -> set[Any]:
    return set(attributes(frame, "id", "item", leave_out, buckets).rows())


def test_text_numbers_and_lists_are_said_as_they_are_and_what_is_missing_is_not() -> None:
    frame = pl.DataFrame(
        {
            "id": ["a", "b"],
            "brand": ["x", None],
            "kinds": [["p", "q", "p", None], []],
            "size": [3, 4],
            "new": [True, None],
            "kind": pl.Series(["s", "t"], dtype=pl.Enum(["s", "t"])),
            "title": ["not", "this"],
            "since": pl.Series([0, 1], dtype=pl.Datetime("ms")),
        }
    )
    assert said(frame, ("title",)) == {
        (0, "item.brand", "x"),
        (0, "item.kinds", "p"),
        (0, "item.kinds", "q"),
        (0, "item.size", "3"),
        (1, "item.size", "4"),
        (0, "item.new", "true"),
        (0, "item.kind", "s"),
        (1, "item.kind", "t"),
    }


def test_numbers_with_decimals_are_said_by_their_quantile() -> None:
    price = [1.0, 2.0, 3.0, 4.0, 100.0, None, float("nan")]
    frame = pl.DataFrame({"id": list("abcdefg"), "price": price})
    low, high = "1.0 to 3.0", "3.0 to 100.0"
    expected = {(row, "item.price", low if row < 2 else high) for row in range(5)}
    assert said(frame) == expected
    one = pl.DataFrame({"id": ["a", "b"], "price": [5.0, 5.0]})
    assert said(one) == {(0, "item.price", "5.0"), (1, "item.price", "5.0")}
    none = pl.DataFrame({"id": ["a"], "price": [None]}, {"id": pl.String, "price": pl.Float64})
    assert said(none) == set()


ROWS = pl.DataFrame(
    {
        "row": pl.Series([0, 1, 2, 2, 0, 1], dtype=pl.UInt32),
        "column": ["brand", "brand", "brand", "kind", "kind", "kind"],
        "value": ["x", "x", "y", "p", "p", "q"],
    }
)


def test_rare_values_share_their_columns_unknown() -> None:
    slots = slot_map(ROWS, 2)
    assert slots.rows() == [
        ("brand", None, 1),
        ("brand", "x", 2),
        ("kind", None, 3),
        ("kind", "p", 4),
    ]
    assert unknown_slots(slots) == [1, 3]
    assert unknown_slots(slots, "kind") == [3]
    found = slots_of(ROWS, slots).select("row", "slot").rows()
    assert found == [(0, 2), (0, 4), (1, 2), (1, 3), (2, 1), (2, 4)]
    new = ROWS.head(1).with_columns(value=pl.lit("never seen"))
    assert slots_of(new, slots)["slot"].to_list() == [1]


def test_every_column_counts_once_however_many_values_it_has() -> None:
    rows = pl.DataFrame(
        {
            "row": pl.Series([0, 0, 0, 0], dtype=pl.UInt32),
            "column": ["kinds", "kinds", "kinds", "brand"],
            "value": ["p", "q", "r", "x"],
        }
    )
    found = slots_of(rows, slot_map(rows, 1))
    assert sorted(found["weight"]) == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1])


def test_ids_are_values_of_a_column_where_they_are_known() -> None:
    found = named(pl.Series(["b", "new", "a"]), "item.item_id", pl.Series(["a", "b"]))
    assert found.rows() == [(0, "item.item_id", "b"), (2, "item.item_id", "a")]


@given(
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from("pq"), st.sampled_from("xyz"))),
    st.integers(1, 4),
)
def test_what_is_looked_up_has_a_slot(drawn: list[tuple[int, str, str]], least: int) -> None:
    names = {"row": pl.UInt32, "column": pl.String, "value": pl.String}
    rows = pl.DataFrame(sorted(set(drawn)), names, orient="row")
    slots = slot_map(rows, least)
    assert slots["slot"].to_list() == list(range(1, slots.height + 1))
    found = slots_of(rows, slots)
    assert found.height == rows.height
    assert found["slot"].is_in(slots["slot"].implode()).all()
    columns = rows.select("row", "column").unique().height
    assert found["weight"].sum() == pytest.approx(columns)
    counts = rows.group_by("column", "value").len()
    assert slots["value"].drop_nulls().len() == int(np.sum(counts["len"].to_numpy() >= least))
