"""The feature program by hand, on a shop of three items."""

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from stages.core import tables
from stages.core.log import UserError
from stages.core.params import Examples
from stages.rank.features import FeatureProgram

START = datetime(2023, 1, 1, tzinfo=UTC)


def day(number: float) -> datetime:
    return START + timedelta(days=number)


def items() -> pl.DataFrame:
    names = tables.ITEMS.columns
    blank = dict.fromkeys(names) | {"features": [], "categories": []}
    rows = [
        {"item_id": "c"},
        {"item_id": "a", "title": "Red guitar", "price": 10.0},
        {"item_id": "b", "title": "Blue drum"},
    ]
    return pl.DataFrame([blank | row for row in rows], names)


def events(rows: list[tuple[str, str, float, float]] | None = None) -> pl.DataFrame:
    """Reviews (user, item, day, stars)."""
    if rows is None:
        rows = [("u1", "a", 0, 5), ("u2", "a", 10, 2), ("u1", "b", 20, 2)]
    return pl.DataFrame(
        [
            {
                "event_id": f"e{n}",
                "user_id": user,
                "item_id": item,
                "timestamp": day(when),
                "event": "rate",
                "value": stars,
                "title": None,
                "text": None,
            }
            for n, (user, item, when, stars) in enumerate(rows)
        ],
        tables.EVENTS.columns,
    )


def documents() -> pl.DataFrame:
    return pl.DataFrame({"item_id": ["a", "b"], "text": ["red guitar", "blue drum"]})


def queries(histories: dict[str, list[tuple[str, float]]]) -> pl.DataFrame:
    """Queries asked on day 33."""
    return pl.DataFrame(
        [
            {
                "query_id": query,
                "user_id": f"user of {query}",
                "timestamp": day(33),
                "text": "a red drum",
                "history": [{"item_id": i, "timestamp": day(when)} for i, when in history],
                "targets": ["a"],
                "split": "test",
            }
            for query, history in histories.items()
        ],
        tables.QUERIES.columns,
    )


def lists(name: str, rows: dict[str, dict[str, float]]) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {"query_id": query, "item_id": item, "retriever": name, "rank": rank, "score": score}
            for query, found in rows.items()
            for rank, (item, score) in enumerate(found.items(), start=1)
        ],
        tables.CANDIDATES.columns,
    )


def program(**options: Any) -> FeatureProgram:
    params = Examples.model_validate({"recent_days": [13], "rating_prior": 2.0, **options})
    return FeatureProgram(params, ["bm25", "dense"]).fit(items(), documents(), events())


HISTORIES: dict[str, list[tuple[str, float]]] = {
    "q1": [("b", 30)],
    "q2": [],
    "q3": [("a", 20), ("b", 31.5)],
    "q4": [("gone", 1), ("c", 32)],
}
EVERY = {"b": 3.0, "a": 2.0, "c": 1.0}


def transformed(made: FeatureProgram | None = None, only: list[str] | None = None) -> pl.DataFrame:
    asked = queries({name: HISTORIES[name] for name in only or HISTORIES})
    found = pl.concat(
        [
            lists("bm25", {"q1": {"a": 7.0, "b": 4.5}, "q3": {"c": 1.0}}),
            lists("dense", {query: {"c": 0.9, "b": 0.5} for query in HISTORIES}),
        ]
    )
    blended = lists("blend", dict.fromkeys(HISTORIES, EVERY))
    mine = [one.join(asked, on="query_id", how="semi") for one in (found, blended)]
    return (made or program()).transform(asked, *mine)


def column(name: str, frame: pl.DataFrame | None = None) -> dict[str, list[float | None]]:
    """Query to the values of items a, b, c."""
    frame = transformed() if frame is None else frame
    assert frame.schema[name] == pl.Float32
    grouped = frame.sort("query_id", "item_id").group_by("query_id", maintain_order=True)
    return dict(grouped.agg(name).iter_rows())


def test_scores_ranks_and_gaps_of_every_retriever() -> None:
    assert column("bm25_score")["q1"] == [7, 4.5, None]
    assert column("bm25_rank")["q1"] == [1, 2, None]
    assert column("bm25_gap")["q1"] == [0, 2.5, None]
    assert column("bm25_score")["q2"] == [None, None, None]
    assert column("dense_gap")["q2"] == pytest.approx([None, 0.4, 0])
    assert column("blend_rank")["q4"] == [2, 1, 3]


