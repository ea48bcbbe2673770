"""Questions: what a model is asked of a text, under which key, and what its reply is worth."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError

from stages.core.store import Store, content_hash
from stages.enrich.llm.base import Backend, Conversation, Reply
from stages.enrich.llm.forms import json_schema
from stages.enrich.llm.prompts import Prompt

Form = TypeVar("Form", bound=BaseModel)

_TO_SPACES = dict.fromkeys(range(ord(" ")), " ")
"""JSON knows no control characters within a text; grammars of bounded texts let them through."""

_BEFORE = re.compile(r"[\s\ufeff]*(```[ \t]*\w*[\s\ufeff]*)?")
"""What servers that ignore the schema put before the right JSON: a Markdown fence, a BOM."""


@dataclass(frozen=True)
class Task(Generic[Form]):
    """What is asked of each text.

    Attributes:
        prompt: what stands before the text; it must describe the form, as not every server does.
        form: what an answer must fill in, with bounds on every list and text.
        unit: what a text is, such as "review".
    """

    prompt: Prompt
    form: type[Form]
    unit: str = "prompt"


@dataclass(frozen=True)
class Question:
    """What is asked of one text.

    Attributes:
        turns: the text, and what was said of an answer to it; the prompt stands before them.
        max_tokens: how long the answer may be.
    """

    turns: Conversation
    max_tokens: int


class Questions(Generic[Form]):
    """A task as it is put to one model.

    Attributes:
        schema: the JSON schema that the model is held to.
        kind: what the store calls the replies.
    """

    def __init__(self, task: Task[Form], backend: Backend) -> None:
        self.schema = json_schema(task.form)
        self.kind = f"{task.unit} answers of {backend.model}"
        self._form = task.form
        self._model = backend.identity
        self._max_tokens = backend.max_tokens
        self._before = task.prompt.messages
        self._settings: dict[int, str] = {}

    def first(self, text: str) -> Question:
        """Return what is asked of a text."""
        return Question([{"role": "user", "content": text}], self._max_tokens)

    def second(self, question: Question, reply: Reply, reason: str | None) -> Question | None:
        """Return what is asked after a reply that is no filled-in form for a reason; null without.

        A reply that broke off at its limit is asked for again with room for twice the tokens. Any
        other is answered with an objection that quotes the schema, which a server that holds the
        model to it does not show to it. A prompt that was rejected is not asked again.
        """
        if reason is None or reply.text is None:
            return None
        if reply.is_cut_off:
            return Question(question.turns, 2 * question.max_tokens)
        # Only the kind of the reason, for details are worded differently by each pydantic version,
        # and another wording is another key.
        kind = reason.partition(":")[0]
        objection = [
            {"role": "assistant", "content": reply.text or f"({kind})"},
            {
                "role": "user",
                "content": f"This cannot be used: {kind}. Answer again with nothing but JSON as "
                f"this schema has it: {json.dumps(self.schema)}",
            },
        ]
        return Question([*question.turns, *objection], question.max_tokens)

    def conversation(self, question: Question) -> Conversation:
        """Return all messages of a question."""
        return [*self._before, *question.turns]

    def key(self, question: Question) -> str:
        """Return the hash of model, messages, schema and sampling."""
        limit = question.max_tokens
        if limit not in self._settings:
            sampling = {"temperature": 0, "max_tokens": limit}
            self._settings[limit] = content_hash(self._model, self._before, self.schema, sampling)
        return content_hash(self._settings[limit], question.turns)

    def check(self, reply: Reply) -> tuple[Form | None, str | None]:
        """Return the filled-in form, or why the reply is none."""
        if reply.problem is not None or reply.text is None:
            return None, reply.problem or "rejected"
        text = _BEFORE.sub("", reply.text, count=1).rstrip().removesuffix("```")
        try:
            return self._form.model_validate_json(text.translate(_TO_SPACES)), None
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in problem["loc"])
            kind = "broken JSON" if problem["type"] == "json_invalid" else "schema violation"
            return None, ": ".join(part for part in (kind, where, problem["msg"]) if part)

    def failed(self, questions: Sequence[Question], store: Store) -> list[str]:
        """Return the keys of replies to first questions and to their second ones that failed."""
        known = stored((self.key(question) for question in questions), store)
        failed = []
        second_of: dict[str, str] = {}
        for question in questions:
            key = self.key(question)
            if key not in known:
                continue
            more = self.second(question, known[key], self.check(known[key])[1])
            if more is not None:
                second_of[key] = self.key(more)
            elif known[key].text is None:
                failed.append(key)
        again = stored(second_of.values(), store)
        for key, second in second_of.items():
            if second in again and self.check(again[second])[0] is None:
                failed += [key, second]
        return failed


def stored(keys: Iterable[str], store: Store) -> dict[str, Reply]:
    """Return those replies that the store holds, by their key."""
    return {key: Reply(**json.loads(entry)) for key, entry in store.get_many(keys).items()}
