"""Plans: what a run would ask is what it then asks, and its cost is measured or said not to be."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import pytest
from chat_server import ChatServer
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from stages.core.params import Llm
from stages.core.store import Store
from stages.enrich.llm import load_backend
from stages.enrich.llm.ask import ask
from stages.enrich.llm.base import Reply
from stages.enrich.llm.plan import ENOUGH, Figure, Plan, open_store, plan, plan_table
from stages.enrich.llm.prompts import Prompt
from stages.enrich.llm.questions import Questions, Task


class Form(BaseModel):
    model_config = ConfigDict(extra="forbid")

    words: Annotated[list[Annotated[str, StringConstraints(max_length=20)]], Field(max_length=3)]


BEFORE = "Fill in words."
TASK = Task(Prompt(BEFORE), Form, "review")
BACKEND = load_backend("openai", Llm(model="tiny"))
GOOD, BAD = '{"words": ["a"]}', "words: a"


def put(store: Store, texts: list[str], task: Task[Form] = TASK, **reply: Any) -> None:
    questions = Questions(task, BACKEND)
    kept = Reply(**{"text": GOOD, "tokens_in": 10, "tokens_out": 4, "seconds": 0.5} | reply)
    entry = json.dumps(asdict(kept)).encode()
    store.put_many({questions.key(questions.first(t)): entry for t in texts}, questions.kind)


def words(first: int, last: int) -> list[str]:
    return [f"w{n:03d}" for n in range(first, last)]


def test_nothing_measured_is_estimated_bounded_or_unknown(tmp_path: Path) -> None:
    with Store(tmp_path / "s") as store:
        planned = plan(["abcd", "abcd", "efghij"], TASK, BACKEND, store)
    assert (planned.texts, planned.different, planned.missing) == (3, 2, 2)
    characters = 2 * len(BEFORE) + 4 + 6
    assert planned.tokens_in == Figure(characters / 4, "estimated: four characters a token")
    assert planned.tokens_out == Figure(2 * 256, "at the most: llm.max_tokens each")
    assert planned.seconds == Figure(None, "until 20 answers have been measured")


def test_means_of_answers_to_the_same_prompt(tmp_path: Path) -> None:
    source = "mean of 20 answers to this prompt"
    with Store(tmp_path / "s") as store:
        put(store, words(0, 15))
        put(store, words(15, 20), tokens_in=30, tokens_out=8, seconds=2.5)
        planned = plan(words(0, 50), TASK, BACKEND, store)
    assert planned.missing == 30
    assert planned.tokens_in == Figure(30 * 15.0, source)  # (15 x 10 + 5 x 30) / 20
    assert planned.tokens_out == Figure(30 * 5.0, source)
    assert planned.seconds == Figure(30 * 1.0, source)


def test_one_answer_fewer_is_not_enough(tmp_path: Path) -> None:
    with Store(tmp_path / "s") as store:
        put(store, words(0, ENOUGH - 1))
        planned = plan(words(0, 50), TASK, BACKEND, store)
    assert planned.missing == 31
    assert planned.seconds.value is None


def test_answers_to_another_prompt_tell_tokens_out_and_time(tmp_path: Path) -> None:
    source = "mean of 25 answers of this model"
    with Store(tmp_path / "s") as store:
        put(store, words(0, 25), Task(Prompt("Earlier."), Form, "review"))
        put(store, words(0, 25), Task(Prompt("Shorten."), Form, "description"), seconds=9.0)
        planned = plan(words(0, 2), TASK, BACKEND, store)
    assert planned.missing == 2
    assert planned.tokens_in.source.startswith("estimated")
    assert (planned.tokens_out, planned.seconds) == (Figure(8.0, source), Figure(1.0, source))


def test_entries_without_time_or_tokens_are_not_measured(tmp_path: Path) -> None:
    with Store(tmp_path / "s") as store:
        put(store, words(0, 40), seconds=None, tokens_in=0)
        planned = plan(words(0, 50), TASK, BACKEND, store)
    assert planned.missing == 10
    assert planned.tokens_in.source.startswith("estimated")
    assert planned.tokens_out.value == 40
    assert planned.seconds.value is None


def test_bad_answer_that_was_not_asked_for_again_is_missing(tmp_path: Path) -> None:
    with Store(tmp_path / "s") as store:
        put(store, ["good"])
        put(store, ["bad"], text=BAD)
        put(store, ["refused"], text=None, problem="rejected: too long")
        assert plan(["good", "bad", "refused", "new"], TASK, BACKEND, store).missing == 2


def test_plan_is_what_is_then_asked(chat_server: ChatServer, tmp_path: Path) -> None:
    backend = load_backend("openai", Llm(model="tiny", base_url=chat_server.url, max_retries=0))
    texts = ["one", "two", "BROKEN x", "LONG x", "CUT x", "BROKEN-ONCE x", "one"]
    with Store(tmp_path / "s") as store:
        assert plan(texts, TASK, backend, store).missing == 6
        ask(texts[:3], TASK, backend, store)
        assert plan(texts, TASK, backend, store).missing == 3
        ask(texts, TASK, backend, store)
        assert plan(texts, TASK, backend, store).missing == 0
        before = len(store)
        again = plan(texts, TASK, backend, store, retry_failed=True)
        assert again.missing == 3
        assert len(store) == before
        _, tally = ask(texts, TASK, backend, store, retry_failed=True)
        assert tally.asked == again.missing


def test_cost_of_an_answer_that_was_asked_for_twice_is_that_of_both(
    chat_server: ChatServer, tmp_path: Path
) -> None:
    backend = load_backend("openai", Llm(model="tiny", base_url=chat_server.url, max_retries=0))
    texts = [f"BROKEN-ONCE {n}" for n in range(ENOUGH)]
    with Store(tmp_path / "s") as store:
        _, tally = ask(texts, TASK, backend, store)
        planned = plan([*texts, "new"], TASK, backend, store)
    assert (tally.tokens_in, tally.tokens_out) == (40 * 10, 40 * 3)
    assert (planned.tokens_in.value, planned.tokens_out.value) == (20, 6)


def test_table() -> None:
    planned = Plan(
        unit="review",
        model="tiny",
        texts=5000,
        different=4990,
        missing=4890,
        tokens_in=Figure(2_445_000.4, "measured"),
        tokens_out=Figure(293_400.0, "bounded"),
        seconds=Figure(3 * 3600 + 62.4, "measured"),
    )
    assert plan_table(planned).splitlines() == [
        "| tiny | | |",
        "|---|---|---|",
        "| reviews | 5,000 | 4,990 different |",
        "| answers in the store | 100 | |",
        "| missing | 4,890 | |",
        "| tokens in | 2,445,000 | measured |",
        "| tokens out | 293,400 | bounded |",
        "| time | 3 h 1 min | measured |",
    ]


def test_table_where_nothing_is_missing_or_nothing_known(tmp_path: Path) -> None:
    with open_store(tmp_path / "none") as store:
        unknown = plan_table(plan(["a"], TASK, BACKEND, store)).splitlines()[-1]
        assert unknown == "| time | unknown | until 20 answers have been measured |"
        put(store, ["a"])
        assert plan_table(plan(["a"], TASK, BACKEND, store)).splitlines()[-1] == "| missing | 0 | |"
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.2, "0 s"), (59.6, "1 min 0 s"), (3599.0, "59 min 59 s")]
)
def test_times(seconds: float, told: str) -> None:
    nothing = Figure(0.0, "")
    planned = Plan("review", "tiny", 1, 1, 1, nothing, nothing, Figure(seconds, ""))
    assert f"| time | {told} |" in plan_table(planned)
