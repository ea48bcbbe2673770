"""Queries of pairs: what of a review asks, and the title taken out of it."""

from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stages.core import tables
from stages.core.params import Pairs
from stages.encode.pairing.queries import hide_titles, queries_of


def reviews(texts: list[str | None]) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {
                "event_id": f"e{n}",
                "user_id": f"u{n}",
                "item_id": f"i{n}",
                "timestamp": datetime(2023, 1, 1 + n, tzinfo=UTC),
                "event": "rate",
                "value": 5.0,
                "title": None,
                "text": text,
                "split": "fit",
            }
            for n, text in enumerate(texts)
        ],
        tables.SPLIT_EVENTS.columns,
    )


def keywords(lists: list[list[str]]) -> pl.DataFrame:
    return pl.DataFrame(
        {"event_id": [f"e{n}" for n in range(len(lists))], "keywords": lists},
        schema_overrides={"keywords": pl.List(pl.String)},
    )


def asked(query_type: str, **options: int) -> list[tuple[str, str]]:
    found = queries_of(
        reviews(["A  loud\ndrum.", None, " ", "harp"]),
        keywords([["loud", "for kids", "gift"], ["orchestra"], [], []]),
        Pairs.model_validate({"query_type": query_type, **options}),
    )
    assert found.columns == ["pair_id", "event_id", "user_id", "item_id", "query"]
    assert (found["user_id"].str.slice(1) == found["event_id"].str.slice(1)).all()
    return found.select("pair_id", "query").rows()


def test_what_asks() -> None:
    text = [("e0#review_text", "A loud drum."), ("e3#review_text", "harp")]
    words = [("e0#keywords", "loud, for kids, gift"), ("e1#keywords", "orchestra")]
    assert asked("review_text") == text
    assert asked("keywords") == words
    assert asked("both") == sorted(text + words)
    assert asked("keywords", max_keywords=2)[0] == ("e0#keywords", "loud, for kids")


def hidden(query: str, title: str | None) -> tuple[list[str], dict[str, int]]:
    pair = pl.DataFrame({"pair_id": ["p"], "item_id": ["i"], "query": [query]})
    titles = pl.DataFrame({"item_id": ["i"], "title": [title]}, schema_overrides={"title": str})
    left, counts = hide_titles(pair, titles)
    assert left.columns == pair.columns
    return left["query"].to_list(), counts


MASKED, DROPPED = {"masked": 1, "dropped": 0}, {"masked": 0, "dropped": 1}
UNTOUCHED = {"masked": 0, "dropped": 0}


@pytest.mark.parametrize(
    ("query", "title", "left", "counts"),
    [
        ("My ACME-Tuner, it is great!", "Acme Tuner", ["my it is great"], MASKED),
        ("It is great: acme   tuner", "ACME: Tuner!", ["it is great"], MASKED),
        # Twice, and twice in a row.
        ("acme tuner acme tuner is so good", "Acme Tuner", ["is so good"], MASKED),
        # Taking it out brings it together again.
        ("big acme acme tuner tuner for me", "Acme Tuner", ["big for me"], MASKED),
        # Fewer than three words are left.
        ("Love the acme tuner", "Acme Tuner", [], DROPPED),
        ("acme tuner", "Acme Tuner", [], DROPPED),
        # Not the title: words alone, parts of words, other words between.
        ("a tuner by Acme", "Acme Tuner", ["a tuner by Acme"], UNTOUCHED),
        ("macme tuners", "Acme Tuner", ["macme tuners"], UNTOUCHED),
        ("Any text.", None, ["Any text."], UNTOUCHED),
        ("Any text.", "!?", ["Any text."], UNTOUCHED),
        # Letters beyond ASCII.
        ("Für die Große Flöte gut gemacht", "große flöte", ["für die gut gemacht"], MASKED),
    ],
)
def test_the_title_is_taken_out(
    query: str, title: str | None, left: list[str], counts: dict[str, int]
) -> None:
    assert hidden(query, title) == (left, counts)


words = st.lists(st.sampled_from(["a", "b", "C", "b.", "-"]), max_size=8).map(" ".join)


@given(words, words)
@example("a b a b c d e", "a b")
def test_no_query_holds_its_title(query: str, title: str) -> None:
    def plain(text: str) -> list[str]:
        return [word.strip(".-").lower() for word in text.split() if word.strip(".-")]

    for left in hidden(query, title)[0]:
        name, said = plain(title), plain(left)
        starts = range(len(said) - len(name) + 1)
        assert not name or not any(said[at : at + len(name)] == name for at in starts)
