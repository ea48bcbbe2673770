"""Documents: which parts an item has, and that a window knows nothing of what came later."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.core import tables
from stages.core.log import UserError
from stages.core.params import Documents
from stages.enrich.documents import compose, compose_windows, main

START = datetime(2020, 1, 1, tzinfo=UTC)
ITEM_SCHEMA = {"item_id": pl.String, "title": pl.String, "features": pl.List(pl.String)}
EVENT_SCHEMA: dict[str, Any] = {
    "event_id": pl.String,
    "item_id": pl.String,
    "timestamp": tables.TIME,
    "title": pl.String,
    "text": pl.String,
    "split": pl.Enum(tables.PARTS),
}
KEYWORD_SCHEMA = {"event_id": pl.String, "item_id": pl.String, "keywords": pl.List(pl.String)}
SUMMARY_SCHEMA = {"item_id": pl.String, "summary": pl.String}

ITEMS = pl.DataFrame(
    [
        ("bare", None, []),
        ("full", " A\n mic ", ["usb", " ", "red\ncase", "long cable"]),
        ("named", None, []),
        ("titled", "Strap", []),
    ],
    schema=ITEM_SCHEMA,
    orient="row",
)
EVENTS = pl.DataFrame(
    [
        ("e1", "full", START, "Good", "for gigs", "fit"),
        ("e2", "full", START + timedelta(1), None, "for kids", "rank"),
        ("e3", "full", START + timedelta(2), None, "for valid eyes", "valid"),
        ("e4", "named", START + timedelta(1), None, "loud", "rank"),
        ("e5", "bare", START + timedelta(3), None, "late", "test"),
    ],
    schema=EVENT_SCHEMA,
    orient="row",
)
KEYWORDS = pl.DataFrame(
    [
        ("e1", "full", ["gigs", "voice"]),
        ("e2", "full", ["kids", "voice"]),
        ("e3", "full", ["valid eyes", "voice"]),
        ("e4", "named", ["loud"]),
        ("e5", "bare", ["late"]),
    ],
    schema=KEYWORD_SCHEMA,
    orient="row",
)
SUMMARIES = pl.DataFrame([("full", "It hears.")], schema=SUMMARY_SCHEMA, orient="row")


def texts(documents: pl.DataFrame, window: str) -> dict[str, str]:
    chosen = documents.filter(pl.col("window") == window)
    return dict(chosen.select("item_id", "text").iter_rows())


def test_windows_hold_what_their_own_reviews_say() -> None:
    documents = compose_windows(ITEMS, EVENTS, KEYWORDS, SUMMARIES, Documents(reviews=1))
    assert texts(documents, "fit") == {
        "full": "[Title] A mic [Review Keywords] gigs, voice [Description Summary] It hears. "
        "[Features] usb; red case; long cable\n[Reviews] Good. for gigs",
        "titled": "[Title] Strap",
    }
    assert texts(documents, "train") == {
        "full": "[Title] A mic [Review Keywords] voice, gigs, kids [Description Summary] It hears. "
        "[Features] usb; red case; long cable\n[Reviews] for kids",
        "named": "[Review Keywords] loud\n[Reviews] loud",
        "titled": "[Title] Strap",
    }


def test_parts_are_capped() -> None:
    chosen = Documents(max_keywords=1, max_features=2)
    documents = compose_windows(ITEMS, EVENTS, KEYWORDS, SUMMARIES, chosen)
    assert texts(documents, "train")["full"] == (
        "[Title] A mic [Review Keywords] voice [Description Summary] It hears. "
        "[Features] usb; red case"
    )
    none = Documents(max_keywords=0, max_features=0)
    documents = compose_windows(ITEMS, EVENTS, KEYWORDS, SUMMARIES, none)
    assert texts(documents, "train") == {
        "full": "[Title] A mic [Description Summary] It hears.",
        "titled": "[Title] Strap",
    }


def test_the_best_keywords_are_kept_and_then_put_in_order() -> None:
    def named(count: int) -> str:
        chosen = Documents(max_keywords=count, max_features=0, keyword_order="alphabet")
        documents = compose_windows(ITEMS, EVENTS, KEYWORDS, SUMMARIES.clear(), chosen)
        return texts(documents, "train")["full"]

    assert named(3) == "[Title] A mic [Review Keywords] gigs, kids, voice"
    assert named(2) == "[Title] A mic [Review Keywords] gigs, voice"
    assert named(1) == "[Title] A mic [Review Keywords] voice"


def test_an_item_keeps_in_window_train_the_keywords_of_window_fit() -> None:
    rows = [
        ("e1", "full", START, None, "one", "fit"),
        ("e2", "full", START, None, "two", "rank"),
        ("e3", "titled", START, None, "none is named", "fit"),
        ("e4", "titled", START, None, "four", "rank"),
        ("e5", "titled", START, None, "five", "valid"),
    ]
    events = pl.DataFrame(rows, schema=EVENT_SCHEMA, orient="row")
    named = [("e1", "full", ["mic"]), ("e2", "full", ["amp"]), ("e3", "titled", [])]
    named += [("e4", "titled", ["red"]), ("e5", "titled", ["late"])]
    keywords = pl.DataFrame(named, schema=KEYWORD_SCHEMA, orient="row")

    def composed(window: str, of: str) -> dict[str, str]:
        settings = Documents(max_features=0, keyword_window=of)
        documents = compose_windows(ITEMS, events, keywords, SUMMARIES.clear(), settings)
        return texts(documents, window)

    early = {"full": "[Title] A mic [Review Keywords] mic", "titled": "[Title] Strap"}
    kept = early | {"titled": "[Title] Strap [Review Keywords] red"}
    assert composed("fit", "own") == composed("fit", "fit") == early
    assert composed("train", "fit") == kept
    assert composed("train", "own") == kept | {"full": "[Title] A mic [Review Keywords] amp, mic"}


def test_sources_without_reviews_or_descriptions_are_composed() -> None:
    documents = compose_windows(
        ITEMS, EVENTS.clear(), KEYWORDS.clear(), SUMMARIES.clear(), Documents(reviews=2)
    )
    assert texts(documents, "train") == texts(documents, "fit")
    assert set(texts(documents, "fit")) == {"full", "titled"}


words = st.sampled_from(["gig", "kid", "loud", "mic", "red", "strap"])
reviews = st.lists(
    st.tuples(
        st.sampled_from(ITEMS["item_id"].to_list()),
        st.integers(0, 30),
        st.one_of(st.none(), words),
        st.one_of(st.none(), words),
        st.lists(words, max_size=3, unique=True),
    ),
    max_size=12,
)


def frames(rows: list[Any], split: str, prefix: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    events = [
        (f"{prefix}{n}", item, START + timedelta(day), title, text, split)
        for n, (item, day, title, text, _) in enumerate(rows)
    ]
    named = [(f"{prefix}{n}", row[0], row[4]) for n, row in enumerate(rows)]
    return (
        pl.DataFrame(events, schema=EVENT_SCHEMA, orient="row"),
        pl.DataFrame(named, schema=KEYWORD_SCHEMA, orient="row"),
    )


@settings(max_examples=40, deadline=None)
@given(reviews, reviews, reviews, st.integers(0, 3))
def test_later_reviews_change_no_earlier_window(
    early: list[Any], ranked: list[Any], late: list[Any], quoted: int
) -> None:
    chosen = Documents(max_keywords=3, reviews=quoted)
    parts = [frames(early, "fit", "f"), frames(ranked, "rank", "r"), frames(late, "test", "t")]

    def composed(upto: int) -> pl.DataFrame:
        events = pl.concat([events for events, _ in parts[:upto]])
        keywords = pl.concat([keywords for _, keywords in parts])
        return compose_windows(ITEMS, events, keywords, SUMMARIES, chosen)

    assert texts(composed(3), "fit") == texts(composed(1), "fit")
    assert texts(composed(3), "train") == texts(composed(2), "train")


@settings(max_examples=40, deadline=None)
@given(reviews, st.randoms(use_true_random=False))
def test_order_of_rows_does_not_matter(rows: list[Any], random: Any) -> None:
    events, keywords = frames(rows, "fit", "f")
    chosen = Documents(max_keywords=2, reviews=2)
    shuffled = [
        frame.sample(fraction=1, shuffle=True, seed=random.randrange(99))
        for frame in (ITEMS, keywords, SUMMARIES, events)
    ]
    assert compose(*shuffled, chosen).equals(compose(ITEMS, keywords, SUMMARIES, events, chosen))


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    (tmp_path / "params.yaml").write_text("documents: {reviews: 1}\n")
    items = ITEMS.with_columns(
        description=pl.lit(None, pl.String),
        categories=pl.lit([], pl.List(pl.String)),
        brand=pl.lit(None, pl.String),
        price=pl.lit(None, pl.Float64),
        image=pl.lit(None, pl.String),
    )
    events = EVENTS.with_columns(
        user_id=pl.lit("u"),
        event=pl.lit("rate", tables.EVENTS.columns["event"]),
        value=pl.lit(5.0),
    )
    status = tables.KEYWORDS.columns["status"]
    asked = {"backend": pl.lit("yake"), "prompt_hash": pl.lit("0"), "reason": pl.lit(None, str)}
    keywords = KEYWORDS.with_columns(**asked, status=pl.lit("ok", status))
    summaries = SUMMARIES.with_columns(**asked, status=pl.lit("ok", status))
    none = pl.DataFrame(schema=tables.SPLIT_PROPERTIES.columns)
    tables.write(none, tmp_path / "properties.parquet", tables.SPLIT_PROPERTIES)
    tables.write(items, tmp_path / "items.parquet", tables.ITEMS)
    tables.write(events, tmp_path / "events.parquet", tables.SPLIT_EVENTS)
    tables.write(keywords, tmp_path / "keywords.parquet", tables.KEYWORDS)
    tables.write(summaries, tmp_path / "summaries.parquet", tables.SUMMARIES)
    return tmp_path


def test_stage_writes_the_same_bytes_twice(run_folder: Path) -> None:
    def run() -> bytes:
        names = ["items", "properties", "events", "keywords", "summaries", "documents"]
        main(run_folder / "params.yaml", *(run_folder / f"{name}.parquet" for name in names))
        return (run_folder / "documents.parquet").read_bytes()

    assert run() == run()
    documents = tables.read(run_folder / "documents.parquet", tables.DOCUMENTS)
    assert documents.equals(documents.sort("window", "item_id"))
    assert documents.height == 5


def test_attributes_stand_before_features() -> None:
    items = ITEMS.head(1).with_columns(
        features=pl.lit(["loud"]), categories=pl.lit(["Red", "Tall"]), size=pl.lit(7), hue=None
    )
    none = Documents(attributes=["categories", "hue", "size"], max_features=3)
    empty = (KEYWORDS.clear(), SUMMARIES.clear(), EVENTS.clear())
    (text,) = compose(items, *empty, none)["text"]
    assert text.endswith("[Features] Red; Tall; 7")
    with pytest.raises(UserError, match=r"documents.attributes names colour, and items have"):
        compose(items, *empty, Documents(attributes=["colour"]))
