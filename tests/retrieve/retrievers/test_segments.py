"""Hot lists of segments by hand."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from stages.core.log import UserError
from stages.core.params import Popular
from stages.core.tables import IMPRESSIONS
from stages.retrieve.retrievers import TrainingData
from stages.retrieve.retrievers.popular import PopularRetriever
from tests.retrieve.conftest import START
from tests.retrieve.retrievers.test_item_knn import asked, events

USERS = pl.DataFrame({"user_id": ["ann", "bob", "cid", "dan"], "age": ["20", "20", "60", None]})
ITEMS = pl.DataFrame(
    {"item_id": ["all", "old", "young"], "categories": [["a", "z"], ["b"], ["b", "z"]]}
)
# All on one day, so that each counts one: four of all, one of young, two of old.
ROWS = [
    *[(user, "all", 5) for user in ("ann", "bob", "cid", "dan")],
    ("ann", "young", 5),
    ("cid", "old", 5),
    ("dan", "old", 5),
]


def fitted(segments: list[str], back_off: float = 0.7, **params: Any) -> PopularRetriever:
    made = PopularRetriever(Popular(segments=segments, back_off=back_off, **params))
    made.fit(TrainingData(pl.DataFrame(), events=events(ROWS), items=ITEMS, users=USERS))
    return made


def impressions(rows: list[tuple[str, str, int, int | None]]) -> pl.DataFrame:
    """(user, item, day, click) as impressions."""
    made = [
        dict.fromkeys(IMPRESSIONS.columns)
        | {"user_id": user, "item_id": item, "timestamp": START + timedelta(days=day)}
        | {"click": click}
        for user, item, day, click in rows
    ]
    return pl.DataFrame(made, IMPRESSIONS.columns)


def given(made: PopularRetriever, user: str | None, *past: str) -> dict[str, float]:
    query = asked(*[(item, 1) for item in past]).with_columns(user_id=pl.lit(user, pl.String))
    found = made.retrieve(query, 3)
    assert found["rank"].to_list() == list(range(1, found.height + 1))
    return dict(found.select("item_id", "score").iter_rows())


def test_a_segment_counts_its_own_and_a_share_of_all() -> None:
    made = fitted(["age"])
    # Of 0.7 events of the whole shop 0.4 are of all, 0.2 of old and 0.1 of young.
    found = given(made, "bob")
    assert found == pytest.approx({"all": 2 + 0.4, "young": 1 + 0.1, "old": 0.2})
    assert list(found) == ["all", "young", "old"]
    assert list(given(made, "cid")) == ["all", "old", "young"]


def test_impressions_are_counted_by_segment_and_rates_backed_off(tmp_path: Path) -> None:
    """The half-life is ten days, the prior two impressions, and half an event is backed off to."""
    rows = [
        # Of the young, shown `young`: one of today that was clicked, one that counts half.
        ("ann", "young", 5, 1),
        ("bob", "young", -5, 0),
        # Of the old, shown `young` twice today; of one of whom nothing is known, clicked.
        ("cid", "young", 5, 0),
        ("cid", "young", 5, None),
        ("dan", "young", 5, 1),
        # Shown to the young, who did not choose it; and what nobody chose; and after the end.
        ("ann", "old", 5, 0),
        ("ann", "unchosen", 5, 1),
        ("ann", "young", 6, 1),
    ]
    made = PopularRetriever(
        Popular(segments=["age"], back_off=0.5, half_life_days=10, prior_impressions=2)
    )
    data = TrainingData(pl.DataFrame(), events=events(ROWS), users=USERS)
    made.fit(replace(data, impressions=impressions(rows)))
    # The shop: 6.5 impressions, 3 clicks; young has 4.5 and 2, old 1 and 0, all has none.
    mean = 3 / 6.5
    young, old = (2 + 2 * mean) / (4.5 + 2), (0 + 2 * mean) / (1 + 2)
    whole = {"all": 4.0, "young": 1 + 4.5 * young, "old": 2 + 1 * old}
    assert given(made, None) == pytest.approx(whole)
    share = {item: 0.5 * score / sum(whole.values()) for item, score in whole.items()}
    of_young = 1.5 * (1 + 2 * young) / (1.5 + 2)
    of_old = 1 * (0 + 2 * old) / (1 + 2)
    expected = {
        "all": 2 + share["all"],
        "young": 1 + of_young + share["young"],
        "old": of_old + share["old"],
    }
    assert given(made, "bob") == pytest.approx(expected)
    elder = {
        "all": 1 + share["all"],
        "young": 2 * (0 + 2 * young) / (2 + 2) + share["young"],
        "old": 1 + share["old"],
    }
    assert given(made, "cid") == pytest.approx(elder)
    made.save(tmp_path)
    kept = pl.read_parquet(tmp_path / "segments.parquet").filter(value="20", item_id="young")
    (row,) = kept.drop("value", "item_id").to_dicts()
    rate = (1 + 2 * young) / (1.5 + 2)
    counted = {"event_count": 1, "impression_count": 1.5, "ctr_mean": rate, "score": 1 + of_young}
    assert row.pop("segment") == "age"
    assert row == pytest.approx(counted)


def test_a_category_counts_the_impressions_of_its_items() -> None:
    shown = impressions([("ann", "old", 5, 1), ("cid", "old", 5, 0)])
    made = PopularRetriever(Popular(segments=["category"], back_off=0.5, repeat=True))
    data = TrainingData(pl.DataFrame(), events=events(ROWS), items=ITEMS)
    made.fit(replace(data, impressions=shown))
    # One of two impressions of the shop was clicked, and both are of `old`: its rate is a half.
    whole = {"all": 4.0, "old": 2 + 2 * 0.5, "young": 1.0}
    found = given(made, None, "young")
    assert found == pytest.approx({"old": 3 + 0.5 * 3 / 8, "young": 1.0625, "all": 0.25})
    assert given(made, None) == pytest.approx(whole)


def test_a_large_back_off_is_what_all_choose() -> None:
    assert list(given(fitted(["age"], back_off=1000.0), "bob")) == ["all", "old", "young"]


@pytest.mark.parametrize("user", ["dan", "nobody", None])
def test_who_is_of_no_segment_is_given_the_list_of_all(user: str | None) -> None:
    assert given(fitted(["age"]), user) == {"all": 4, "old": 2, "young": 1}


def test_the_category_of_most_of_the_history() -> None:
    made = fitted(["category"], repeat=True)
    found = given(made, None, "young")
    assert found == pytest.approx({"old": 2 + 0.2, "young": 1 + 0.1, "all": 0.4})
    assert list(given(made, None, "all")) == ["all", "old", "young"]
    assert next(iter(given(made, None, "all", "young", "old"))) == "old"
    assert list(given(made, None, "gone")) == ["all", "old", "young"]


def test_the_first_segment_of_which_anything_is_known() -> None:
    made = fitted(["age", "category"], repeat=True)
    assert given(made, "bob", "old") == given(fitted(["age"], repeat=True), "bob")
    assert given(made, "dan", "old") == given(fitted(["category"], repeat=True), None, "old")


def test_queries_of_many_segments_are_answered_as_one_by_one() -> None:
    made = fitted(["age", "category"])
    who = [("q1", "bob", ()), ("q2", None, ("young",)), ("q3", "cid", ("all",)), ("q4", None, ())]
    queries = pl.concat(
        asked(*[(item, 1) for item in past]).with_columns(
            query_id=pl.lit(name), user_id=pl.lit(user, pl.String)
        )
        for name, user, past in who
    )
    found = made.retrieve(queries, 3)
    assert found.height == 3 + 2 + 2 + 3
    for name, user, past in who:
        own = found.filter(query_id=name).sort("rank")
        assert dict(own.select("item_id", "score").iter_rows()) == given(made, user, *past)


def test_a_saved_one_gives_the_same(tmp_path: Path) -> None:
    made = fitted(["age", "category"])
    made.save(tmp_path)
    loaded = PopularRetriever.load(tmp_path)
    for user, past in (("bob", ()), (None, ("young",)), (None, ())):
        assert given(loaded, user, *past) == given(made, user, *past)


def test_a_column_that_users_lack_is_named() -> None:
    with pytest.raises(UserError, match=r"fit.popular.segments names size, and users have age"):
        fitted(["size"])


@pytest.mark.parametrize("segments", [["user_id"], ["age", "user_id"]])
def test_a_user_s_id_is_no_segment(segments: list[str]) -> None:
    said = r"segments names user_id, and users have age; it may name age, category: correct it"
    with pytest.raises(UserError, match=said):
        fitted(segments)
