from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.core import files, tables
from stages.core.log import UserError
from stages.core.params import Split
from stages.core.storage import read_json
from stages.prepare import split
from tests.prepare.conftest import digest


def events(*rows: tuple[str, str, int], texts: list[str | None] | None = None) -> pl.DataFrame:
    """Events of (user, item, millisecond)."""
    return pl.DataFrame(
        {
            "event_id": [f"{place:05}" for place in range(len(rows))],
            "user_id": [user for user, _, _ in rows],
            "item_id": [item for _, item, _ in rows],
            "timestamp": pl.Series([ms for _, _, ms in rows], dtype=pl.Int64).cast(tables.TIME),
            "event": pl.Series(["rate"] * len(rows), dtype=tables.EVENTS.columns["event"]),
            "value": 5.0,
            "title": "title",
            "text": texts or [f"text {place}" for place in range(len(rows))],
        },
        schema_overrides={"text": pl.String},
    )


def at(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def test_fractions_count_events():
    table = events(*[("u", "i", ms) for ms in range(1, 101)])
    ends = split.cuts(table["timestamp"], Split())
    assert ends == {"fit": 70, "rank": 80, "valid": 90}
    marked = split.mark(table, ends)
    assert marked["split"].value_counts().sort("split")["count"].to_list() == [70, 10, 10, 10]


def test_ties_on_a_cut_go_to_its_earlier_side():
    times = [1, 2, 3, 4, 5, 6, 7, 8, 8, 8, 8, 9, 9, 10]
    table = events(*[("u", "i", ms) for ms in times])
    ends = split.cuts(table["timestamp"], Split(train=0.6, valid=0.2, rank=0.25))
    assert ends == {"fit": 8, "rank": 8, "valid": 8}
    ends = split.cuts(table["timestamp"], Split(train=0.6, valid=0.25, rank=0.5))
    assert ends["rank"] == 8
    assert ends["valid"] == 9


def test_the_seeds_cutoffs_are_the_last_of_their_parts():
    train_end, valid_end = 1621867671638, 1643212573029
    times = [train_end - 2, train_end - 1, train_end, train_end + 1, valid_end, valid_end + 1]
    options = Split(method="cutoffs", train_end_ms=train_end, valid_end_ms=valid_end, rank=0.34)
    table = events(*[("u", "i", ms) for ms in times])
    ends = split.cuts(table["timestamp"], options)
    assert ends == {"fit": train_end - 1, "rank": train_end, "valid": valid_end}
    parts = split.mark(table, ends)["split"].to_list()
    assert parts == ["fit", "fit", "rank", "valid", "valid", "test"]


@pytest.mark.parametrize(
    ("times", "part"), [([5, 5, 5, 5], "rank"), ([1, 2, 2, 2], "rank"), ([1, 2, 3, 3], "test")]
)
def test_an_empty_part_is_named(times, part):
    table = events(*[("u", "i", ms) for ms in times])
    ends = split.cuts(table["timestamp"], Split(train=0.5, valid=0.25, rank=0.5))
    with pytest.raises(UserError, match=f"no event for '{part}'"):
        split.mark(table, ends)


def test_queries_know_only_what_came_before():
    rows = [
        ("a", "i1", 100),
        ("a", "i3", 200),
        ("a", "i2", 200),
        ("a", "i4", 300),
        ("a", "i5", 300),
        ("b", "i1", 300),
        ("b", "i2", 400),
        ("c", "i1", 500),
    ]
    table = events(*rows, texts=["x", "x", "x", "words", "", "words", None, "  "])
    marked = split.mark(table, {"fit": 200, "rank": 300, "valid": 400})
    queries = split.review_queries(marked)
    assert queries["query_id"].to_list() == ["00003", "00005"]
    first, second = queries.to_dicts()
    assert first == {
        "query_id": "00003",
        "user_id": "a",
        "timestamp": at(300),
        "text": "words",
        "history": [
            {"item_id": "i1", "timestamp": at(100)},
            {"item_id": "i2", "timestamp": at(200)},
            {"item_id": "i3", "timestamp": at(200)},
        ],
        "targets": ["i4"],
        "split": "rank",
    }
    assert second["history"] == []
    tables.check(queries, tables.QUERIES)


EVENT = st.tuples(st.sampled_from("abcd"), st.sampled_from(["x", "x1", "y"]), st.integers(1, 30))


@settings(deadline=None)
@given(st.lists(EVENT, min_size=1, max_size=60), st.data())
def test_invariants(rows: list[tuple[str, str, int]], data: Any):
    shares = data.draw(st.sampled_from([(0.8, 0.1), (0.5, 0.25), (0.34, 0.33)]))
    options = Split(train=shares[0], valid=shares[1], rank=data.draw(st.sampled_from([0.1, 0.5])))
    table = events(*rows)
    ends = split.cuts(table["timestamp"], options)
    assert ends["fit"] <= ends["rank"] <= ends["valid"]
    try:
        marked = split.mark(table, ends)
    except UserError:
        times = sorted(ms for *_, ms in rows)
        counted = [sum(low < ms <= high for ms in times) for low, high in _bands(ends)]
        assert 0 in counted
        return
    parts = [marked.filter(split=part)["timestamp"] for part in tables.PARTS]
    assert sum(map(len, parts)) == len(rows)
    for earlier, later in pairwise(parts):
        assert earlier.max() < later.min()
    by_time = marked.group_by("timestamp").agg(pl.col("split").n_unique())
    assert by_time["split"].max() == 1
    held = marked.filter(pl.col("split") != "fit")
    queries = split.review_queries(marked)
    assert queries["query_id"].to_list() == held["event_id"].to_list()
    for query in queries.iter_rows(named=True):
        user, now = query["user_id"], query["timestamp"]
        expected = sorted((at(ms), item) for who, item, ms in rows if who == user and at(ms) < now)
        assert [(past["timestamp"], past["item_id"]) for past in query["history"]] == expected


def _bands(ends: dict[str, int]) -> list[tuple[int, int]]:
    cuts = [0, ends["fit"], ends["rank"], ends["valid"], 10**9]
    return list(pairwise(cuts))


def test_the_stage_writes_tables_and_cuts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [(f"u{place % 7}", f"i{place % 5}", 1000 + place) for place in range(200)]
    tables.write(events(*rows), files.EVENTS, tables.EVENTS)
    nothing = pl.DataFrame(schema=tables.PROPERTIES.columns)
    tables.write(nothing, files.PROPERTIES, tables.PROPERTIES)
    Path("params.yaml").write_text(yaml.safe_dump({"split": {"rank": 0.25}}))
    split.main(Path("params.yaml"))
    first = digest(files.DATA / "split")
    assert read_json(files.CUTS) == {
        "method": "fractions",
        "timed": True,
        "fit_end_ms": 1119,
        "train_end_ms": 1159,
        "valid_end_ms": 1179,
        "events": {"fit": 120, "rank": 40, "valid": 20, "test": 20},
        "queries": {"rank": 40, "valid": 20, "test": 20},
    }
    marked = tables.read(files.SPLIT_EVENTS, tables.SPLIT_EVENTS)
    assert marked.drop("split").equals(tables.read(files.EVENTS, tables.EVENTS))
    queries = tables.read(files.REVIEW_QUERIES, tables.QUERIES)
    assert queries.height == 80
    split.main(Path("params.yaml"))
    assert digest(files.DATA / "split") == first


def test_a_heavy_user_costs_what_their_histories_weigh():
    rows = [("heavy", f"i{place % 90}", place) for place in range(1, 3001)]
    rows += [(f"u{place}", "i1", place) for place in range(1, 3001)]
    marked = split.mark(events(*rows), {"fit": 2700, "rank": 2800, "valid": 2900})
    queries = split.review_queries(marked)
    lengths = queries.filter(user_id="heavy")["history"].list.len()
    assert lengths.to_list() == list(range(2700, 3000))
    assert queries.filter(pl.col("user_id") != "heavy")["history"].list.len().max() == 0


def test_reviews_without_words_ask_nothing():
    rows = [("u", "i", ms) for ms in range(1, 9)]
    table = events(*rows, texts=["words"] * 2 + [None] * 6)
    queries = split.review_queries(split.mark(table, {"fit": 2, "rank": 4, "valid": 6}))
    assert queries.is_empty()
    tables.check(queries, tables.QUERIES)


def test_a_moment_is_one_query_without_words():
    table = events(
        ("u", "a", 1), ("v", "a", 2), ("u", "b", 3), ("u", "c", 50), ("u", "b", 50), ("v", "d", 60)
    )
    parts = ["fit", "fit", "fit", "valid", "valid", "test"]
    marked = table.with_columns(pl.Series("split", parts, pl.Enum(tables.PARTS)))
    asked = tables.check(split.moment_queries(marked), tables.QUERIES)
    assert asked["query_id"].to_list() == ["00003", "00005"]
    assert asked["targets"].to_list() == [["b", "c"], ["d"]]
    assert asked["text"].to_list() == [None, None]
    assert asked["split"].to_list() == ["valid", "test"]
    past = [[step["item_id"] for step in history] for history in asked["history"].to_list()]
    assert past == [["a", "b"], ["a"]]


def test_so_many_queries_of_a_split_are_drawn() -> None:
    rows = [(f"u{n}", f"i{n % 7}", 10 * n) for n in range(60)]
    marked = split.mark(events(*rows), {"fit": 200, "rank": 400, "valid": 500})
    for make in (split.review_queries, split.moment_queries):
        every = make(marked)
        some = make(marked, 5, 1)
        assert some.group_by("split").len()["len"].to_list() == [5] * 3
        assert some.join(every, on="query_id", how="semi").equals(some)
        assert some["query_id"].is_sorted()
        assert make(marked, 5, 1).equals(some)
        assert not make(marked, 5, 2).equals(some)
        assert make(marked, 1000, 1).equals(every)
