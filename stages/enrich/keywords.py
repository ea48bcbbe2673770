"""Reviews in, keywords out: who a product is for, when and why it is used, one row a review."""

from pathlib import Path
from typing import Annotated, Any, cast, get_args

import polars as pl
import typer

from stages.core import files, tables
from stages.core.log import get_logger, run
from stages.core.params import Keywords, Llm, load_params
from stages.core.storage import write_json
from stages.core.store import Store
from stages.enrich.llm import load_backend
from stages.enrich.llm.ask import Tally, ask, count_reasons
from stages.enrich.llm.forms import ReviewKeywords
from stages.enrich.llm.plan import open_store, plan, plan_table
from stages.enrich.llm.prompts import load_prompt
from stages.enrich.llm.questions import Task
from stages.enrich.text.lines import has_characters, one_line
from stages.enrich.text.phrases import Method, clean_phrases, extract_phrases, language_of

log = get_logger(__name__)


def select_reviews(events: pl.DataFrame, settings: Keywords, held_out: bool) -> pl.DataFrame:
    """Return event_id, item_id and text of the reviews to read, sorted by event_id.

    Events without text are left out, and so are those of valid and test unless `held_out`.
    """
    wanted = tables.PARTS if held_out else tables.PARTS_OF_WINDOW["train"]
    reviews = (
        events.filter(pl.col("split").is_in(wanted) & has_characters(pl.col("text")))
        .select("event_id", "item_id", "text")
        .sort("event_id")
    )
    return reviews if settings.max_items is None else reviews.head(settings.max_items)


def texts_to_ask(reviews: pl.DataFrame, settings: Keywords) -> list[str]:
    """Return what a language model sees of reviews: one line, cut at `max_review_chars`."""
    line = one_line(pl.col("text")).str.slice(0, settings.max_review_chars)
    return reviews.select(line)["text"].to_list()


def keywords_task(settings: Keywords) -> Task[ReviewKeywords]:
    """Return what a language model is asked of a review.

    Raises:
        UserError: `settings.prompt` is no prompt, or cannot ask for keywords in `language`.
    """
    prompt = load_prompt(settings.prompt, ReviewKeywords, settings.language)
    return Task(prompt, ReviewKeywords, "review")


def read_keywords(
    reviews: pl.DataFrame,
    settings: Keywords,
    llm: Llm,
    store: Store,
    retry_failed: bool = False,
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Return the keywords table and its metrics by the backend that `settings` names.

    Raises:
        UserError: the language model cannot be had.
    """
    if settings.backend in get_args(Method):
        method = cast(Method, settings.backend)
        numbers = settings.max_review_chars, settings.max_keywords, settings.max_words
        found = extract_phrases(reviews["text"], method, *numbers, store)
        keywords, hashes = found["keywords"], found["hash"]
        reasons = pl.Series([None], dtype=pl.String).new_from_index(0, reviews.height)
        tally = Tally()
    else:
        backend = load_backend(settings.backend, llm)
        task = keywords_task(settings)
        texts = texts_to_ask(reviews, settings)
        answers, tally = ask(texts, task, backend, store, retry_failed=retry_failed)
        phrases = [
            _phrases_of(answer.value, text, settings)
            for answer, text in zip(answers, texts, strict=True)
        ]
        keywords = pl.Series(phrases, dtype=pl.List(pl.String))
        hashes = pl.Series([answer.key for answer in answers], dtype=pl.String)
        reasons = pl.Series([answer.reason for answer in answers], dtype=pl.String)
    table = _table(reviews, settings.backend, keywords, hashes, reasons)
    return table, _metrics(table, tally)


def plan_keywords(
    reviews: pl.DataFrame, settings: Keywords, llm: Llm, store: Store, retry_failed: bool = False
) -> str:
    """Return a table of what `read_keywords` would ask of a language model and what it would cost.

    Raises:
        UserError: `settings.prompt` is no prompt.
    """
    if settings.backend in get_args(Method):
        return f"keywords.backend {settings.backend} asks no language model: nothing is paid for"
    backend = load_backend(settings.backend, llm)
    texts = texts_to_ask(reviews, settings)
    task = keywords_task(settings)
    return plan_table(plan(texts, task, backend, store, retry_failed=retry_failed))


def _phrases_of(form: ReviewKeywords | None, text: str, settings: Keywords) -> list[str]:
    if form is None:
        return []
    language = settings.language or language_of(text)
    return clean_phrases([*form.who, *form.when, *form.why], settings.max_keywords, language)


def _table(
    reviews: pl.DataFrame,
    backend: str,
    keywords: pl.Series,
    hashes: pl.Series,
    reasons: pl.Series,
) -> pl.DataFrame:
    status = pl.when(reasons.is_null()).then(pl.lit("ok")).otherwise(pl.lit("failed"))
    return reviews.select(
        "event_id",
        "item_id",
        keywords.alias("keywords"),
        pl.lit(backend).alias("backend"),
        hashes.alias("prompt_hash"),
        status.cast(tables.KEYWORDS.columns["status"]).alias("status"),
        reasons.alias("reason"),
    )


def _metrics(table: pl.DataFrame, tally: Tally) -> dict[str, Any]:
    failed = int((table["status"] == "failed").sum())
    return vars(tally) | {
        "reviews": table.height,
        "ok": table.height - failed,
        "failed": failed,
        "reasons": count_reasons(table["reason"].drop_nulls().to_list()),
        "without_keywords": int((table["keywords"].list.len() == 0).sum()),
    }


def main(
    params_file: Annotated[Path, typer.Option("--params")] = files.PARAMS,
    events_file: Annotated[Path, typer.Option("--events")] = files.SPLIT_EVENTS,
    store_file: Annotated[Path, typer.Option("--store")] = files.LLM_STORE,
    keywords_file: Annotated[Path, typer.Option("--keywords")] = files.KEYWORDS,
    metrics_file: Annotated[Path, typer.Option("--metrics")] = files.METRICS / "keywords.json",
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Ask anew what failed in earlier runs.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what would be asked and cost; ask nothing.")
    ] = False,
) -> None:
    """Read keywords out of reviews, by rule or by a language model."""
    params = load_params(params_file)
    columns = ["event_id", "item_id", "text", "split"]
    events = tables.read(events_file, tables.SPLIT_EVENTS, columns)
    reviews = select_reviews(events, params.keywords, params.queries.text != "review_text")
    settings = (reviews, params.keywords, params.llm)
    if dry_run:
        with open_store(store_file) as store:
            typer.echo(plan_keywords(*settings, store, retry_failed))
        return
    with Store(store_file) as store:
        keywords, metrics = read_keywords(*settings, store, retry_failed)
    tables.write(keywords, keywords_file, tables.KEYWORDS)
    write_json(metrics_file, metrics)
    log.info("%d events, %d reviews: %s", events.height, reviews.height, metrics)


if __name__ == "__main__":
    run(main)
