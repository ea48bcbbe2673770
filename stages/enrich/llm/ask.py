"""Ask a model many prompts: each once, each reply kept, each answer checked, nothing dropped."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from stages.core.log import progress
from stages.core.store import Store, content_hash
from stages.enrich.llm.base import Backend, Conversation, Reply

Form = TypeVar("Form", bound=BaseModel)

_TO_SPACES = dict.fromkeys(range(ord(" ")), " ")
"""JSON knows no control characters within a text; grammars of bounded texts let them through."""


@dataclass(frozen=True)
class Answer(Generic[Form]):
    """What became of one prompt.

    Attributes:
        key: under which the store holds the first reply.
        value: the filled-in form; null when neither reply was one.
        reason: why there is no value: "refusal", "cut off", "content filter", "stopped",
            "rejected", "broken JSON" or "schema violation", perhaps with ": " and more.
    """

    key: str
    value: Form | None
    reason: str | None


@dataclass(frozen=True)
class _Question:
    conversation: Conversation
    max_tokens: int


@dataclass(frozen=True)
class Tally:
    """What a run cost.

    Attributes:
        asked: prompts sent the first time.
        asked_again: prompts sent once more for a bad answer.
        from_store: prompts that were not sent at all.
        tokens_in: tokens of what was sent, as far as the server says.
        tokens_out: tokens of what came back.
        seconds: time spent on waiting for replies.
    """

    asked: int = 0
    asked_again: int = 0
    from_store: int = 0
    tokens_in: int = field(default=0, compare=False)
    tokens_out: int = field(default=0, compare=False)
    seconds: float = field(default=0.0, compare=False)


def ask(
    prompts: Sequence[str],
    instructions: str,
    form: type[Form],
    backend: Backend,
    store: Store,
    *,
    unit: str = "prompt",
    retry_failed: bool = False,
) -> tuple[list[Answer[Form]], Tally]:
    """Return the answer to each prompt, in order, and how many had to be asked.

    Every reply, good or bad, is stored the moment it arrives under the hash of model, messages,
    schema and sampling. Equal prompts are asked once. A reply that broke off at its limit is
    asked for again with room for twice the tokens; any other that is no filled-in form is answered
    with an objection. Either is another question with a key of its own, and the second reply
    counts. So a run that is killed asks only what it had not heard, and a repeated run asks
    nothing.

    Args:
        prompts: one user message each.
        instructions: the system message; it must describe the form, as not every server does.
        form: what an answer must fill in, with bounds on every list and text.
        backend: who answers.
        store: where replies are kept.
        unit: what the progress bar counts.
        retry_failed: forget the replies that failed in earlier runs and ask those prompts anew.

    Raises:
        UserError: the model cannot be had.
    """
    schema = json_schema(form)
    unique = list(dict.fromkeys(prompts))
    system = {"role": "system", "content": instructions}
    first = [
        _Question([system, {"role": "user", "content": text}], backend.max_tokens)
        for text in unique
    ]
    keys = [_key(question, backend.model, schema) for question in first]
    if retry_failed:
        _forget_failed(first, keys, schema, form, backend.model, store)

    start = time.monotonic()
    replies, new = _replies(first, schema, backend, store, unit)
    checked = [_check(reply, form) for reply in replies]
    bad = [
        at
        for at, (reply, (value, _)) in enumerate(zip(replies, checked, strict=True))
        if value is None and reply.text is not None
    ]
    second = [_once_more(first[at], replies[at], str(checked[at][1])) for at in bad]
    more, new_more = _replies(second, schema, backend, store, f"{unit} again")
    heard = [*new, *new_more]
    tally = Tally(
        asked=len(new),
        asked_again=len(new_more),
        from_store=len(unique) - len(new),
        tokens_in=sum(reply.tokens_in for reply in heard),
        tokens_out=sum(reply.tokens_out for reply in heard),
        seconds=round(time.monotonic() - start, 1) if heard else 0.0,
    )
    for at, reply in zip(bad, more, strict=True):
        # A model with no room for a longer answer rejects the second question.
        if reply.text is not None:
            checked[at] = _check(reply, form)

    answers = {
        text: Answer(key, value, reason)
        for text, key, (value, reason) in zip(unique, keys, checked, strict=True)
    }
    return [answers[text] for text in prompts], tally


def json_schema(form: type[BaseModel]) -> dict[str, Any]:
    """Return the form's schema without its docstring, whose wording must not decide a key."""
    schema = form.model_json_schema()
    schema.pop("description", None)
    return schema


