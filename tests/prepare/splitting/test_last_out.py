"""Leave-last-out: each user's own order decides, ties are drawn, and nothing else moves."""

import random
from collections import Counter
from datetime import UTC, datetime
from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.core import tables
from stages.core.log import UserError
from stages.core.params import Split
from stages.prepare import split
from stages.prepare.splitting.filters import frequent
from stages.prepare.splitting.last_out import in_sequence, mark_last
from tests.prepare.test_split import events


def parts_of(table: pl.DataFrame, user: str) -> list[str]:
    own = mark_last(table).filter(user_id=user).sort("timestamp")
    return own["split"].cast(pl.String).to_list()


@pytest.mark.parametrize(
    ("count", "parts"),
    [
        (1, ["fit"]),
        (2, ["fit", "test"]),
        (3, ["fit", "valid", "test"]),
        (4, ["fit", "rank", "valid", "test"]),
        (6, ["fit", "fit", "fit", "rank", "valid", "test"]),
    ],
)
def test_the_last_are_held_out(count: int, parts: list[str]) -> None:
    rows = [("u", f"i{n}", 10 * n) for n in range(count)] + [("v", "i0", 5)]
    assert parts_of(events(*rows), "u") == parts
    assert parts_of(events(*reversed(rows)), "u") == parts


def test_an_order_is_drawn_for_what_is_tied() -> None:
    rows = [("u", f"i{n}", 7) for n in range(6)] + [("u", "later", 9), ("v", "i0", 7)]
    orders = set()
    for seed in range(20):
        found = in_sequence(events(*rows), seed)
        assert found["event_id"].to_list() == events(*rows)["event_id"].to_list()
        own = found.filter(user_id="u").sort("timestamp")
        # Six share a millisecond, so the last is moved by five, and what came later stays later.
        moved = own["timestamp"].dt.epoch("ms").to_list()
        assert moved == [7, 8, 9, 10, 11, 12, 13]
        assert own["item_id"][-1] == "later"
        orders.add(tuple(own["item_id"]))
    assert len(orders) > 10
    again = in_sequence(events(*rows), 0)
    assert again.equals(in_sequence(events(*rows), 0))


def test_the_order_of_a_file_does_not_tell_the_target() -> None:
    """Files sorted by item give each place to each item equally often."""
    rows = [(f"u{user}", f"i{n}", 7) for user in range(2000) for n in range(4)]
    marked = mark_last(in_sequence(events(*rows), 1))
    counts = Counter(marked.filter(split="test")["item_id"])
    assert all(430 < counts[f"i{n}"] < 570 for n in range(4)), counts


EVENT = st.tuples(st.sampled_from("abc"), st.sampled_from("wxyz"), st.integers(1, 12))


@settings(deadline=None)
@given(st.lists(EVENT, min_size=12, max_size=60), st.integers(0, 5))
def test_invariants(rows: list[tuple[str, str, int]], seed: int) -> None:
    table = events(*rows)
    try:
        marked = split.leave_last_out(table, seed)
    except UserError:
        assert max(Counter(user for user, _, _ in rows).values()) < 4
        return
    assert marked.drop("split", "timestamp").equals(table.drop("timestamp"))
    queries = split.moment_queries(marked)
    assert queries.height == (marked["split"] != "fit").sum()
    for (user,), own in marked.group_by("user_id"):
        ordered = own.sort("timestamp")
        assert all(a < b for a, b in pairwise(ordered["timestamp"]))
        order = [tables.PARTS.index(part) for part in ordered["split"]]
        assert order == sorted(order)
        assert all(order.count(number) <= 1 for number in (1, 2, 3))
        asked = queries.filter(user_id=user, split="test")
        if len(asked):
            past = [step["item_id"] for step in asked["history"].to_list()[0]]
            assert past == ordered["item_id"].to_list()[:-1]
    # Only ties move, and by less than there are events.
    moved = (marked["timestamp"] - table["timestamp"]).dt.total_milliseconds()
    assert moved.min() == 0
    assert moved.max() < len(rows)


def test_nobody_with_four_events_is_refused() -> None:
    with pytest.raises(UserError, match=r"no event for 'rank': 6 events of 3 users"):
        split.leave_last_out(events(*[(u, i, n) for n, u in enumerate("abc") for i in "xy"]), 0)


def test_without_times_a_user_loses_events_at_random() -> None:
    rows = [(f"u{n}", f"i{item}", 0) for n in range(50) for item in range(8)]
    random.Random(0).shuffle(rows)
    first, again, other = (split.leave_last_out(events(*rows), seed) for seed in (1, 1, 2))
    assert first.equals(again)
    held = [one.filter(split="test").select("user_id", "item_id") for one in (first, other)]
    assert held[0].height == held[1].height == 50
    assert 1 <= held[0].join(held[1], on=["user_id", "item_id"]).height < 20
    assert first["timestamp"].max() == datetime.fromtimestamp(0.007, UTC)


CHAIN = [("a", "x"), ("a", "y"), ("b", "y"), ("b", "z"), ("c", "x"), ("c", "y"), ("d", "z")]


def kept(**options: object) -> set[tuple[str, str]]:
    table = events(*[(user, item, n) for n, (user, item) in enumerate(CHAIN)])
    found = frequent(table, Split.model_validate(options))
    return set(found.select("user_id", "item_id").iter_rows())


def test_minimum_counts() -> None:
    assert kept() == set(CHAIN)
    # d has one event; without it z has one.
    assert kept(min_user_events=2) == set(CHAIN[:6])
    assert kept(min_user_events=2, min_item_events=2) == {*CHAIN[:3], *CHAIN[4:6]}


def test_the_core_is_what_holds_both_minimums() -> None:
    """Without z, b has one event and goes too."""
    found = kept(min_user_events=2, min_item_events=2, core=True)
    assert found == {("a", "x"), ("a", "y"), ("c", "x"), ("c", "y")}
    with pytest.raises(UserError, match="leave none of 7 events"):
        kept(min_user_events=3, core=True)


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("uvwxyz")), min_size=1))
def test_a_core_is_the_largest(pairs: list[tuple[str, str]]) -> None:
    table = events(*[(user, item, n) for n, (user, item) in enumerate(pairs)])
    try:
        found = frequent(table, Split(min_user_events=2, min_item_events=2, core=True))
    except UserError:
        found = table.clear()
    for key in ("user_id", "item_id"):
        assert found.is_empty() or found.group_by(key).len()["len"].min() >= 2
    # The union of cores is one, so whatever is one by itself is in the largest.
    rest = list(pairs)
    while True:
        users, items = Counter(u for u, _ in rest), Counter(i for _, i in rest)
        fewer = [(u, i) for u, i in rest if users[u] >= 2 and items[i] >= 2]
        if fewer == rest:
            break
        rest = fewer
    assert sorted(found.select("user_id", "item_id").iter_rows()) == sorted(rest)
