"""Items in, summaries out: long descriptions made short, one row an item that has a description."""

from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer
from pydantic import BaseModel

from stages.core import files, tables
from stages.core.log import get_logger, run
from stages.core.params import Llm, Summaries, load_params
from stages.core.storage import write_json
from stages.core.store import Store, content_hash
from stages.enrich.llm import load_backend
from stages.enrich.llm.ask import Tally, ask, count_reasons
from stages.enrich.llm.base import Backend
from stages.enrich.llm.forms import summary_form
from stages.enrich.llm.plan import open_store, plan, plan_table
from stages.enrich.llm.prompts import load_prompt
from stages.enrich.llm.questions import Task
from stages.enrich.text.lines import one_line
from stages.enrich.text.sentences import leading_sentences

log = get_logger(__name__)

LONGEST_READ = 8000
"""Characters of a description that a language model is given."""


def select_descriptions(items: pl.DataFrame, max_items: int | None) -> pl.DataFrame:
    """Return item_id and description of the items that have one, on one line, sorted by id."""
    described = (
        items.select("item_id", one_line(pl.col("description")))
        .drop_nulls("description")
        .sort("item_id")
    )
    return described if max_items is None else described.head(max_items)


def extract_summaries(described: pl.DataFrame, settings: Summaries) -> pl.DataFrame:
    """Return the summaries table without a language model.

    Descriptions of up to `min_chars` are their own summary (backend "verbatim"), of longer ones
    the leading sentences are taken ("extractive").
    """
    rows = []
    for item_id, text in described.iter_rows():
        if len(text) <= settings.min_chars:
            rows.append((item_id, text, "verbatim", content_hash("verbatim", text), "ok", None))
        else:
            short = leading_sentences(text, settings.max_chars)
            key = content_hash("extractive", settings.max_chars, text)
            rows.append((item_id, short, "extractive", key, "ok", None))
    return pl.DataFrame(rows, schema=tables.SUMMARIES.columns, orient="row")


def summaries_task(settings: Summaries) -> Task[BaseModel]:
    """Return what a language model is asked of a description.

    Raises:
        UserError: `settings.prompt` is no prompt.
    """
    limit = settings.max_chars
    prompt = load_prompt(
        settings.prompt,
        summary_form(LONGEST_READ),
        fill={"max_chars": str(limit)},
        fits=lambda answer: len(answer["summary"]) <= limit,
    )
    return Task(prompt, summary_form(limit), "description")


def ask_summaries(
    described: pl.DataFrame,
    settings: Summaries,
    backend: Backend,
    store: Store,
    retry_failed: bool = False,
) -> tuple[pl.DataFrame, Tally]:
    """Return the summaries table, long descriptions by a language model, and what it cost.

    Where the model fails the leading sentences are taken, and the row says "failed" and why.
    """
    table = extract_summaries(described, settings)
    is_long = table["backend"] == "extractive"
    long = described.filter(is_long)
    task = summaries_task(settings)
    answers, tally = ask(_read(long), task, backend, store, retry_failed=retry_failed)
    rows = []
    for fallback, answer in zip(table.filter(is_long).iter_rows(), answers, strict=True):
        item_id, summary, *_ = fallback
        if answer.value is not None:
            said = str(answer.value.model_dump()["summary"])
            summary = leading_sentences(said, settings.max_chars) or summary
        status = "failed" if answer.reason else "ok"
        rows.append((item_id, summary, settings.backend, answer.key, status, answer.reason))
    asked = pl.DataFrame(rows, schema=tables.SUMMARIES.columns, orient="row")
    return pl.concat([table.filter(~is_long), asked]), tally


def plan_summaries(
    described: pl.DataFrame,
    settings: Summaries,
    llm: Llm,
    store: Store,
    retry_failed: bool = False,
) -> str:
    """Return a table of what `ask_summaries` would ask and what it would cost.

    Raises:
        UserError: `settings.prompt` is no prompt.
    """
    if not settings.use_llm:
        return "summaries.use_llm is false, so no language model is asked: nothing is paid for"
    long = described.filter(pl.col("description").str.len_chars() > settings.min_chars)
    backend = load_backend(settings.backend, llm)
    task = summaries_task(settings)
    return plan_table(plan(_read(long), task, backend, store, retry_failed=retry_failed))


def _read(described: pl.DataFrame) -> list[str]:
    return described["description"].str.slice(0, LONGEST_READ).to_list()


def summarise_metrics(table: pl.DataFrame, tally: Tally) -> dict[str, Any]:
    """Count descriptions by who shortened them, and failures by reason."""
    failed = int((table["status"] == "failed").sum())
    return vars(tally) | {
        "descriptions": table.height,
        "by_backend": dict(table["backend"].value_counts().sort("backend").iter_rows()),
        "ok": table.height - failed,
        "failed": failed,
        "reasons": count_reasons(table["reason"].to_list()),
    }


def main(
    params_file: Annotated[Path, typer.Option("--params")] = files.PARAMS,
    items_file: Annotated[Path, typer.Option("--items")] = files.ITEMS,
    store_file: Annotated[Path, typer.Option("--store")] = files.LLM_STORE,
    summaries_file: Annotated[Path, typer.Option("--summaries")] = files.SUMMARIES,
    metrics_file: Annotated[Path, typer.Option("--metrics")] = files.METRICS / "summaries.json",
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Ask anew what failed in earlier runs.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what would be asked and cost; ask nothing.")
    ] = False,
) -> None:
    """Shorten descriptions, to their leading sentences or by a language model."""
    params = load_params(params_file)
    items = tables.read(items_file, tables.ITEMS, ["item_id", "description"])
    described = select_descriptions(items, params.summaries.max_items)
    if dry_run:
        with open_store(store_file) as store:
            typer.echo(plan_summaries(described, params.summaries, params.llm, store, retry_failed))
        return
    if params.summaries.use_llm:
        backend = load_backend(params.summaries.backend, params.llm)
        with Store(store_file) as store:
            summaries, tally = ask_summaries(
                described, params.summaries, backend, store, retry_failed
            )
    else:
        summaries = extract_summaries(described, params.summaries)
        tally = Tally()
    metrics = summarise_metrics(summaries, tally)
    tables.write(summaries, summaries_file, tables.SUMMARIES)
    write_json(metrics_file, metrics)
    log.info("%d items, %d descriptions: %s", items.height, summaries.height, metrics)


if __name__ == "__main__":
    run(main)
