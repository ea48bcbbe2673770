"""Hotness by hand."""

from datetime import timedelta
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from stages.core.log import UserError
from stages.core.params import Popular
from stages.core.tables import IMPRESSIONS
from stages.core.windows import Log
from stages.retrieve.retrievers import TrainingData
from stages.retrieve.retrievers.hotness import last_ms
from stages.retrieve.retrievers.popular import PopularRetriever
from tests.retrieve.conftest import START
from tests.retrieve.retrievers.test_item_knn import asked, events

ROWS = [("ann", "old", 0), ("bob", "old", 0), ("cid", "old", 0), ("ann", "new", 10)]


def impressions(rows: list[tuple[str, int, int | None]]) -> pl.DataFrame:
    """(item, day, click) as impressions."""
    made = [
        dict.fromkeys(IMPRESSIONS.columns)
        | {"item_id": item, "timestamp": START + timedelta(days=day), "click": click}
        for item, day, click in rows
    ]
    return pl.DataFrame(made, IMPRESSIONS.columns)


def hot(shown: pl.DataFrame | None = None, **params: float) -> dict[str, dict[str, float]]:
    made = PopularRetriever(Popular.model_validate(params))
    made.fit(TrainingData(pl.DataFrame(), events=events(ROWS), impressions=shown))
    return {row.pop("item_id"): row for row in made.hot.iter_rows(named=True)}


def test_an_event_counts_half_after_its_half_life() -> None:
    found = hot(half_life_days=10)
    assert found["old"]["event_count"] == pytest.approx(1.5)
    assert found["new"]["event_count"] == pytest.approx(1)
    assert list(found) == ["old", "new"]
    assert list(hot(half_life_days=1)) == ["new", "old"]


def test_click_rates_are_smoothed_towards_the_mean() -> None:
    rows = [("new", 10, 1), ("old", 10, 0), ("old", 10, None), ("old", 0, 1), ("shown", 10, 1)]
    found = hot(impressions(rows), half_life_days=10, prior_impressions=2)
    # Of the old item's impressions one counts half: 2.5 with 0.5 clicks; of all 4.5 with 2.5.
    rate = 2.5 / 4.5
    assert found["old"]["impression_count"] == pytest.approx(2.5)
    assert found["old"]["ctr_mean"] == pytest.approx((0.5 + 2 * rate) / (2.5 + 2))
    assert found["new"]["ctr_mean"] == pytest.approx((1 + 2 * rate) / 3)
    assert found["new"]["score"] == pytest.approx(1 + (1 + 2 * rate) / 3)
    assert set(found) == {"old", "new"}


def test_without_impressions_all_have_the_mean_rate() -> None:
    assert {row["ctr_mean"] for row in hot().values()} == {0.0}
    assert {row["impression_count"] for row in hot().values()} == {0.0}


def test_what_one_has_makes_room_for_the_next() -> None:
    made = PopularRetriever(Popular(half_life_days=10))
    made.fit(TrainingData(pl.DataFrame(), events=events([*ROWS, ("ann", "third", 0)])))
    has_none, has_best = asked(), asked(("old", 1), ("elsewhere", 2))
    assert made.retrieve(has_none, 2)["item_id"].to_list() == ["old", "new"]
    found = made.retrieve(has_best, 2)
    assert found["item_id"].to_list() == ["new", "third"]
    assert found["rank"].to_list() == [1, 2]
    both = pl.concat([has_none, has_best.with_columns(query_id=pl.lit("r"))])
    assert made.retrieve(both, 1)["item_id"].to_list() == ["old", "new"]
    may = PopularRetriever(Popular(half_life_days=10, repeat=True))
    may.fit(TrainingData(pl.DataFrame(), events=events([*ROWS, ("ann", "third", 0)])))
    assert may.retrieve(has_best, 2)["item_id"].to_list() == ["old", "new"]


def test_fitted_again_it_knows_the_new_list_alone() -> None:
    made = PopularRetriever(Popular())
    for items in ("ab", "bcd"):
        made.fit(TrainingData(pl.DataFrame(), events=events([("ann", item, 0) for item in items])))
        assert made.retrieve(asked(("b", 1)), 9)["item_id"].to_list() == [*items.replace("b", "")]


