"""Words of queries: the review, its keywords, or both."""

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from stages.core import tables
from stages.core.log import UserError
from stages.core.params import Queries
from stages.enrich.queries import main, word_queries


def query_frame(texts: dict[str, str | None]) -> pl.DataFrame:
    return pl.DataFrame(
        [
            (query, "u", datetime(2020, 1, 1, tzinfo=UTC), text, [], ["i"], "valid")
            for query, text in texts.items()
        ],
        schema=tables.QUERIES.columns,
        orient="row",
    )


REVIEWS = query_frame({"e1": " For my\nson ", "e2": "Loud", "e3": "", "e4": "  ", "e5": "ok"})
KEYWORDS = pl.DataFrame(
    {
        "event_id": ["e1", "e2", "e3", "e4", "e0"],
        "keywords": [["son", "school gigs", "neck"], [], ["kids"], [], ["other"]],
    },
    schema={"event_id": pl.String, "keywords": pl.List(pl.String)},
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("review_text", {"e1": "For my son", "e2": "Loud", "e5": "ok"}),
        ("keywords", {"e1": "son, school gigs", "e3": "kids"}),
        ("both", {"e1": "son, school gigs. For my son", "e2": "Loud", "e3": "kids", "e5": "ok"}),
    ],
)
def test_words_of_queries(text: str, expected: dict[str, str]) -> None:
    settings = Queries.model_validate({"text": text, "max_keywords": 2})
    queries = word_queries(REVIEWS, KEYWORDS, settings)
    assert dict(queries.select("query_id", "text").iter_rows()) == expected
    assert queries.columns == list(tables.QUERIES.columns)


def test_who_asks_without_words_goes_on_doing_so() -> None:
    asked = query_frame({"e1": "Loud", "e6": None})
    for text in ("review_text", "keywords", "both"):
        found = word_queries(asked, KEYWORDS, Queries.model_validate({"text": text}))
        assert found.filter(query_id="e6")["text"].to_list() == [None]


def test_stage_drops_wordless_queries_and_keeps_the_rest(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.parquet" for name in ("reviews", "keywords", "queries")]
    (tmp_path / "params.yaml").write_text("queries: {text: keywords}\n")
    tables.write(REVIEWS, paths[0], tables.QUERIES)
    keywords = KEYWORDS.with_columns(
        item_id=pl.lit("i"),
        backend=pl.lit("yake"),
        prompt_hash=pl.lit("0"),
        status=pl.lit("ok", tables.KEYWORDS.columns["status"]),
        reason=pl.lit(None, pl.String),
    )
    tables.write(keywords, paths[1], tables.KEYWORDS)
    main(tmp_path / "params.yaml", *paths)
    queries = tables.read(paths[2], tables.QUERIES)
    assert queries["query_id"].to_list() == ["e1", "e3"]
    assert queries["targets"].to_list() == [["i"], ["i"]]

    tables.write(keywords.filter(event_id="e0"), paths[1], tables.KEYWORDS)
    with pytest.raises(UserError, match=r"none of 5 queries has words.*keywords\.parquet"):
        main(tmp_path / "params.yaml", *paths)