def count_reasons(reasons: Sequence[str | None]) -> dict[str, int]:
    """Count reasons by what stands before their first colon."""
    kinds = [reason.partition(":")[0] for reason in reasons if reason is not None]
    return {kind: kinds.count(kind) for kind in sorted(set(kinds))}


def _key(question: _Question, model: str, schema: dict[str, Any]) -> str:
    sampling = {"temperature": 0, "max_tokens": question.max_tokens}
    return content_hash(model, question.conversation, schema, sampling)


def _replies(
    questions: Sequence[_Question],
    schema: dict[str, Any],
    backend: Backend,
    store: Store,
    unit: str,
) -> tuple[list[Reply], list[Reply]]:
    """Return all replies, from the store or else from the backend, and those of the backend."""
    keys = [_key(question, backend.model, schema) for question in questions]
    known = _stored(keys, store)
    missing = {
        key: question for key, question in zip(keys, questions, strict=True) if key not in known
    }
    if missing:
        with progress(total=len(keys), initial=len(known), desc=backend.model, unit=unit) as bar:

            def take(asked: list[str], position: int, reply: Reply) -> None:
                key = asked[position]
                entry = json.dumps(asdict(reply)).encode()
                store.put_many({key: entry}, f"answers of {backend.model}")
                known[key] = reply
                bar.update()

            for max_tokens in sorted({question.max_tokens for question in missing.values()}):
                asked = [key for key in missing if missing[key].max_tokens == max_tokens]
                conversations = [missing[key].conversation for key in asked]
                backend.answer(conversations, schema, max_tokens, partial(take, asked))
    return [known[key] for key in keys], [known[key] for key in missing]


def _stored(keys: Sequence[str], store: Store) -> dict[str, Reply]:
    return {key: Reply(**json.loads(entry)) for key, entry in store.get_many(keys).items()}


def _forget_failed(
    questions: Sequence[_Question],
    keys: Sequence[str],
    schema: dict[str, Any],
    form: type[BaseModel],
    model: str,
    store: Store,
) -> None:
    known = _stored(keys, store)
    second_of: dict[str, str] = {}
    failed: list[str] = []
    for question, key in zip(questions, keys, strict=True):
        if key not in known:
            continue
        value, reason = _check(known[key], form)
        if value is None and known[key].text is None:
            failed.append(key)
        elif value is None:
            more = _once_more(question, known[key], str(reason))
            second_of[key] = _key(more, model, schema)
    again = _stored(list(second_of.values()), store)
    for key, second in second_of.items():
        if second in again and _check(again[second], form)[0] is None:
            failed += [key, second]
    store.delete_many(failed)


def _check(reply: Reply, form: type[Form]) -> tuple[Form | None, str | None]:
    """Return the filled-in form, or why the reply is none."""
    if reply.problem is not None or reply.text is None:
        return None, reply.problem or "rejected"
    # Some servers that ignore the schema put the right JSON into a Markdown fence.
    text = reply.text.strip().removeprefix("```json").removesuffix("```").translate(_TO_SPACES)
    try:
        return form.model_validate_json(text), None
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in problem["loc"])
        kind = "broken JSON" if problem["type"] == "json_invalid" else "schema violation"
        return None, ": ".join(part for part in (kind, where, problem["msg"]) if part)


def _once_more(question: _Question, reply: Reply, reason: str) -> _Question:
    """Return what is asked after a reply that was no filled-in form."""
    if reply.is_cut_off:
        return _Question(question.conversation, 2 * question.max_tokens)
    # Only the kind of the reason, for details are worded differently by each pydantic version,
    # and another wording is another key.
    kind = reason.partition(":")[0]
    objection = [
        {"role": "assistant", "content": reply.text or f"({kind})"},
        {
            "role": "user",
            "content": f"This cannot be used: {kind}. Answer again with nothing but JSON of the "
            "form described above.",
        },
    ]
    return _Question([*question.conversation, *objection], question.max_tokens)
