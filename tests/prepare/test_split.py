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
from stages.core.parts import Parts
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


EARLY, LATE = range(1, 101), range(10_001, 10_201)
SHOPS = Parts(
    pl.DataFrame({"item_id": ["a1", "b1"], "part": ["a", "b"]}),
    pl.DataFrame({"user_id": ["ann", "bob"], "part": ["a", "b"]}),
)


def side_by_side() -> pl.DataFrame:
    """A hundred events of shop a, and after all of them two hundred of shop b."""
    return events(*[("ann", "a1", ms) for ms in EARLY], *[("bob", "b1", ms) for ms in LATE])


def test_shops_side_by_side_are_cut_each_at_its_own_shares():
    table = side_by_side()
    marked, ends = split.mark_apart(table, SHOPS.of_events(table), Split())
    assert ends == {
        "a": {"fit": 70, "rank": 80, "valid": 90},
        "b": {"fit": 10_140, "rank": 10_160, "valid": 10_180},
    }
    for shop in "ab":
        own = marked.filter(item_id=f"{shop}1")
        assert own.drop("split").equals(table.filter(item_id=f"{shop}1"))
        assert own.equals(split.mark(own.drop("split"), split.cuts(own["timestamp"], Split())))
    assert marked["event_id"].equals(table["event_id"])


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 60)), min_size=1, max_size=80))
def test_a_shop_is_cut_as_if_it_stood_alone(rows: list[tuple[str, int]]):
    who = {"a": "ann", "b": "bob"}
    table = events(*[(who[shop], f"{shop}1", ms + 10_000 * (shop == "b")) for shop, ms in rows])
    shop = SHOPS.of_events(table)
    alone = {}
    for name in shop.unique():
        own = table.filter(shop == name)
        try:
            alone[name] = split.mark(own, split.cuts(own["timestamp"], Split(rank=0.5)))
        except UserError:
            with pytest.raises(UserError, match=f"of part {name} of the shop for"):
                split.mark_apart(own, shop.filter(shop == name), Split(rank=0.5))
            return
    marked, ends = split.mark_apart(table, shop, Split(rank=0.5))
    assert sorted(ends) == sorted(alone)
    for name, own in alone.items():
        assert marked.filter(shop == name).equals(own)


def test_a_shop_too_small_to_be_cut_is_named():
    table = side_by_side().filter((pl.col("item_id") == "a1") | (pl.col("event_id") == "00100"))
    with pytest.raises(UserError, match="leaves no event of part b of the shop for 'rank'"):
        split.mark_apart(table, SHOPS.of_events(table), Split())


@pytest.mark.parametrize(
    ("user", "item", "said"),
    [
        ("bob", "a1", "item a1 is of part a, user bob of b"),
        ("new", "b1", "item b1 is of part b, user new of None"),
        ("new", "x1", "item x1 is of part None, user new of None"),
    ],
)
def test_an_event_of_no_one_shop_has_no_cut(user: str, item: str, said: str):
    table = events(("ann", "a1", 1), (user, item, 2))
    with pytest.raises(UserError, match=f"^1 events are of no one part.*00001: {said}; name one"):
        SHOPS.of_events(table)


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


def write_ingested(log: pl.DataFrame, parts: Parts | None = None, **options: Any) -> None:
    """Write what the stage reads, items and users with their parts if there are any."""
    tables.write(log, files.EVENTS, tables.EVENTS)
    for key, path, table in (
        ("item_id", files.ITEMS, tables.ITEMS),
        ("user_id", files.USERS, tables.USERS),
    ):
        ids = log.select(pl.col(key).unique().sort())
        if parts is not None:
            ids = ids.join(parts.items if key == "item_id" else parts.users, on=key, how="left")
        rest = pl.DataFrame(schema=table.columns).drop(key)
        lists = [name for name, kind in table.columns.items() if isinstance(kind, pl.List)]
        whole = pl.concat([ids, rest], how="diagonal").with_columns(pl.col(lists).fill_null([]))
        tables.write(whole, path, table)
    nothing = pl.DataFrame(schema=tables.PROPERTIES.columns)
    tables.write(nothing, files.PROPERTIES, tables.PROPERTIES)
    Path("params.yaml").write_text(yaml.safe_dump({"split": {"rank": 0.25} | options}))


def test_the_stage_writes_tables_and_cuts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [(f"u{place % 7}", f"i{place % 5}", 1000 + place) for place in range(200)]
    write_ingested(events(*rows))
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


def test_the_stage_cuts_shops_apart_by_shares_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_ingested(side_by_side(), SHOPS)
    said = [("a1", 60), ("a1", 61), ("a1", 9_000), ("b1", 60), ("b1", 9_000), ("b1", 10_150)]
    properties = pl.DataFrame(
        [(item, ms, "said", str(ms)) for item, ms in said],
        {"item_id": pl.String, "timestamp": pl.Int64, "name": pl.String, "value": pl.String},
        orient="row",
    )
    properties = properties.cast({"timestamp": tables.TIME})
    tables.write(properties, files.PROPERTIES, tables.PROPERTIES)
    split.main(Path("params.yaml"))
    cuts = read_json(files.CUTS)
    assert cuts["parts"] == {
        "a": {"fit_end_ms": 60, "train_end_ms": 80, "valid_end_ms": 90},
        "b": {"fit_end_ms": 10_120, "train_end_ms": 10_160, "valid_end_ms": 10_180},
    }
    assert [cuts[name] for name in ("fit_end_ms", "train_end_ms", "valid_end_ms")] == [None] * 3
    assert cuts["events"] == {"fit": 180, "rank": 60, "valid": 30, "test": 30}
    known = pl.read_parquet(files.SPLIT_PROPERTIES).select("window", "item_id", "value").rows()
    # What shop a said after its end is unknown, though shop b goes on for long.
    assert known == [
        ("fit", "a1", "60"),
        ("fit", "b1", "9000"),
        ("train", "a1", "61"),
        ("train", "b1", "10150"),
    ]
    write_ingested(side_by_side(), SHOPS, method="cutoffs", train_end_ms=90, valid_end_ms=10_100)
    split.main(Path("params.yaml"))
    assert "parts" not in read_json(files.CUTS)
    marked = tables.read(files.SPLIT_EVENTS, tables.SPLIT_EVENTS)
    test = marked.filter(split="test")
    assert test["timestamp"].min() == at(10_101)
    assert marked.filter(split="valid")["item_id"].unique().sort().to_list() == ["a1", "b1"]


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
