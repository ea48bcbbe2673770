"""Numbers of (query, item) pairs stand for the pairs and for their order."""

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from stages.core.pairs import PAIR, PairNumbers, places, rows_of, sorted_rows_of

pairs = st.lists(st.tuples(st.sampled_from(["q10", "q9", "r"]), st.sampled_from("abcd")))


def frame(rows: list[tuple[str, str]]) -> pl.DataFrame:
    return pl.DataFrame(rows, dict.fromkeys(PAIR, pl.String), orient="row")


@given(pairs)
def test_numbers_are_told_back_and_ascend_as_ids_do(rows: list[tuple[str, str]]) -> None:
    numbers = PairNumbers(frame(rows))
    found = numbers.of(frame(rows))
    assert numbers.frame(found).rows() == rows
    assert numbers.frame(np.sort(found)).rows() == sorted(rows)
    query, item = numbers.rows(found)
    told = zip(numbers.query_ids.gather(query), numbers.item_ids.gather(item), strict=True)
    assert list(told) == rows


def test_what_was_not_there_has_no_number() -> None:
    numbers = PairNumbers(frame([("q1", "a"), ("q2", "b")]))
    asked = frame([("q2", "a"), ("q3", "a"), ("q1", "c")])
    assert numbers.of(asked).tolist() == [2, -1, -1]


def test_rows_of_ids_in_any_order() -> None:
    known = pl.Series(["c", "a", "b"])
    assert rows_of(pl.Series(["b", "x", "c", "b"]), known).tolist() == [2, -1, 0, 2]
    assert rows_of(pl.Series([], dtype=pl.String), known).tolist() == []


def test_places_of_numbers() -> None:
    ascending = np.array([2, 5, 9])
    assert places(np.array([9, 3, 2, 10, -1]), ascending).tolist() == [2, -1, 0, -1, -1]
    assert places(np.array([0, 4]), np.empty(0, np.int64)).tolist() == [-1, -1]


@given(st.sets(st.text("abc", max_size=3)), st.lists(st.none() | st.text("abc", max_size=3)))
def test_a_sorted_column_is_searched_to_the_same_rows(
    known: set[str], ids: list[str | None]
) -> None:
    ascending = pl.Series(sorted(known), dtype=pl.String)
    asked = pl.Series(ids, dtype=pl.String)
    found = sorted_rows_of(asked, ascending).tolist()
    assert found == rows_of(asked, ascending).tolist()
    assert found == [sorted(known).index(i) if i is not None and i in known else -1 for i in ids]
