"""What a run would ask and cost, told before anything is asked."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stages.core.store import Store
from stages.enrich.llm.base import Backend, Reply
from stages.enrich.llm.questions import Form, Questions, Task, stored

ENOUGH = 20
"""Answers of which a mean is told as measured."""

_LATEST = 1000
_CHARS_PER_TOKEN = 4


@dataclass(frozen=True)
class Figure:
    """A figure and where it comes from; null where nothing tells it."""

    value: float | None
    source: str


@dataclass(frozen=True)
class Plan:
    """What a run would ask and cost.

    Attributes:
        unit: what a text is, such as "review".
        model: who would be asked.
        texts: how many there are.
        different: of them, as equal ones are asked about once.
        missing: different texts of which at least one question is to be asked.
        tokens_in: tokens that would be sent.
        tokens_out: tokens that would come back.
        seconds: time that it would take.
    """

    unit: str
    model: str
    texts: int
    different: int
    missing: int
    tokens_in: Figure
    tokens_out: Figure
    seconds: Figure


def plan(
    texts: Sequence[str],
    task: Task[Form],
    backend: Backend,
    store: Store,
    *,
    retry_failed: bool = False,
) -> Plan:
    """Return what `ask` would ask of the same arguments, and what that would cost.

    Costs are means over the answers that the store holds of the same model to the same prompt; with
    fewer than `ENOUGH` of them, tokens out and time are those of its latest answers about such
    texts to other prompts, and tokens in are estimated from characters. With none of either, tokens
    out are bounded and time is unknown. Time is that of the concurrency that was measured.
    """
    questions = Questions(task, backend)
    unique = list(dict.fromkeys(texts))
    done = _answered(unique, questions, store, retry_failed)
    missing = [text for text in unique if text not in done]
    here = list(done.values())
    latest = [Reply(**json.loads(entry)) for entry in store.latest(questions.kind, _LATEST)]
    before = sum(len(message["content"]) for message in task.prompt.messages)
    characters = sum(before + len(text) for text in missing)
    return Plan(
        unit=task.unit,
        model=backend.model,
        texts=len(texts),
        different=len(unique),
        missing=len(missing),
        tokens_in=_expected([reply.tokens_in for reply in here], len(missing), "to this prompt")
        or Figure(characters / _CHARS_PER_TOKEN, "estimated: four characters a token"),
        tokens_out=_expected([reply.tokens_out for reply in here], len(missing), "to this prompt")
        or _expected([reply.tokens_out for reply in latest], len(missing), "of this model")
        or Figure(len(missing) * backend.max_tokens, "at the most: llm.max_tokens each"),
        seconds=_expected([reply.seconds for reply in here], len(missing), "to this prompt")
        or _expected([reply.seconds for reply in latest], len(missing), "of this model")
        or Figure(None, f"until {ENOUGH} answers have been measured"),
    )


def plan_table(planned: Plan) -> str:
    """Return a Markdown table of a plan."""
    rows = [
        (f"{planned.unit}s", f"{planned.texts:,}", f"{planned.different:,} different"),
        ("answers in the store", f"{planned.different - planned.missing:,}", ""),
        ("missing", f"{planned.missing:,}", ""),
    ]
    if planned.missing:
        rows += [
            ("tokens in", _count(planned.tokens_in), planned.tokens_in.source),
            ("tokens out", _count(planned.tokens_out), planned.tokens_out.source),
            ("time", _duration(planned.seconds), planned.seconds.source),
        ]
    lines = [f"| {planned.model} | | |", "|---|---|---|"]
    lines += [f"| {' | '.join(row)} |".replace("|  |", "| |") for row in rows]
    return "\n".join(lines)


def open_store(path: Path) -> Store:
    """Return the store at `path`, or an empty one in memory where there is none."""
    return Store(path if path.exists() else Path(":memory:"))


def _answered(
    texts: Sequence[str], questions: Questions[Form], store: Store, retry_failed: bool
) -> dict[str, Reply]:
    """Return the texts of which nothing is to be asked, and of each what its replies cost."""
    first = {text: questions.first(text) for text in texts}
    forgotten = set(questions.failed(list(first.values()), store)) if retry_failed else set()
    key_of = {text: questions.key(question) for text, question in first.items()}
    known = stored(set(key_of.values()) - forgotten, store)
    replies = {text: known[key] for text, key in key_of.items() if key in known}
    second_of = {
        text: questions.key(second)
        for text, reply in replies.items()
        if (second := questions.second(first[text], reply, questions.check(reply)[1])) is not None
    }
    again = stored(set(second_of.values()) - forgotten, store)
    return {
        text: _sum(reply, again[second_of[text]]) if text in second_of else reply
        for text, reply in replies.items()
        if text not in second_of or second_of[text] in again
    }


def _sum(first: Reply, second: Reply) -> Reply:
    times = (first.seconds, second.seconds)
    return Reply(
        second.text,
        tokens_in=first.tokens_in + second.tokens_in,
        tokens_out=first.tokens_out + second.tokens_out,
        seconds=None if None in times else sum(time for time in times if time is not None),
    )


def _expected(values: Sequence[float | None], times: int, whose: str) -> Figure | None:
    """Return so many times the mean, or null where too few were measured, or none at all."""
    measured = [value for value in values if value is not None]
    if len(measured) < ENOUGH or not any(measured):
        return None
    mean = sum(measured) / len(measured)
    return Figure(times * mean, f"mean of {len(measured):,} answers {whose}")


def _count(figure: Figure) -> str:
    return "unknown" if figure.value is None else f"{figure.value:,.0f}"


def _duration(figure: Figure) -> str:
    if figure.value is None:
        return "unknown"
    minutes, seconds = divmod(round(figure.value), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