def test_histories() -> None:
    assert column("user_history") == {"q1": [1] * 3, "q2": [0] * 3, "q3": [2] * 3, "q4": [2] * 3}
    days = {"q1": [3] * 3, "q2": [None] * 3, "q3": [1.5] * 3, "q4": [1] * 3}
    assert column("user_days_since_last") == days
    seen = {"q1": [0, 1, 0], "q2": [0, 0, 0], "q3": [1, 1, 0], "q4": [0, 0, 1]}
    assert column("seen") == seen


def test_together_with_the_history() -> None:
    cosine = 1 / math.sqrt(2)  # one shared user; two have a, one has b
    found = column("together")
    assert found["q1"] == pytest.approx([cosine, 0, 0], rel=2e-4)
    assert found["q2"] == [0, 0, 0]
    assert found["q3"] == pytest.approx([cosine, 0.7 * cosine, 0], rel=2e-4)
    assert column("together_all")["q3"] == pytest.approx([cosine, cosine, 0], rel=2e-4)


def test_items_as_they_were_known_at_the_query() -> None:
    """After the window's end, on day 20; a was chosen on the days 0 and 10, b on day 20."""
    assert column("item_events")["q2"] == [2, 1, 0]
    assert column("item_events_13d")["q2"] == [1, 1, 0]
    assert column("item_days_since_last")["q1"] == pytest.approx([10, 0, None], abs=1e-6)
    assert column("item_rating")["q1"] == pytest.approx([(7 + 6) / 4, (2 + 6) / 3, 3])


def test_a_query_of_the_past_knows_its_past() -> None:
    asked = queries({"q2": []}).with_columns(timestamp=pl.lit(day(5)).cast(tables.TIME))
    none = lists("bm25", {})
    found = program().transform(asked, none, lists("blend", {"q2": EVERY}))
    assert column("item_events", found)["q2"] == [1, 0, 0]
    assert column("item_days_known", found)["q2"] == [5, None, None]


def test_only_the_newest_of_a_history_are_looked_at() -> None:
    frame = transformed(program(max_history=1))
    assert column("seen", frame)["q3"] == [0, 1, 0]
    assert column("user_history", frame)["q3"] == [1, 1, 1]


def test_items_and_words_are_joined() -> None:
    assert column("item_price")["q2"] == [10, None, None]
    assert column("overlap_document")["q2"] == pytest.approx([0.5, 0.5, 0])


def test_keys_and_names() -> None:
    frame = transformed()
    assert frame.columns[:3] == ["query_id", "item_id", "user_id"]
    assert frame.select("query_id", "item_id").is_unique().all()
    names = tables.feature_names(frame)
    assert names == frame.columns[3:] == sorted(names)
    assert not set(tables.EXAMPLES.columns) & set(names)
    assert {"bm25_gap", "dense_rank", "blend_score", "item_days_known", "together"} <= set(names)


@pytest.mark.parametrize("query", HISTORIES)
def test_one_query_is_described_as_in_a_batch(query: str) -> None:
    """Also by columns: one that no lexical retriever answers has its features all the same."""
    batch = transformed().filter(query_id=query)
    assert_frame_equal(transformed(only=[query]), batch, check_exact=True)


def test_without_candidates_there_are_columns_and_no_rows() -> None:
    asked = queries(HISTORIES)
    none = lists("bm25", {})
    found = program().transform(asked, none, none)
    assert found.is_empty()
    missing = set(transformed().columns) - set(found.columns)
    assert missing == set()


def test_what_is_of_no_catalogue_is_refused_by_its_id() -> None:
    asked, none = queries(HISTORIES), lists("bm25", {})
    for strange in ("aa", "zz"):
        with pytest.raises(UserError, match=f"unknown item_ids, such as '{strange}'"):
            program().transform(asked, none, lists("blend", {"q1": {"a": 2.0, strange: 1.0}}))
    with pytest.raises(UserError, match="unknown query_ids, such as 'q9'"):
        program().transform(asked, none, lists("blend", {"q9": {"a": 2.0}}))


def test_a_saved_program_describes_the_same(tmp_path: Path) -> None:
    made = program()
    made.save(tmp_path)
    assert_frame_equal(transformed(FeatureProgram.load(tmp_path)), transformed(made))
    fewer = FeatureProgram.load(tmp_path)
    assert_frame_equal(transformed(fewer, ["q2"]), transformed(made, ["q2"]))
