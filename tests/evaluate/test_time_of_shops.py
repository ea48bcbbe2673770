"""Shops side by side, whose logs lie apart in time: each is held to its own cuts and no other's."""

from typing import Any

import polars as pl
import pytest

from stages.core import tables
from stages.core.params import Examples, Split
from stages.core.parts import Parts
from stages.evaluate.checks import learning, time
from stages.evaluate.checks.verdict import Check
from stages.prepare import split
from stages.prepare.splitting.properties import as_of_windows
from stages.rank.features import FeatureProgram

DAY = tables.DAY_MS
SHOPS = Parts(
    pl.DataFrame({"item_id": ["a1", "a2", "b1", "b2"], "part": ["a", "a", "b", "b"]}),
    pl.DataFrame({"user_id": ["ann", "bob"], "part": ["a", "b"]}),
)
SAID = pl.DataFrame(
    [
        (item, day * DAY, "said", f"{item} on {day}")
        for item in ("a1", "b1")
        for day in (1, 60, 85, 5000, 9000, 10_100)
    ],
    {"item_id": pl.String, "timestamp": pl.Int64, "name": pl.String, "value": pl.String},
    orient="row",
).cast({"timestamp": tables.TIME})


def log() -> pl.DataFrame:
    """An event a day: a hundred of shop a, and 27 years later a hundred of shop b."""
    rows = [("ann", f"a{day % 2 + 1}", day) for day in range(1, 101)]
    rows += [("bob", f"b{day % 2 + 1}", day) for day in range(10_001, 10_101)]
    return pl.DataFrame(
        {
            "event_id": [f"e{place:03}" for place in range(len(rows))],
            "user_id": [user for user, *_ in rows],
            "item_id": [item for _, item, _ in rows],
            "timestamp": pl.Series([day * DAY for *_, day in rows]).cast(tables.TIME),
            "value": 1.0,
        }
    )


EVENTS, ENDS = split.mark_apart(log(), SHOPS.of_events(log()), Split())
QUERIES = split.moment_queries(EVENTS)
CUTS: dict[str, Any] = {
    "method": "fractions",
    "parts": {
        name: {"fit_end_ms": of["fit"], "train_end_ms": of["rank"], "valid_end_ms": of["valid"]}
        for name, of in ENDS.items()
    },
}


def moved(event: str, to: str) -> pl.DataFrame:
    kind = EVENTS.schema["split"]
    there = pl.when(event_id=event).then(pl.lit(to, kind)).otherwise("split")
    return EVENTS.with_columns(split=there)


def checked(events: pl.DataFrame) -> tuple[Check, Check]:
    queries = time.check_queries(QUERIES, events, CUTS, SHOPS)
    return time.check_cuts(events, CUTS, SHOPS), queries


def test_shops_that_are_cut_apart_pass() -> None:
    cuts, queries = checked(EVENTS)
    assert cuts.passed
    assert "in a fit ends 1970-03-12 00:00, rank ends" in cuts.message
    assert cuts.figures["b"]["valid"]["events"] == 10
    assert queries.passed
    assert "later than their shop's window" in queries.message


@pytest.mark.parametrize(
    ("event", "shop"), [("e095", "a"), ("e195", "b")], ids=["the older shop", "the newer shop"]
)
def test_a_shop_s_own_later_event_in_its_window_is_found(event: str, shop: str) -> None:
    """Of shop a such an event is still 27 years older than the end of shop b's window."""
    cuts, queries = checked(moved(event, "fit"))
    assert not cuts.passed
    assert f"1 events on the wrong side of the end of fit, in {shop}, such as {event}" in (
        cuts.message
    )
    assert not queries.passed
    assert f"valid queries of {shop} not after window train" in queries.message
    assert f"of {'ab'.replace(shop, '')} not after" not in queries.message


def test_cuts_of_another_shop_are_not_taken_for_a_shop_s_own() -> None:
    for cuts in (CUTS | {"parts": {"b": CUTS["parts"]["b"]}}, {"method": "fractions"}):
        check = time.check_cuts(EVENTS, cuts, SHOPS)
        assert not check.passed
        assert "events of no one shop that was cut, such as e000" in check.message
    same = CUTS | {"parts": dict.fromkeys("ab", CUTS["parts"]["b"])}
    assert "wrong side of the end of fit, in a" in time.check_cuts(EVENTS, same, SHOPS).message


def test_an_event_of_two_shops_is_found() -> None:
    mixed = EVENTS.with_columns(
        user_id=pl.when(event_id="e003").then(pl.lit("bob")).otherwise("user_id")
    )
    check = time.check_cuts(mixed, CUTS, SHOPS)
    assert not check.passed
    assert "1 events of no one shop that was cut, such as e003" in check.message


def test_what_was_said_after_a_shop_s_own_end_is_found() -> None:
    own = as_of_windows(SAID, EVENTS, SHOPS)
    assert time.check_properties(own, SAID, EVENTS, SHOPS).passed
    assert own["value"].to_list() == ["a1 on 60", "b1 on 9000"] * 2
    whole = as_of_windows(SAID, EVENTS)
    check = time.check_properties(whole, SAID, EVENTS, SHOPS)
    assert not check.passed
    assert "1 properties of window fit that were said after its end, such as a1" in check.message


def test_features_as_of_another_shop_s_end_are_found() -> None:
    """What is recent in shop a is not as of the end of shop b's window."""
    items = SHOPS.items.with_columns(
        title=pl.col("item_id"),
        categories=pl.lit([], pl.List(pl.String)),
        brand=pl.lit(None, pl.String),
        price=pl.lit(None, pl.Float64),
    )
    documents = pl.DataFrame(
        {"window": [], "item_id": [], "text": []},
        dict.fromkeys(("window", "item_id", "text"), pl.String),
    )
    known = pl.DataFrame(schema=tables.SPLIT_PROPERTIES.columns)
    own = SHOPS.items.join(SHOPS.users, on="part")
    blend = (
        QUERIES.select("query_id", "user_id")
        .join(own, on="user_id")
        .select(
            "query_id",
            "item_id",
            retriever=pl.lit("popular"),
            rank=pl.lit(1, pl.UInt32),
            score=pl.lit(1.0, pl.Float32),
        )
    )
    params = Examples()

    def examples(parts: Parts | None) -> pl.DataFrame:
        made = []
        for window, held in tables.PARTS_OF_WINDOW.items():
            asked = QUERIES.filter(
                pl.col("split").is_in([s for s, w in tables.WINDOW_OF_SPLIT.items() if w == window])
            )
            behind = EVENTS.filter(pl.col("split").is_in(held))
            program = FeatureProgram(params).fit(items, documents.drop("window"), behind, parts)
            mine = blend.join(asked, on="query_id", how="semi")
            made.append(program.transform(asked, mine, mine))
        return pl.concat(made).join(QUERIES.select("query_id", "split"), on="query_id")

    def check(rows: pl.DataFrame) -> Check:
        given = (rows, items, EVENTS, documents, QUERIES, blend, blend, params, known, ["popular"])
        return learning.check_features(*given, SHOPS)

    assert check(examples(SHOPS)).passed
    late = check(examples(None))
    assert not late.passed
    assert "examples of window train whose item_days_known is made of something" in late.message
