"""Ask a model of many texts: each once, each reply kept, each answer checked, nothing dropped."""

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Generic

from stages.core.log import UserError, get_logger, progress
from stages.core.store import Store
from stages.enrich.llm.base import Backend, Reply
from stages.enrich.llm.questions import Form, Question, Questions, Task, stored

log = get_logger(__name__)


@dataclass(frozen=True)
class Answer(Generic[Form]):
    """What became of one text.

    Attributes:
        key: under which the store holds the first reply.
        value: the filled-in form; null when neither reply was one.
        reason: why there is no value: "refusal", "cut off", "content filter", "stopped",
            "rejected", "timeout", "broken JSON" or "schema violation", perhaps with ": " and more.
    """

    key: str
    value: Form | None
    reason: str | None


@dataclass(frozen=True)
class Tally:
    """What a run cost.

    Attributes:
        asked: texts sent the first time.
        asked_again: texts sent once more for a bad answer.
        from_store: texts that were not sent at all.
        tokens_in: tokens of what was sent, as far as the server says.
        tokens_out: tokens of what came back.
        tokens_in_store: tokens that earlier runs sent for the answers that came from the store.
        tokens_out_store: tokens that came back then.
        seconds: time until the last reply was there, loading the model included.
        seconds_store: seconds that earlier runs waited for the answers that came from the store.
        reasons_first: how many first replies were no filled-in form, those of earlier runs too, by
            the kind of reason; of those that were asked again `reasons` says what became.
        retries: how many requests this run sent again since they had failed, by HTTP status such as
            "429", "timeout" or "connection"; whether they were answered then, `reasons` tells.
    """

    asked: int = 0
    asked_again: int = 0
    from_store: int = 0
    tokens_in: int = field(default=0, compare=False)
    tokens_out: int = field(default=0, compare=False)
    tokens_in_store: int = field(default=0, compare=False)
    tokens_out_store: int = field(default=0, compare=False)
    seconds: float = field(default=0.0, compare=False)
    seconds_store: float = field(default=0.0, compare=False)
    reasons_first: dict[str, int] = field(default_factory=dict, compare=False)
    retries: dict[str, int] = field(default_factory=dict, compare=False)


def ask(
    texts: Sequence[str],
    task: Task[Form],
    backend: Backend,
    store: Store,
    *,
    retry_failed: bool = False,
) -> tuple[list[Answer[Form]], Tally]:
    """Return the answer about each text, in order, and how many had to be asked.

    Every reply, good or bad, is stored the moment it arrives under the hash of model, messages,
    schema and sampling. Equal texts are asked once. A reply that is no filled-in form is asked for
    once more (`Questions.second`), under a key of its own, and the second reply counts. So a run
    that is killed asks only what it had not heard, and a repeated run asks nothing.

    Args:
        texts: one user message each.
        task: what is asked of them.
        backend: who answers.
        store: where replies are kept.
        retry_failed: ask anew where the replies of earlier runs failed; they stay until then.

    Raises:
        UserError: the model cannot be had; what this run paid until then is logged.
    """
    questions = Questions(task, backend)
    first = {text: questions.first(text) for text in texts}
    anew = set(questions.failed(list(first.values()), store)) if retry_failed else set()

    start, retried = time.monotonic(), backend.retries.copy()
    asked = {questions.key(question): question for question in first.values()}
    replies, new = _replies(asked, anew, questions, backend, store, task.unit)
    checked = {key: questions.check(reply) for key, reply in replies.items()}
    reasons_first = count_reasons([reason for _, reason in checked.values()])
    second = {
        key: question
        for key, reply in replies.items()
        if (question := questions.second(asked[key], reply, checked[key][1])) is not None
    }
    key_of = {questions.key(question): key for key, question in second.items()}
    again = dict(zip(key_of, second.values(), strict=True))
    more, new_more = _replies(again, anew, questions, backend, store, f"{task.unit} again")
    for key, reply in more.items():
        # A model with no room for a longer answer rejects the second question.
        if reply.text is not None:
            checked[key_of[key]] = questions.check(reply)

    answers = {text: Answer(key, *checked[key]) for text, key in zip(first, asked, strict=True)}
    sent = new | {key_of[key] for key in new_more}
    heard = [reply for key, reply in replies.items() if key in new]
    heard += [reply for key, reply in more.items() if key in new_more]
    known = [reply for key, reply in replies.items() if key not in new]
    known += [reply for key, reply in more.items() if key not in new_more]
    tally = Tally(
        asked=len(new),
        asked_again=len(new_more),
        from_store=len(asked) - len(sent),
        tokens_in=sum(reply.tokens_in for reply in heard),
        tokens_out=sum(reply.tokens_out for reply in heard),
        tokens_in_store=sum(reply.tokens_in for reply in known),
        tokens_out_store=sum(reply.tokens_out for reply in known),
        seconds=round(time.monotonic() - start, 1) if heard else 0.0,
        seconds_store=round(sum((reply.seconds or 0.0 for reply in known), 0.0), 1),
        reasons_first=reasons_first,
        retries=_since(retried, backend),
    )
    return [answers[text] for text in texts], tally


def count_reasons(reasons: Sequence[str | None]) -> dict[str, int]:
    """Count reasons by what stands before their first colon."""
    kinds = [reason.partition(":")[0] for reason in reasons if reason is not None]
    return {kind: kinds.count(kind) for kind in sorted(set(kinds))}


def _replies(
    asked: Mapping[str, Question],
    anew: set[str],
    questions: Questions[Form],
    backend: Backend,
    store: Store,
    unit: str,
) -> tuple[dict[str, Reply], set[str]]:
    """Return the replies to questions, by key and in order, and keys of those that are new.

    Replies that the store holds under the keys `anew` are replaced.
    """
    known = stored(asked.keys() - anew, store)
    missing = {key: question for key, question in asked.items() if key not in known}
    if missing:
        retried = backend.retries.copy()
        backend.load()
        last = time.monotonic()
        with progress(total=len(asked), initial=len(known), desc=backend.model, unit=unit) as bar:

            def take(sent: list[str], position: int, reply: Reply) -> None:
                nonlocal last
                now = time.monotonic()
                timed, last = replace(reply, seconds=round(now - last, 4)), now
                key = sent[position]
                store.put_many({key: json.dumps(asdict(timed)).encode()}, questions.kind)
                known[key] = timed
                bar.update()

            for max_tokens in sorted({question.max_tokens for question in missing.values()}):
                sent = [key for key in missing if missing[key].max_tokens == max_tokens]
                conversations = [questions.conversation(missing[key]) for key in sent]
                try:
                    backend.answer(conversations, questions.schema, max_tokens, partial(take, sent))
                except UserError:
                    paid = [known[key] for key in missing if key in known]
                    _log_paid(paid, len(missing), _since(retried, backend))
                    raise
    return {key: known[key] for key in asked}, set(missing)


def _since(before: Counter[str], backend: Backend) -> dict[str, int]:
    """Return what a backend sent again since then, by kind."""
    return dict(sorted((backend.retries - before).items()))


def _log_paid(replies: Sequence[Reply], asked: int, retries: Mapping[str, int]) -> None:
    """Say what a run cost that ends before its last reply."""
    if replies:
        log.warning(
            "%d of %d answers came and are kept: %d tokens in, %d out, %.1f s, sent again %s",
            len(replies),
            asked,
            sum(reply.tokens_in for reply in replies),
            sum(reply.tokens_out for reply in replies),
            sum(reply.seconds or 0.0 for reply in replies),
            retries or "none",
        )
