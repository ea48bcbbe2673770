"""Ask a model many prompts: each once, each reply kept, each answer checked, nothing dropped."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from stages.core.log import progress
from stages.core.store import Store, content_hash
from stages.enrich.llm.base import Backend, Conversation, Reply

Form = TypeVar("Form", bound=BaseModel)


@dataclass(frozen=True)
class Answer(Generic[Form]):
    """What became of one prompt.

    Attributes:
        key: under which the store holds the first reply.
        value: the filled-in form; null when neither reply was one.
        reason: why there is no value: "refusal", "cut off", "content filter", "rejected",
            "broken JSON" or "schema violation", perhaps with ": " and more.
    """

    key: str
    value: Form | None
    reason: str | None


@dataclass
class Tally:
    """Requests of a run: sent the first time, sent again for a bad answer, not sent at all."""

    asked: int = 0
    asked_again: int = 0
    from_store: int = 0


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

    Every reply, good or bad, is stored the moment it arrives under the hash of model, messages
    and schema. Equal prompts are asked once. A reply that is no filled-in form is answered with
    an objection, which is another conversation with a key of its own; the second reply counts.
    So a run that is killed asks only what it had not heard, and a repeated run asks nothing.

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
    first: list[Conversation] = [[system, {"role": "user", "content": text}] for text in unique]
    keys = [content_hash(backend.model, conversation, schema) for conversation in first]
    if retry_failed:
        _forget_failed(first, keys, schema, form, backend.model, store)

    replies, asked = _replies(first, keys, schema, backend, store, unit)
    checked = [_check(reply, form) for reply in replies]
    bad = [
        at
        for at, (reply, (value, _)) in enumerate(zip(replies, checked, strict=True))
        if value is None and reply.text is not None
    ]
    second = [_objection(first[at], replies[at], str(checked[at][1])) for at in bad]
    more_keys = [content_hash(backend.model, conversation, schema) for conversation in second]
    more, asked_again = _replies(second, more_keys, schema, backend, store, f"{unit} again")
    for at, reply in zip(bad, more, strict=True):
        checked[at] = _check(reply, form)

    answers = {
        text: Answer(key, value, reason)
        for text, key, (value, reason) in zip(unique, keys, checked, strict=True)
    }
    return [answers[text] for text in prompts], Tally(asked, asked_again, len(unique) - asked)


def json_schema(form: type[BaseModel]) -> dict[str, Any]:
    """Return the form's schema without its docstring, whose wording must not decide a key."""
    schema = form.model_json_schema()
    schema.pop("description", None)
    return schema


def count_reasons(reasons: Sequence[str | None]) -> dict[str, int]:
    """Count reasons by what stands before their first colon."""
    kinds = [reason.partition(":")[0] for reason in reasons if reason is not None]
    return {kind: kinds.count(kind) for kind in sorted(set(kinds))}


def _replies(
    conversations: Sequence[Conversation],
    keys: Sequence[str],
    schema: dict[str, Any],
    backend: Backend,
    store: Store,
    unit: str,
) -> tuple[list[Reply], int]:
    """Return all replies, from the store or else from the backend, and how many were asked."""
    known = _stored(keys, store)
    missing = [at for at, key in enumerate(keys) if key not in known]
    if missing:
        with progress(total=len(keys), initial=len(known), desc=backend.model, unit=unit) as bar:

            def take(position: int, reply: Reply) -> None:
                key = keys[missing[position]]
                entry = {"text": reply.text, "problem": reply.problem}
                store.put_many({key: json.dumps(entry).encode()}, f"answers of {backend.model}")
                known[key] = reply
                bar.update()

            backend.answer([conversations[at] for at in missing], schema, take)
    return [known[key] for key in keys], len(missing)


def _stored(keys: Sequence[str], store: Store) -> dict[str, Reply]:
    return {key: Reply(**json.loads(entry)) for key, entry in store.get_many(keys).items()}


def _forget_failed(
    conversations: Sequence[Conversation],
    keys: Sequence[str],
    schema: dict[str, Any],
    form: type[BaseModel],
    model: str,
    store: Store,
) -> None:
    known = _stored(keys, store)
    second_of: dict[str, str] = {}
    failed: list[str] = []
    for conversation, key in zip(conversations, keys, strict=True):
        if key not in known:
            continue
        value, reason = _check(known[key], form)
        if value is None and known[key].text is None:
            failed.append(key)
        elif value is None:
            objection = _objection(conversation, known[key], str(reason))
            second_of[key] = content_hash(model, objection, schema)
    more = _stored(list(second_of.values()), store)
    for key, second in second_of.items():
        if second in more and _check(more[second], form)[0] is None:
            failed += [key, second]
    store.delete_many(failed)


def _check(reply: Reply, form: type[Form]) -> tuple[Form | None, str | None]:
    """Return the filled-in form, or why the reply is none."""
    if reply.problem is not None or reply.text is None:
        return None, reply.problem or "rejected"
    # Some servers that ignore the schema put the right JSON into a Markdown fence.
    text = reply.text.strip().removeprefix("```json").removesuffix("```")
    try:
        return form.model_validate_json(text), None
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in problem["loc"])
        kind = "broken JSON" if problem["type"] == "json_invalid" else "schema violation"
        return None, ": ".join(part for part in (kind, where, problem["msg"]) if part)


def _objection(conversation: Conversation, reply: Reply, reason: str) -> Conversation:
    # Only the kind of the reason, for details are worded differently by each pydantic version,
    # and another wording is another key.
    kind = reason.partition(":")[0]
    return [
        *conversation,
        {"role": "assistant", "content": reply.text or f"({kind})"},
        {
            "role": "user",
            "content": f"This cannot be used: {kind}. Answer again, more briefly, with nothing but "
            "JSON of the form described above.",
        },
    ]
