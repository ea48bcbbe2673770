"""Batches of which some prompts are too long: what vLLM is asked, and what that costs."""

from pathlib import Path

import pytest
from vllm_package import CONTEXT, Engine, install

from stages.core.log import UserError
from stages.core.params import Keywords, Llm
from stages.enrich.keywords import keywords_task
from stages.enrich.llm.base import SMALLEST, Conversation, Reply
from stages.enrich.llm.questions import Questions
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


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), Exception("engine is dead")])
def test_engine_that_ends_is_said_and_earlier_batches_are_kept(
    engine: Engine, error: Exception
) -> None:
    engine.ends_with = error
    backend = InProcessVllm(Llm(model="tiny", batch_size=2))
    backend._engine = engine
    conversations: list[Conversation] = [[{"role": "user", "content": word}] for word in "abcd"]
    taken: dict[int, Reply] = {}
    with pytest.raises(UserError, match=rf"ended in a batch of 2 \(.*: {error}\)"):
        backend.answer(conversations, {}, 256, taken.__setitem__)
    assert sorted(taken) == [0, 1]


@pytest.mark.parametrize("at", [0, 31, 63])
def test_prompt_too_long_is_found_by_halves_and_the_others_are_answered_together(
    engine: Engine, at: int
) -> None:
    lengths = [7] * 64
    lengths[at] = CONTEXT + 1
    replies = answered(engine, lengths)
    assert [position for position, reply in enumerate(replies) if reply.text is None] == [at]
    assert str(replies[at].problem) == f"rejected: the prompt is of {CONTEXT + 1} tokens, over 50"
    good = [len(chat) for chat in engine.chats if chat != [SMALLEST] and not too_long(chat)]
    assert sorted(good) == [1, 2, 4, 8, 16, 32]


def model_in(folder: Path, weights: bytes) -> InProcessVllm:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "model.safetensors").write_bytes(weights)
    return InProcessVllm(Llm(model=str(folder)))


def test_answers_of_a_folder_are_those_of_its_weights_wherever_it_lies(tmp_path: Path) -> None:
    weights = bytes(3 * 2**20)
    tuned = weights[: 2**20] + b"\1" * 2**15 + weights[2**20 + 2**15 :]
    last = weights[:-1] + b"\1"
    here = model_in(tmp_path / "here", weights).identity
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "README.md").write_text("The same model.")
    assert model_in(tmp_path / "there", weights).identity == here
    others = [model_in(tmp_path / "here", one).identity for one in (tuned, last, weights[1:])]
    assert len({here, *others}) == 4


def test_answers_of_a_folder_with_other_weights_are_not_taken(tmp_path: Path) -> None:
    keys = []
    for weights in (b"old", b"new", b"old"):
        backend = model_in(tmp_path / "tiny", weights)
        questions = Questions(keywords_task(Keywords()), backend)
        keys.append(questions.key(questions.first("a review")))
    assert keys[0] == keys[2] != keys[1]
    assert InProcessVllm(Llm(model="meta/llama")).identity == "meta/llama"


def too_long(chat: list[Conversation]) -> bool:
    return any(len(one[0]["content"].split()) > CONTEXT for one in chat)