def test_ties_are_in_the_order_of_ids_whatever_that_of_events(tmp_path: Path) -> None:
    table = events([("ann", item, 0) for item in "cdba"] + [("bob", "c", 0)])
    log = Log(tmp_path / "events", tmp_path / "impressions", last_ms(table))
    table.write_parquet(log.events, row_group_size=2)
    impressions([]).write_parquet(log.impressions)
    for data in (TrainingData(pl.DataFrame(), log=log), TrainingData(pl.DataFrame(), events=table)):
        made = PopularRetriever(Popular())
        made.fit(data)
        assert made.hot["item_id"].to_list() == [*"cabd"]
        made.save(tmp_path)
        loaded = PopularRetriever.load(tmp_path)
        assert loaded.hot.equals(made.hot)
        assert loaded.retrieve(asked(), 9).equals(made.retrieve(asked(), 9))


def test_without_events_it_says_so() -> None:
    with pytest.raises(UserError, match="popular needs events"):
        PopularRetriever(Popular()).fit(TrainingData(pl.DataFrame()))


LOGGED = st.lists(st.tuples(st.sampled_from("abc"), st.integers(-9000, 4000)), min_size=1)


@given(LOGGED, st.randoms(use_true_random=False))
def test_the_order_of_events_decides_nothing(rows: list[tuple[str, int]], rng: Random) -> None:
    shown = [(item, day, day % 3) for item, day in rows]
    lists = []
    for _ in range(2):
        made = PopularRetriever(Popular(half_life_days=17))
        done = events([("ann", item, day) for item, day in rng.sample(rows, len(rows))])
        seen = impressions(rng.sample(shown, len(shown)))
        made.fit(TrainingData(pl.DataFrame(), events=done, impressions=seen))
        lists.append(made.hot.sort("item_id"))
    assert_frame_equal(*lists, rel_tol=1e-6)
    end = max(day for _, day in rows)
    for item, count in made.hot.select("item_id", "event_count").iter_rows():
        ages = [end - day for name, day in rows if name == item]
        expected = sum(0.5 ** (age / 17) for age in ages)
        assert count == pytest.approx(expected, rel=1e-9, abs=1e-20)


@settings(deadline=None)  # It writes files.
@given(LOGGED, LOGGED, st.integers(1, 5), st.integers(-9000, 4000))
def test_a_log_on_disk_counts_as_its_window_in_memory(
    done: list[tuple[str, int]], shown: list[tuple[str, int]], size: int, end: int
) -> None:
    """Whatever its row groups: a window that ends on some day, and what was shown until then."""
    end = max(end, min(day for _, day in done))
    table = events([("ann", item, day) for item, day in done])
    seen = impressions([(item, day, day % 3) for item, day in shown])
    known = table.filter(pl.col("timestamp") <= START + timedelta(days=end))
    before = seen.filter(pl.col("timestamp") <= known["timestamp"].max())
    lists = []
    with TemporaryDirectory() as name:
        log = Log(Path(name) / "events", Path(name) / "impressions", last_ms(known))
        table.write_parquet(log.events, row_group_size=size)
        seen.write_parquet(log.impressions, row_group_size=size)
        in_memory = TrainingData(pl.DataFrame(), events=known, impressions=before)
        for data in (in_memory, TrainingData(pl.DataFrame(), log=log)):
            made = PopularRetriever(Popular(half_life_days=17))
            made.fit(data)
            lists.append(made.hot.sort("item_id"))
        again = PopularRetriever(Popular(half_life_days=17))
        again.fit(data)
    assert_frame_equal(*lists, rel_tol=1e-6)
    assert again.hot.equals(made.hot)


