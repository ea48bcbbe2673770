"""Batches of which some prompts are too long: what vLLM is asked, and what that costs."""

import pytest
from vllm_package import CONTEXT, Engine, install

from stages.core.log import UserError
from stages.core.params import Llm
from stages.enrich.llm.base import SMALLEST, Conversation, Reply
from stages.enrich.llm.vllm import InProcessVllm


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    install(monkeypatch)
    return Engine()


def answered(engine: Engine, lengths: list[int]) -> list[Reply]:
    """Return the replies to prompts of so many tokens."""
    backend = InProcessVllm(Llm(model="tiny", batch_size=64))
    backend._engine = engine
    conversations: list[Conversation] = [
        [{"role": "user", "content": "word " * length}] for length in lengths
    ]
    taken: dict[int, Reply] = {}
    backend.answer(conversations, {}, 256, taken.__setitem__)
    return [taken[position] for position in range(len(lengths))]


def test_model_is_checked_once_and_that_is_counted(engine: Engine) -> None:
    replies = answered(engine, [CONTEXT + 1] * 5 + [7])
    assert [reply.text is None for reply in replies] == [True] * 5 + [False]
    assert engine.chats.count([SMALLEST]) == 1
    small = len(SMALLEST[0]["content"].split())
    assert sum(reply.tokens_in for reply in replies) == small + 7
    assert sum(reply.tokens_out for reply in replies) == 2 + 2


def test_model_that_answers_nothing_ends_the_run(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vllm_package.CONTEXT", 0)
    with pytest.raises(UserError, match="'tiny' in vLLM answers no prompt at all"):
        answered(engine, [7, 7])
