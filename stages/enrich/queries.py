"""Review queries and keywords in, queries out: the words with which a held-out review searches."""

from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from stages.core import files, tables
from stages.core.log import UserError, get_logger, run
from stages.core.params import Queries, load_params
from stages.enrich.text.lines import one_line

log = get_logger(__name__)


def word_queries(queries: pl.DataFrame, keywords: pl.DataFrame, settings: Queries) -> pl.DataFrame:
    """Return the queries with the text that `settings` asks for.

    A review of which no words are left is no query; who asks without words goes on doing so.

    Args:
        queries: the queries table; a review's query has the id of its event.
        keywords: event_id and the list keywords.
        settings: `text` chooses the review, its keywords (joined by ", ", up to `max_keywords`),
            or the keywords followed by the review.
    """
    review = one_line(pl.col("text"))
    named = one_line(pl.col("keywords").list.head(settings.max_keywords).list.join(", "))
    parts = {"review_text": [review], "keywords": [named], "both": [named, review]}[settings.text]
    return (
        queries.join(
            keywords.select(pl.col("event_id").alias("query_id"), "keywords"),
            on="query_id",
            how="left",
            maintain_order="left",
        )
        .with_columns(words=pl.concat_str(parts, separator=". ", ignore_nulls=True))
        .filter(pl.col("text").is_null() | (pl.col("words").str.len_chars() > 0))
        .with_columns(text=pl.when(pl.col("text").is_not_null()).then("words"))
        .drop("keywords", "words")
    )


def main(
    params_file: Annotated[Path, typer.Option("--params")] = files.PARAMS,
    review_queries_file: Annotated[Path, typer.Option("--review-queries")] = files.REVIEW_QUERIES,
    keywords_file: Annotated[Path, typer.Option("--keywords")] = files.KEYWORDS,
    queries_file: Annotated[Path, typer.Option("--queries")] = files.QUERIES,
) -> None:
    """Give each query its words: the review's text, its keywords, or both."""
    params = load_params(params_file)
    review_queries = tables.read(review_queries_file, tables.QUERIES)
    keywords = tables.read(keywords_file, tables.KEYWORDS, ["event_id", "keywords"])
    queries = word_queries(review_queries, keywords, params.queries)
    if not queries.height:
        raise UserError(
            f"{review_queries_file}: none of {review_queries.height} queries has words by "
            f"queries.text {params.queries.text!r}; choose another, or see why {keywords_file} "
            "names none for these reviews"
        )
    tables.write(queries, queries_file, tables.QUERIES)
    log.info(
        "%d held-out queries, %d of them with %s, %d dropped for want of words",
        review_queries.height,
        queries["text"].count(),
        params.queries.text,
        review_queries.height - queries.height,
    )


if __name__ == "__main__":
    run(main)
