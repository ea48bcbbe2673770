"""The parts of a document: ranked keywords, quoted reviews, and how they are joined."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.core import tables
from stages.enrich.text.lines import has_characters, one_line
from stages.enrich.text.parts import document_text, quote_reviews, rank_keywords

START = datetime(2020, 1, 1, tzinfo=UTC)


def keyword_frame(rows: list[tuple[str, list[str]]]) -> pl.DataFrame:
    return pl.DataFrame(
        [(f"e{n}", item, words) for n, (item, words) in enumerate(rows)],
        schema={"event_id": pl.String, "item_id": pl.String, "keywords": pl.List(pl.String)},
        orient="row",
    )


def review_frame(rows: list[tuple[str, str, int, str | None, str | None]]) -> pl.DataFrame:
    return pl.DataFrame(
        [(e, i, START + timedelta(days=day), title, text) for e, i, day, title, text in rows],
        schema={
            "event_id": pl.String,
            "item_id": pl.String,
            "timestamp": tables.TIME,
            "title": pl.String,
            "text": pl.String,
        },
        orient="row",
    )


def test_keywords_rank_by_reviews_then_alphabet() -> None:
    keywords = keyword_frame(
        [("a", ["gig", "mic", "amp"]), ("a", ["mic", "gig"]), ("a", ["mic"]), ("b", ["zoo"])]
    )
    assert rank_keywords(keywords).rows() == [
        ("a", "mic", 3, 1),
        ("a", "gig", 2, 2),
        ("a", "amp", 1, 3),
        ("b", "zoo", 1, 1),
    ]
    assert rank_keywords(keywords, 1)["keyword"].to_list() == ["mic", "zoo"]
    assert rank_keywords(keywords, 0).is_empty()


def test_review_that_repeats_itself_counts_once() -> None:
    keywords = keyword_frame([("a", ["mic", "mic", "mic"]), ("a", ["amp"]), ("a", ["amp"])])
    assert rank_keywords(keywords)["keyword"].to_list() == ["amp", "mic"]


def test_reviews_without_keywords_name_none() -> None:
    assert rank_keywords(keyword_frame([("a", []), ("b", [])])).is_empty()
    assert rank_keywords(keyword_frame([])).is_empty()


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.lists(st.sampled_from(list("uvwxyz")), max_size=4)),
        max_size=8,
    ),
    st.integers(1, 4),
)
def test_ranking_is_that_of_counting(rows: list[tuple[str, list[str]]], limit: int) -> None:
    ranked = rank_keywords(keyword_frame(rows), limit)
    for item in "ab":
        counts = Counter(word for of, words in rows if of == item for word in set(words))
        expected = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:limit]
        found = ranked.filter(pl.col("item_id") == item)
        assert list(zip(found["keyword"], found["reviews"], strict=True)) == expected
        assert found["rank"].to_list() == list(range(1, len(expected) + 1))


def test_newest_reviews_are_quoted_with_their_titles() -> None:
    reviews = review_frame(
        [
            ("e1", "a", 1, "Old.", "first"),
            ("e3", "a", 5, None, "no   title\n here"),
            ("e2", "a", 5, "Fine... ", " same day "),
            ("e4", "a", 9, "title only", None),
            ("e5", "a", 9, "title only", "  "),
            ("e6", "b", 0, "  ", "blank title"),
        ]
    )
    quotes = dict(quote_reviews(reviews, 2).iter_rows())
    assert quotes == {"a": ["Fine. same day", "no title here"], "b": ["blank title"]}
    assert quote_reviews(reviews, 0).is_empty()
    assert quote_reviews(reviews, 9)["quotes"].list.len().to_list() == [3, 1]


def text_of(
    title: str | None = None,
    keywords: list[str] | None = None,
    summary: str | None = None,
    features: list[str] | None = None,
    quotes: list[str] | None = None,
) -> str | None:
    frame = pl.DataFrame(
        [(title, keywords, summary, features, quotes)],
        schema={
            "title": pl.String,
            "keywords": pl.List(pl.String),
            "summary": pl.String,
            "features": pl.List(pl.String),
            "quotes": pl.List(pl.String),
        },
        orient="row",
    )
    return str(frame.select(document_text(*map(pl.col, frame.columns))).item() or "") or None


def test_document_of_all_parts() -> None:
    text = text_of("Mic", ["gig", "kids"], "It hears.", ["usb", "red"], ["Good. ok", "bad"])
    assert text == (
        "[Title] Mic [Review Keywords] gig, kids [Description Summary] It hears. "
        "[Features] usb; red\n[Reviews] Good. ok\nbad"
    )


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ({"title": "Mic"}, "[Title] Mic"),
        ({"keywords": ["gig"]}, "[Review Keywords] gig"),
        ({"title": "Mic", "features": ["usb"]}, "[Title] Mic [Features] usb"),
        ({"quotes": ["one", "two"]}, "[Reviews] one\ntwo"),
        ({"title": "", "keywords": [], "summary": "", "features": [], "quotes": []}, None),
        ({}, None),
    ],
)
def test_document_has_the_parts_that_exist(parts: dict[str, object], text: str | None) -> None:
    assert text_of(**parts) == text  # type: ignore[arg-type]


@given(st.text(max_size=20))
def test_one_line_is_one_line(text: str) -> None:
    line = pl.DataFrame({"text": [text]}).select(one_line(pl.col("text"))).item()
    assert line is None or line.splitlines() == [line] == [" ".join(line.split())]
    controls = {n: " " for n in (*range(32), *range(127, 160))}
    assert (line or "") == " ".join(text.translate(controls).split())
    has = pl.DataFrame({"text": [text]}).select(has_characters(pl.col("text"))).item()
    assert has == (line is not None)
