"""Positive passages: the item's document as it would be had the asking review not been written."""

from datetime import UTC, datetime, timedelta
from typing import Literal

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.core import tables
from stages.core.params import Documents
from stages.encode.pairing.positives import other_keywords, positives

START = datetime(2023, 1, 1, tzinfo=UTC)


def keyword_rows(rows: list[tuple[str, str, list[str]]]) -> pl.DataFrame:
    return pl.DataFrame(
        rows,
        {"event_id": pl.String, "item_id": pl.String, "keywords": pl.List(pl.String)},
        orient="row",
    )


def asking(rows: list[tuple[str, str]]) -> pl.DataFrame:
    """One pair a review (event, item)."""
    return pl.DataFrame(
        [
            {
                "pair_id": f"{event}#review_text",
                "event_id": event,
                "user_id": f"u-{event}",
                "item_id": item,
                "query": "?",
            }
            for event, item in rows
        ],
        ["pair_id", "event_id", "user_id", "item_id", "query"],
    ).sort("pair_id")


def test_keywords_are_counted_and_ranked_without_the_pair_s_own_review() -> None:
    keywords = keyword_rows(
        [
            ("e1", "i", ["loud", "gift", "mine"]),
            ("e2", "i", ["loud", "kids"]),
            ("e3", "i", ["gift", "kids", "kids"]),
            ("e4", "other", ["loud"]),
        ]
    )
    pairs = asking([("e1", "i"), ("e2", "i"), ("e3", "i"), ("e4", "other")])
    found = dict(other_keywords(pairs, keywords, limit=3).iter_rows())
    # Of e1's words, "gift" and "loud" are named once more, "mine" by nobody else.
    assert found == {
        "e1#review_text": ["kids", "gift", "loud"],
        "e2#review_text": ["gift", "kids", "loud"],
        "e3#review_text": ["loud", "gift", "kids"],
    }


def test_the_limit_counts_words_that_are_left() -> None:
    """The item's first words may all be the review's own: those behind them move up."""
    keywords = keyword_rows([("e1", "i", ["a", "b", "c"]), ("e2", "i", ["d", "e", "f"])])
    found = dict(other_keywords(asking([("e1", "i")]), keywords, limit=2).iter_rows())
    assert found == {"e1#review_text": ["d", "e"]}


def written(
    reviews: dict[str, int],
    catalogue: bool,
    quoted: int,
    words: bool = True,
    order: Literal["reviews", "alphabet"] = "reviews",
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Positives of items with so many reviews each; every review has words all its own."""
    rows = [(f"{item}e{n}", item) for item, count in reviews.items() for n in range(count)]
    events = pl.DataFrame(
        [
            {
                "event_id": event,
                "user_id": f"u-{event}",
                "item_id": item,
                "timestamp": START + timedelta(hours=7 * place % 11),
                "title": f"Title-{event}",
                "text": f"Story-{event}",
            }
            for place, (event, item) in enumerate(rows)
        ],
        {
            name: tables.EVENTS.columns[name]
            for name in ("event_id", "user_id", "item_id", "timestamp", "title", "text")
        },
    )
    items = pl.DataFrame(
        [
            {"item_id": item, "title": f"Name {item}" if catalogue else None, "features": []}
            for item in reviews
        ],
        {"item_id": pl.String, "title": pl.String, "features": pl.List(pl.String)},
    )
    keywords = keyword_rows([(e, i, ["shared", f"own-{e}"]) for e, i in rows] if words else [])
    summaries = pl.DataFrame(schema={"item_id": pl.String, "summary": pl.String})
    settings = Documents(reviews=quoted, keyword_order=order)
    pairs = asking(rows)
    return pairs, positives(pairs, items, events, keywords, summaries, settings)


@given(
    st.dictionaries(st.sampled_from("abc"), st.integers(1, 6), min_size=1),
    st.booleans(),
    st.integers(0, 3),
    st.booleans(),
)
@settings(max_examples=60)
def test_a_positive_says_nothing_of_its_own_review(
    reviews: dict[str, int], catalogue: bool, quoted: int, words: bool
) -> None:
    pairs, found = written(reviews, catalogue, quoted, words)
    assert found.columns == [*pairs.columns, "positive"]
    for event, positive in found.select("event_id", "positive").iter_rows():
        said = positive.replace(",", " ").replace(".", " ").split()
        assert not {f"Title-{event}", f"Story-{event}", f"own-{event}"} & set(said)
        assert said
    # What is known beside the review decides whether there is a pair.
    known = {
        item
        for item, count in reviews.items()
        if catalogue or (count > 1 and (words or quoted > 0))
    }
    assert set(found["item_id"]) == known
    assert found.height == sum(reviews[item] for item in known)
    assert found.equals(written(reviews, catalogue, quoted, words)[1])


def test_an_item_with_a_single_review_and_no_catalogue_entry_makes_no_pair() -> None:
    _, found = written({"a": 1, "b": 2}, catalogue=False, quoted=2)
    assert found["item_id"].to_list() == ["b", "b"]


def test_lines_come_in_turn_over_an_item_s_pairs() -> None:
    _, found = written({"a": 6}, catalogue=True, quoted=2)
    heads = found["positive"].str.starts_with("[Title] Name a [Review Keywords] shared, ")
    assert heads.sum() == 2
    quotes = found.filter(~heads)["positive"]
    assert quotes.str.contains(r"^Title-ae\d\. Story-ae\d$").all()
    assert quotes.n_unique() == 4


def test_without_quotes_every_positive_is_the_first_line() -> None:
    _, found = written({"a": 3}, catalogue=True, quoted=0)
    assert found["positive"].to_list() == [
        "[Title] Name a [Review Keywords] shared, own-ae1, own-ae2",
        "[Title] Name a [Review Keywords] shared, own-ae0, own-ae2",
        "[Title] Name a [Review Keywords] shared, own-ae0, own-ae1",
    ]


def test_keywords_of_positives_follow_each_other_as_in_documents() -> None:
    _, found = written({"a": 3}, catalogue=True, quoted=0, order="alphabet")
    assert found["positive"].to_list() == [
        "[Title] Name a [Review Keywords] own-ae1, own-ae2, shared",
        "[Title] Name a [Review Keywords] own-ae0, own-ae2, shared",
        "[Title] Name a [Review Keywords] own-ae0, own-ae1, shared",
    ]
