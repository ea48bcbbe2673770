"""The contract of a language model backend: conversations in, replies out as they arrive."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

Conversation = list[dict[str, str]]
"""Messages of a `role` and a `content`, oldest first."""

SMALLEST: Conversation = [{"role": "user", "content": "Answer with an empty form."}]
"""Asked when a prompt failed: where this fails too the model is broken, not the prompt."""

_CUT_OFF = "cut off"


@dataclass(frozen=True)
class Reply:
    """What came back for one conversation, kept as it came.

    Attributes:
        text: the answer, perhaps broken off; null when the model would not even read the prompt, or
            not answer it in time, so that asking again is no use.
        problem: why the text cannot be what was asked for, as far as the backend knows:
            "refusal", "cut off", "content filter", "stopped", "rejected" or "timeout", perhaps with
            ": " and more.
        tokens_in: tokens of the conversation, as the model counts them; of one without an
            answer, those of `SMALLEST` where that was asked for its sake.
        tokens_out: tokens of the answer to it.
        seconds: from the reply before it, or the first question, until it came: over many replies
            their mean is the time that one takes at the concurrency there was. Null in entries of
            stores that were written before it was measured.
    """

    text: str | None
    problem: str | None = None
    tokens_in: int = field(default=0, compare=False)
    tokens_out: int = field(default=0, compare=False)
    seconds: float | None = field(default=None, compare=False)

    @property
    def is_cut_off(self) -> bool:
        """Whether the answer ended at its limit of tokens."""
        return self.problem is not None and self.problem.startswith(_CUT_OFF)


class Backend(Protocol):
    """A model that answers a batch of conversations.

    Attributes:
        model: its name.
        max_tokens: how long an answer may be at first.
        retries: requests that were sent again since they had failed, by HTTP status, "timeout" or
            "connection".
    """

    model: str
    max_tokens: int
    retries: Counter[str]

    @property
    def identity(self) -> str:
        """What answers are kept under: as much of the weights as can be told before loading."""
        ...

    def load(self) -> None:
        """Make the model ready, so that the first reply takes no longer than others.

        Raises:
            UserError: the model cannot be had.
        """
        ...

    def answer(
        self,
        conversations: Sequence[Conversation],
        schema: dict[str, Any],
        max_tokens: int,
        take: Callable[[int, Reply], None],
    ) -> None:
        """Answer all, calling `take(position, reply)` for each as soon as its reply is known.

        Args:
            conversations: what to answer, each on its own.
            schema: the JSON schema that the model is held to.
            max_tokens: the longest answer.
            take: called once a conversation, in any order, from this thread.

        Raises:
            UserError: the model cannot be had; replies taken before are good.
        """
        ...


def readable(text: str) -> str:
    """Return `text` with lone surrogates, which no UTF-8 holds, replaced by question marks."""
    return text.encode("utf-8", "replace").decode()


def ending_problem(finish_reason: str | None, max_tokens: int) -> str | None:
    """Return what a finish reason other than "stop" says against the answer."""
    if finish_reason == "stop":
        return None
    if finish_reason == "length":
        return f"{_CUT_OFF}: {max_tokens} tokens were not enough (llm.max_tokens)"
    return "content filter" if finish_reason == "content_filter" else f"stopped: {finish_reason}"
