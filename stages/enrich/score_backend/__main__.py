"""Labelled reviews in, scores of keywords backends out: precision, recall, F1 and speed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Annotated, Any, cast, get_args

import polars as pl
import typer

from stages.core import files, metrics
from stages.core.log import UserError, get_logger, run
from stages.core.params import Keywords, Params, load_params
from stages.core.store import Store
from stages.enrich.keywords import read_keywords, select_reviews
from stages.enrich.score_backend.scoring import (
    LABELLED,
    LabelledReview,
    read_labelled,
    score,
    summarise,
)
from stages.enrich.text.phrases import Method, extract_phrases

log = get_logger("score_backend")

PARTS = {"all": slice(None), "choose": slice(0, None, 2), "report": slice(1, None, 2)}
"""Every other review is for choosing a backend, a prompt or a word list, the rest for reporting."""

_HEADER = (
    "| backend | valid | precision | recall | F1 | micro precision | micro recall | micro F1 "
    "| keywords | reviews/s |"
)


_COSTS = ["asked", "asked_again", "from_store", "tokens_in", "tokens_out"]
_COSTS += ["tokens_in_store", "tokens_out_store", "seconds"]


@dataclass(frozen=True)
class Scored:
    """What one backend made of the reviews.

    Attributes:
        table: `score` of it.
        speed: reviews a second; null where answers came from the store.
        costs: what a language model was asked and took (`ask.Tally`); empty of other backends.
    """

    table: pl.DataFrame
    speed: float | None
    costs: dict[str, Any]


def run_backend(
    reviews: Sequence[LabelledReview], settings: Keywords, params: Params, store_file: Path
) -> Scored:
    """Return how well one backend reads; answers of a language model are kept in the store.

    What is loaded once is counted for a language model, and not for a backend without one, which
    would have taken longer to load its stop words than to read so few reviews.
    """
    events = pl.DataFrame(
        {
            "event_id": [review.id for review in reviews],
            "item_id": [review.id for review in reviews],
            "text": [review.text for review in reviews],
            "split": "fit",
        }
    )
    asked = select_reviews(events, settings.model_copy(update={"max_items": None}), held_out=False)
    is_method = settings.backend in get_args(Method)
    if is_method:
        extract_phrases(pl.Series(["?"]), cast(Method, settings.backend), 9, 1, 1)
    with TemporaryDirectory() as folder:
        kept = Path(folder) / "store.sqlite" if is_method else store_file
        with Store(kept) as store:
            start = perf_counter()
            table, figures = read_keywords(asked, settings, params.llm, store)
            seconds = perf_counter() - start
    by_id = {row["event_id"]: row for row in table.iter_rows(named=True)}
    answers = [by_id[review.id] for review in reviews]
    keywords = [answer["keywords"] for answer in answers]
    return Scored(
        score(reviews, keywords, [answer["status"] == "ok" for answer in answers]),
        None if figures["tokens_in_store"] or figures["from_store"] else len(reviews) / seconds,
        {} if is_method else {name: figures[name] for name in _COSTS},
    )


def score_table(scored: dict[str, Scored]) -> str:
    """Return a Markdown table of backends, a row each, from their scores and speed."""
    lines = [_HEADER, "|---" * _HEADER.count(" | ") + "|---|"]
    for name, one in scored.items():
        summary = summarise(one.table)
        figures = [
            _interval(summary[kind].get(figure))
            for kind in ("macro", "micro")
            for figure in ("precision", "recall", "f1")
        ]
        speed = "" if one.speed is None else f"{one.speed:,.0f}"
        lines.append(
            f"| {name} | {summary['valid']:.3f} | {' | '.join(figures)} "
            f"| {one.table['given'].sum() / one.table.height:.1f} | {speed} |"
        )
    return "\n".join(lines)


def cost_table(scored: dict[str, Scored]) -> str:
    """Return a Markdown table of what each language model was asked and took, a row each."""
    lines = [f"| cost | {' | '.join(name.replace('_', ' ') for name in _COSTS)} |"]
    lines.append("|---" * (1 + len(_COSTS)) + "|")
    for name, one in scored.items():
        if one.costs:
            lines.append(f"| {name} | {' | '.join(f'{cost:,}' for cost in one.costs.values())} |")
    return "\n".join(lines)


def language_table(scored: dict[str, Scored]) -> str:
    """Return a Markdown table of each backend's macro F1 by language."""
    lines = ["| backend | language | reviews | F1 |", "|---|---|---|---|"]
    for name, one in scored.items():
        for rows in one.table.partition_by("language", maintain_order=True):
            found = _interval(summarise(rows)["macro"]["f1"])
            lines.append(f"| {name} | {rows['language'][0]} | {rows.height} | {found} |")
    return "\n".join(lines)


