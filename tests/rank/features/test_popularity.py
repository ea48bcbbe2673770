"""What was known of an item before a moment, by hand and against counting row by row."""

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.core.parts import Parts
from stages.core.tables import TIME
from stages.rank.features.popularity import DAY_MS, Popularity

START = datetime(2023, 1, 1, tzinfo=UTC)
IDS = pl.Series("item_id", ["a", "b", "c"])
KNOWN = pl.Series("item_id", ["a", "b", "c", "d"])


def events(rows: list[tuple[str, float, float]]) -> pl.DataFrame:
    """Events of (item, day, value)."""
    return pl.DataFrame(
        {
            "item_id": [item for item, _, _ in rows],
            "timestamp": [START + timedelta(days=day) for _, day, _ in rows],
            "value": [value for _, _, value in rows],
        },
        {"item_id": pl.String, "timestamp": TIME, "value": pl.Float32},
    )


def day(*numbers: float) -> np.ndarray:
    zero = int(START.timestamp() * 1000)
    return zero + (np.array(numbers) * DAY_MS).astype(np.int64)


LOG = events([("b", 0, 1), ("a", 0, 5), ("a", 10, 2), ("a", 12, 3)])


def test_by_hand() -> None:
    known = Popularity([1, 30], rating_prior=2.0).fit(LOG, IDS)
    found = known.before(np.array([0, 0, 0, 1, 2]), day(10, 11, 40, 40, 40))
    end = 12 + 1 / DAY_MS  # what is asked later is asked then
    mean = (1 + 5 + 2 + 3) / 4
    expected = {
        "item_events": [1, 2, 3, 1, 0],  # what happens at the moment itself is not before it
        "item_events_1d": [0, 1, 1, 0, 0],  # day 10 is a day before day 11, and counts
        "item_events_30d": [1, 2, 3, 1, 0],
        "item_rating": [
            (5 + 2 * mean) / 3,
            (7 + 2 * mean) / 4,
            (10 + 2 * mean) / 5,
            (1 + 2 * mean) / 3,
            mean,
        ],
        "item_rating_spread": [0, 1.5, math.sqrt(14 / 9), 0, math.nan],
        "item_days_since_last": [10, 1, 1 / DAY_MS, end, math.nan],
        "item_days_known": [10, 11, end, end, math.nan],
    }
    assert set(found) == set(expected)
    for name, values in expected.items():
        assert found[name] == pytest.approx(values, nan_ok=True), name


def test_without_events_all_is_unknown() -> None:
    found = Popularity([7], 5.0).fit(LOG.clear(), IDS).before(np.array([0, 2]), day(1, 2))
    assert found["item_events"].tolist() == found["item_events_7d"].tolist() == [0, 0]
    assert found["item_rating"].tolist() == [0, 0]
    assert np.isnan(found["item_days_since_last"]).all()


ROW = st.tuples(st.sampled_from("abc"), st.integers(0, 40), st.integers(1, 5))


@given(st.lists(ROW, max_size=30), st.lists(st.integers(-2, 60), min_size=1, max_size=5))
def test_nothing_of_the_moment_or_later_counts(
    rows: list[tuple[str, int, int]], asked: list[int]
) -> None:
    """At any moment it says what it would if what came later had been of another item."""
    rows.append(("d", 50, 3))
    whole = Popularity([5, 20], 0.0).fit(events(rows), KNOWN)
    for at in asked:
        past = [row for row in rows if row[1] < at]
        other = [("d", when, 3) for _, when, _ in rows if when >= at]
        ended = Popularity([5, 20], 0.0).fit(events(past + other), KNOWN)
        moments = day(at, at, at)
        found, due = (one.before(np.arange(3), moments) for one in (whole, ended))
        for name in set(due) - {"item_rating"}:  # which leans on the window's mean
            assert found[name] == pytest.approx(due[name], nan_ok=True), name
        counts = [sum(row[0] == item for row in past) for item in "abc"]
        assert found["item_events"].tolist() == counts


def test_a_saved_one_says_the_same(tmp_path: Path) -> None:
    made = Popularity([3], 2.0).fit(LOG, IDS)
    made.save(tmp_path)
    loaded = Popularity([3], 2.0).load(tmp_path, len(IDS))
    for name, values in made.before(np.arange(3), day(11, 11, 11)).items():
        again = loaded.before(np.arange(3), day(11, 11, 11))[name]
        assert np.array_equal(values, again, equal_nan=True)


def test_of_shops_side_by_side_what_is_recent_is_so_by_their_own_end(tmp_path: Path) -> None:
    """`c` is sold from day 1000 on, `a` and `b` until day 12; all are asked about later."""
    log = pl.concat([LOG, events([("c", 1000, 4), ("c", 1001, 2)])])
    parts = Parts(
        pl.DataFrame({"item_id": IDS, "part": ["early", "early", "late"]}),
        pl.DataFrame({"user_id": ["u"], "part": ["early"]}),
    )
    asked, at = np.array([0, 1, 2]), day(20, 20, 1010)
    found = Popularity([7], 0.0).fit(log, IDS, parts).before(asked, at)
    assert found["item_events_7d"].tolist() == [2, 0, 2]
    assert found["item_days_since_last"] == pytest.approx([0, 12, 0], abs=1e-6)
    one = Popularity([7], 0.0).fit(log, IDS).before(asked, at)
    assert one["item_days_since_last"][:2] == pytest.approx([8, 20], abs=1e-6)
    alone = Popularity([7], 0.0).fit(LOG, IDS).before(asked[:2], at[:2])
    for name in set(alone) - {"item_rating"}:
        np.testing.assert_array_equal(found[name][:2], alone[name])
    Popularity([7], 0.0).fit(log, IDS, parts).save(tmp_path)
    loaded = Popularity([7], 0.0).load(tmp_path, len(IDS)).before(asked, at)
    for name, values in found.items():
        np.testing.assert_array_equal(loaded[name], values)
