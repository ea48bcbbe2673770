"""Items in, summaries out: long descriptions made short, one row an item that has a description."""

from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from stages.core import files, tables
from stages.core.log import get_logger, run
from stages.core.params import Summaries, load_params
from stages.core.storage import write_json
from stages.core.store import Store, content_hash
from stages.enrich.llm import load_backend
from stages.enrich.llm.ask import Tally, ask, count_reasons
from stages.enrich.llm.base import Backend
from stages.enrich.llm.forms import summary_form, summary_instructions
from stages.enrich.text.parts import one_line
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
    answers, tally = ask(
        long["description"].str.slice(0, LONGEST_READ).to_list(),
        summary_instructions(settings.max_chars),
        summary_form(settings.max_chars),
        backend,
        store,
        unit="description",
        retry_failed=retry_failed,
    )
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
) -> None:
    """Shorten descriptions, to their leading sentences or by a language model."""
    params = load_params(params_file)
    items = tables.read(items_file, tables.ITEMS, ["item_id", "description"])
    described = select_descriptions(items, params.summaries.max_items)
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