def difference_table(scored: dict[str, Scored]) -> str:
    """Return a Markdown table of macro F1 against the first backend, paired over reviews."""
    (first, base), *others = scored.items()
    lines = ["| paired | F1 |", "|---|---|"]
    for name, one in others:
        difference = metrics.paired_difference(one.table["f1"], base.table["f1"], resamples=2000)
        lines.append(f"| {name} - {first} | {_interval(difference)} |")
    return "\n".join(lines)


def _interval(figure: dict[str, Any] | None) -> str:
    return f"{figure['mean']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})" if figure else ""


def _variants(backend: str, prompts: Sequence[Path], settings: Keywords) -> dict[str, Keywords]:
    """Return what is to be scored of a backend, by name: its prompts, if it is a language model."""
    own: dict[str, Any] = {"backend": backend}
    if backend in get_args(Method):
        prompts, own = [], own | {"language": None}
    try:
        chosen = Keywords.model_validate(settings.model_dump() | own)
    except ValueError as error:
        raise UserError(
            f"--backend {backend!r} is no keywords.backend; choose one of the README's table"
        ) from error
    if not prompts:
        return {backend: chosen}
    return {f"{backend} {path}": chosen.model_copy(update={"prompt": path}) for path in prompts}


def main(
    params_file: Annotated[Path, typer.Option("--params")] = files.PARAMS,
    backend: Annotated[
        list[str] | None,
        typer.Option(help="chunks, yake, openai or vllm; several to compare them with the first."),
    ] = None,
    prompt: Annotated[
        list[Path] | None,
        typer.Option(help="Prompt of a language model; several to compare them with the first."),
    ] = None,
    part: Annotated[str, typer.Option(help="all, choose or report: every other review.")] = "all",
    labelled_file: Annotated[Path, typer.Option("--labelled")] = LABELLED,
    store_file: Annotated[
        Path, typer.Option("--store", help="Where answers of language models are kept.")
    ] = files.LLM_STORE,
) -> None:
    """Score keywords backends by reviews labelled by hand; without options, that of the params."""
    params = load_params(params_file)
    if part not in PARTS:
        raise UserError(f"--part {part!r} is none of {', '.join(PARTS)}; choose one of them")
    if params.keywords.language not in (None, "en"):
        raise UserError(
            f"{params_file}: keywords.language is {params.keywords.language!r}, and keywords are "
            "labelled in each review's own language and in English; let it be null or en"
        )
    reviews = read_labelled(labelled_file)[PARTS[part]]
    if not reviews:
        raise UserError(
            f"{labelled_file} holds one review, and --part {part} is every other one from the "
            "second on; label more of them, or choose another part"
        )
    scored = {}
    for name in dict.fromkeys(backend or [params.keywords.backend]):
        for label, settings in _variants(name, prompt or [], params.keywords).items():
            scored[label] = run_backend(reviews, settings, params, store_file)
            log.info("%s: %d reviews scored", label, len(reviews))
    tables = [score_table(scored), language_table(scored)]
    if len(scored) > 1:
        tables.append(difference_table(scored))
    if any(one.costs for one in scored.values()):
        tables.append(cost_table(scored))
    typer.echo("\n\n".join(tables))


if __name__ == "__main__":
    run(main)