def test_what_was_chosen_ages_ago_is_counted_from_a_long_log(tmp_path: Path) -> None:
    """More rows than are read at once, in each of two row groups, whose times are ages apart."""
    rows = [("ann", item, day) for item, day in (("a", 0), ("b", 9000), ("c", 4000), ("d", 9999))]
    table = pl.concat([events([row] * 300_000) for row in rows])
    log = Log(tmp_path / "events", tmp_path / "impressions", last_ms(table))
    table.write_parquet(log.events, row_group_size=600_000)
    impressions([("a", 9000, 1), ("a", 99_999, 1)]).write_parquet(log.impressions)
    made = PopularRetriever(Popular(half_life_days=0.01))
    made.fit(TrainingData(pl.DataFrame(), log=log))
    assert made.hot["item_id"].to_list() == [*"dabc"]
    assert made.hot["event_count"][0] == 300_000
    assert 0 < made.hot["impression_count"][1] < 1e-9


def test_impressions_after_the_last_event_do_not_count() -> None:
    made = PopularRetriever(Popular(half_life_days=10))
    shown = impressions([("a", 1, 0), ("b", 21, 1)])
    made.fit(TrainingData(pl.DataFrame(), events=events([("ann", "a", 1)]), impressions=shown))
    assert made.hot.select("item_id", "impression_count", "ctr_mean").rows() == [("a", 1, 0)]


def test_impressions_of_no_known_moment_do_not_count(tmp_path: Path) -> None:
    table, shown = events([("ann", "a", 1)]), impressions([("a", 1, 0), ("a", 0, 1)])
    shown = shown.with_columns(pl.when(click=0).then("timestamp").alias("timestamp"))
    log = Log(tmp_path / "events", tmp_path / "impressions", last_ms(table))
    table.write_parquet(log.events)
    shown.write_parquet(log.impressions)
    in_memory = TrainingData(pl.DataFrame(), events=table, impressions=shown)
    for data in (in_memory, TrainingData(pl.DataFrame(), log=log)):
        made = PopularRetriever(Popular())
        made.fit(data)
        assert made.hot.select("item_id", "impression_count", "ctr_mean").rows() == [("a", 1, 0)]


def test_a_log_of_nothing_has_no_hot_items(tmp_path: Path) -> None:
    log = Log(tmp_path / "events", tmp_path / "impressions", 0)
    events([]).write_parquet(log.events)
    impressions([]).write_parquet(log.impressions)
    made = PopularRetriever(Popular())
    made.fit(TrainingData(pl.DataFrame(), log=log))
    assert made.hot.is_empty()


def test_a_log_without_impressions(tmp_path: Path) -> None:
    log = Log(tmp_path / "events", tmp_path / "impressions", last_ms(events(ROWS)))
    events(ROWS).write_parquet(log.events)
    impressions([]).write_parquet(log.impressions)
    made = PopularRetriever(Popular(half_life_days=10))
    made.fit(TrainingData(pl.DataFrame(), log=log))
    assert made.hot.select("item_id", "event_count", "impression_count", "ctr_mean").rows() == [
        ("old", pytest.approx(1.5), 0, 0),
        ("new", 1, 0, 0),
    ]


def test_segments_need_the_events_themselves(tmp_path: Path) -> None:
    log = Log(tmp_path / "events", tmp_path / "impressions", 0)
    with pytest.raises(UserError, match="popular needs events"):
        PopularRetriever(Popular(segments=["age"])).fit(TrainingData(pl.DataFrame(), log=log))


def test_what_was_chosen_ages_ago_is_still_in_the_list() -> None:
    made = PopularRetriever(Popular(half_life_days=0.01))
    made.fit(TrainingData(pl.DataFrame(), events=events([("a", "first", 0), ("a", "last", 9000)])))
    assert made.hot["item_id"].to_list() == ["last", "first"]


def test_long_histories_are_answered_apart_and_the_same() -> None:
    rows = [("ann", f"i{n:03d}", n % 9) for n in range(400)]
    made = PopularRetriever(Popular())
    made.fit(TrainingData(pl.DataFrame(), events=events(rows)))
    long = asked(*[(f"i{n:03d}", 1) for n in range(390)])
    short = asked(("i001", 1)).with_columns(query_id=pl.lit("short"))
    both = made.retrieve(pl.concat([long, short]), 20)
    for query in (long, short):
        own = both.filter(query_id=query["query_id"][0])
        assert own.equals(made.retrieve(query, 20))
    assert both.filter(query_id="q").height == 10
