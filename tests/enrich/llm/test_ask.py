"""Asking: once each, kept at once, checked, objected to once, never dropped."""

import json
import time
from pathlib import Path
from typing import Annotated, Any

import pytest
from chat_server import ChatServer
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from stages.core.log import UserError
from stages.core.params import Llm
from stages.core.store import Store, content_hash
from stages.enrich.llm import load_backend
from stages.enrich.llm.ask import Answer, Tally, ask, count_reasons
from stages.enrich.llm.forms import ReviewKeywords, json_schema, summary_form
from stages.enrich.llm.prompts import Prompt
from stages.enrich.llm.questions import Questions, Task


class Form(BaseModel):
    model_config = ConfigDict(extra="forbid")

    words: Annotated[list[Annotated[str, StringConstraints(max_length=20)]], Field(max_length=3)]


TASK = Task(Prompt("Fill in words.", (("a b", '{"words": ["a"]}'),)), Form)


def put(
    server: ChatServer,
    store_file: Path,
    prompts: list[str],
    retry_failed: bool = False,
    task: Task[Form] = TASK,
    **settings: Any,
) -> tuple[list[Answer[Form]], Tally]:
    settings = {"max_retries": 0, "timeout_s": 20, "concurrency": 4} | settings
    backend = load_backend("openai", Llm(model="tiny", base_url=server.url, **settings))
    with Store(store_file) as store:
        return ask(prompts, task, backend, store, retry_failed=retry_failed)


def test_equal_prompts_are_asked_once_and_answered_in_place(
    chat_server: ChatServer, tmp_path: Path
) -> None:
    answers, tally = put(chat_server, tmp_path / "s", ["b x", "a x", "b x"])
    assert [answer.value.words for answer in answers if answer.value] == [["b"], ["a"], ["b"]]
    assert answers[0] == answers[2]
    assert tally == Tally(asked=2, asked_again=0, from_store=0)
    assert sorted(chat_server.prompts) == ["a x", "b x"]


def test_second_run_asks_nothing(chat_server: ChatServer, tmp_path: Path) -> None:
    prompts = ["good", "BROKEN x", "REFUSE x", "LONG x", "CUT x", "BROKEN-ONCE x"]
    first, tally = put(chat_server, tmp_path / "s", prompts, concurrency=1)
    assert tally == Tally(asked=6, asked_again=4, from_store=0)
    # LONG has no answer, and those before it have shown that the server gives some.
    assert (tally.tokens_in, tally.tokens_out) == (9 * 10, 9 * 3)
    kinds = {"broken JSON": 2, "cut off": 1, "refusal": 1, "rejected": 1}
    assert tally.reasons_first == kinds
    before = len(chat_server.asked)
    second, tally = put(chat_server, tmp_path / "s", prompts)
    assert second == first
    assert tally == Tally(asked=0, asked_again=0, from_store=6)
    assert (tally.tokens_in, tally.tokens_out, tally.seconds) == (0, 0, 0)
    assert (tally.tokens_in_store, tally.tokens_out_store) == (9 * 10, 9 * 3)
    assert tally.seconds_store > 0
    assert tally.reasons_first == kinds
    assert len(chat_server.asked) == before


@pytest.mark.parametrize("concurrency", [1, 16])
@pytest.mark.parametrize("good", [0, 20])
def test_prompts_too_long_have_the_server_checked_once_and_that_is_counted(
    chat_server: ChatServer, tmp_path: Path, concurrency: int, good: int
) -> None:
    prompts = [f"LONG w{n}" for n in range(20)]
    prompts.insert(good, "good")
    answers, tally = put(chat_server, tmp_path / "s", prompts, concurrency=concurrency)
    assert count_reasons([answer.reason for answer in answers]) == {"rejected": 20}
    assert tally.asked == 21
    assert len(chat_server.asked) <= 21 + 1
    assert chat_server.answered <= 2
    assert (tally.tokens_in, tally.tokens_out) == (
        chat_server.answered * 10,
        chat_server.answered * 3,
    )


@pytest.mark.parametrize("concurrency", [1, 4])
def test_prompt_that_always_times_out_is_recorded_and_the_run_goes_on(
    chat_server: ChatServer, tmp_path: Path, concurrency: int
) -> None:
    arguments = chat_server, tmp_path / "s", ["HANG x", "HANG y", "good"]
    settings = {"timeout_s": 0.5, "max_retries": 1, "concurrency": concurrency}
    (slow, also, good), tally = put(*arguments, **settings)
    assert slow.reason == also.reason == "timeout: no answer within 0.5 s (llm.timeout_s)"
    assert good.value == Form(words=["good"])
    assert tally == Tally(asked=3)
    assert tally.tokens_in == 10 * chat_server.answered
    chat_server.asked.clear()
    _, tally = put(*arguments, **settings)
    assert tally == Tally(from_store=3)
    assert chat_server.asked == []
    _, tally = put(*arguments, retry_failed=True, **settings)
    assert tally == Tally(asked=2, from_store=1)


def test_server_that_refuses_everything_from_some_time_on_is_noticed(
    chat_server: ChatServer, tmp_path: Path
) -> None:
    chat_server.dead_after, chat_server.dead_status = 5, 400
    with pytest.raises(UserError, match="400, shutting down"):
        put(chat_server, tmp_path / "s", [f"w{n}" for n in range(300)], concurrency=1)
    assert len(chat_server.asked) == 5 + 100 + 1 + 1  # believed a hundred times, then checked


@pytest.mark.parametrize(
    ("prompt", "turns", "kind"),
    [
        ("BROKEN x", 2, "broken JSON"),
        ("ALIEN x", 2, "schema violation"),
        ("REFUSE x", 2, "refusal"),
        ("LONG x", 1, "rejected"),
    ],
)
def test_bad_answer_is_objected_to_once_then_recorded(
    chat_server: ChatServer, tmp_path: Path, prompt: str, turns: int, kind: str
) -> None:
    (answer,), _ = put(chat_server, tmp_path / "s", [prompt])
    assert answer.value is None
    assert count_reasons([answer.reason]) == {kind: 1}
    asked = [one["turns"] for one in chat_server.asked if one["prompt"] == prompt]
    assert asked == list(range(1, turns + 1))


def test_answer_cut_off_is_asked_for_once_more_with_twice_the_room(
    chat_server: ChatServer, tmp_path: Path
) -> None:
    (whole, cut), tally = put(chat_server, tmp_path / "s", ["CUT-ONCE x", "CUT x"])
    assert whole.value == Form(words=["cut-once"])
    assert cut.value is None
    assert cut.reason == "cut off: 512 tokens were not enough (llm.max_tokens)"
    assert tally == Tally(asked=2, asked_again=2, from_store=0)
    for prompt in ("CUT-ONCE x", "CUT x"):
        first, second = [one["body"] for one in chat_server.asked if one["prompt"] == prompt]
        assert (first.pop("max_tokens"), second.pop("max_tokens")) == (256, 512)
        assert first == second
    with Store(tmp_path / "s") as store:
        assert len(store) == 4


def test_answer_stays_cut_off_where_there_is_no_more_room(
    chat_server: ChatServer, tmp_path: Path
) -> None:
    chat_server.most_tokens = 300
    (answer,), tally = put(chat_server, tmp_path / "s", ["CUT x"])
    assert answer.reason == "cut off: 256 tokens were not enough (llm.max_tokens)"
    assert tally == Tally(asked=1, asked_again=1, from_store=0)


def test_second_answer_counts(chat_server: ChatServer, tmp_path: Path) -> None:
    (answer,), tally = put(chat_server, tmp_path / "s", ["BROKEN-ONCE x"])
    assert answer.value == Form(words=["broken-once"])
    assert answer.reason is None
    assert tally.asked_again == 1
    roles = [message["role"] for message in chat_server.asked[1]["body"]["messages"]]
    assert roles == ["system", "user", "assistant", "user", "assistant", "user"]


def test_answers_that_need_a_little_reading(chat_server: ChatServer, tmp_path: Path) -> None:
    prompts = ["SURROGATE x", "CONTROL x"]
    (half, raw), tally = put(chat_server, tmp_path / "s", prompts)
    assert half.value == Form(words=["half"])
    assert raw.value == Form(words=["two lines "])
    assert tally.asked_again == 0


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("```json\n", "\n```"),
        ("```\n", "\n```\n"),
        ("\n``` JSON\n", "\n```"),
        ("```Json5 ", " ``` "),
        ("```json\n", ""),
        ("\ufeff", ""),
        ("\ufeff```\n\ufeff", "```"),
    ],
)
def test_right_json_in_a_fence_is_not_asked_for_again(
    chat_server: ChatServer, tmp_path: Path, before: str, after: str
) -> None:
    chat_server.around = before, after
    (answer,), tally = put(chat_server, tmp_path / "s", ["``` x"])
    assert answer.value == Form(words=["```"])
    assert tally == Tally(asked=1)


def test_server_that_dies_costs_only_what_was_not_answered(
    chat_server: ChatServer, tmp_path: Path
) -> None:
    prompts = [f"w{n}" for n in range(30)]
    chat_server.dead_after = 11
    with pytest.raises(UserError, match=f"{chat_server.url} fails"):
        put(chat_server, tmp_path / "s", prompts)
    with Store(tmp_path / "s") as store:
        kept = len(store)
    assert kept == chat_server.answered == 11
    chat_server.dead_after = None
    chat_server.asked.clear()
    answers, tally = put(chat_server, tmp_path / "s", prompts)
    assert tally.asked == len(chat_server.asked) == 30 - kept
    assert all(answer.value is not None for answer in answers)


@pytest.mark.parametrize("status", [401, 404])
def test_answers_under_way_when_another_question_ends_the_run_are_kept(
    chat_server: ChatServer, tmp_path: Path, status: int
) -> None:
    chat_server.delay, chat_server.sour_status = 0.3, status
    prompts = ["SOUR x", *(f"w{n}" for n in range(40))]
    with pytest.raises(UserError, match=f"{status}, no such thing"):
        put(chat_server, tmp_path / "s", prompts, concurrency=16)
    assert chat_server.answered == 15
    assert len(chat_server.asked) == 16  # and nothing more was sent
    with Store(tmp_path / "s") as store:
        assert len(store) == 15


def test_requests_sent_again_are_told_of_a_run_and_of_one_that_ends(
    chat_server: ChatServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"max_retries": 2, "timeout_s": 0.5}
    prompts = ["FAIL-TWICE x", "CLOSE-ONCE x", "SLOW-ONCE x", "BUSY-ONCE x", "BROKEN-ONCE x"]
    _, tally = put(chat_server, tmp_path / "s", prompts, **settings)
    assert tally == Tally(asked=5, asked_again=1)
    assert tally.retries == {"429": 1, "500": 2, "connection": 1, "timeout": 1}
    assert list(tally.retries) == sorted(tally.retries)
    assert put(chat_server, tmp_path / "s", prompts, **settings)[1].retries == {}
    chat_server.dead_after = chat_server.answered + 2  # one breaks off, one is whole
    with pytest.raises(UserError, match="after 3 tries"):
        put(chat_server, tmp_path / "s", ["CLOSE-ONCE a", "b"], concurrency=1, **settings)
    assert "1 of 2 answers came and are kept: 10 tokens in, 3 out" in caplog.text
    assert caplog.text.rstrip().endswith("sent again {'503': 2, 'connection': 1}")


def test_resumed_run_tells_what_the_one_before_it_was_charged(
    chat_server: ChatServer, tmp_path: Path
) -> None:
    prompts = [f"w{n}" for n in range(30)]
    chat_server.dead_after = 11
    with pytest.raises(UserError):
        put(chat_server, tmp_path / "s", prompts, concurrency=1)
    chat_server.dead_after = None
    _, tally = put(chat_server, tmp_path / "s", prompts)
    assert (tally.from_store, tally.tokens_in_store, tally.tokens_out_store) == (11, 110, 33)
    assert (tally.asked, tally.tokens_in, tally.tokens_out) == (19, 190, 57)


def test_text_of_which_only_the_second_question_is_sent_is_not_from_the_store(
    chat_server: ChatServer, tmp_path: Path
) -> None:
    put(chat_server, tmp_path / "s", ["BROKEN-ONCE x"])
    with Store(tmp_path / "s") as store, Store(tmp_path / "first") as first:
        questions = Questions(TASK, load_backend("openai", Llm(model="tiny")))
        key = questions.key(questions.first("BROKEN-ONCE x"))
        first.put_many(store.get_many([key]))
    _, tally = put(chat_server, tmp_path / "first", ["BROKEN-ONCE x"])
    assert tally == Tally(asked=0, asked_again=1, from_store=0)
    assert (tally.tokens_in, tally.tokens_in_store) == (10, 10)


def test_failures_are_asked_anew_only_on_request(chat_server: ChatServer, tmp_path: Path) -> None:
    prompts = ["good", "BROKEN x", "LONG x", "CUT x", "BROKEN-ONCE x", "CUT-ONCE x"]
    put(chat_server, tmp_path / "s", prompts)
    chat_server.asked.clear()
    answers, tally = put(chat_server, tmp_path / "s", prompts, retry_failed=True)
    assert tally == Tally(asked=3, asked_again=2, from_store=3)
    failed = [p for p, answer in zip(prompts, answers, strict=True) if answer.value is None]
    assert failed == ["BROKEN x", "LONG x", "CUT x"]
    assert {p for p in chat_server.prompts if "Answer with" not in p} == set(failed)


def test_failures_that_cannot_be_asked_anew_stay(chat_server: ChatServer, tmp_path: Path) -> None:
    prompts = ["good", "BROKEN x", "LONG x", "CUT x"]
    before, _ = put(chat_server, tmp_path / "s", prompts)
    chat_server.refuse_all = 503
    with pytest.raises(UserError):
        put(chat_server, tmp_path / "s", prompts, retry_failed=True)
    after, tally = put(chat_server, tmp_path / "s", prompts)
    assert after == before
    assert tally == Tally(from_store=4)
    chat_server.refuse_all = None
    _, tally = put(chat_server, tmp_path / "s", prompts, retry_failed=True)
    assert tally == Tally(asked=3, asked_again=2, from_store=1)


def test_key_is_of_model_messages_schema_and_sampling(
    chat_server: ChatServer, tmp_path: Path
) -> None:
    (answer,), _ = put(chat_server, tmp_path / "s", ["hello"])
    before = [
        {"role": "system", "content": "Fill in words."},
        {"role": "user", "content": "a b"},
        {"role": "assistant", "content": '{"words": ["a"]}'},
    ]
    asked = [{"role": "user", "content": "hello"}]
    assert chat_server.asked[0]["body"]["messages"] == before + asked
    sampling = {"temperature": 0, "max_tokens": 256}
    settings = content_hash("tiny", before, json_schema(Form), sampling)
    assert answer.key == content_hash(settings, asked)
    with Store(tmp_path / "s") as store:
        assert list(store.get_many([answer.key])) == [answer.key]


@pytest.mark.parametrize(
    "prompt",
    [
        Prompt("Fill in all words.", TASK.prompt.examples),
        Prompt("Fill in words.", (("a b", '{"words": ["b"]}'),)),
        Prompt("Fill in words."),
    ],
)
def test_another_prompt_is_another_question(
    chat_server: ChatServer, tmp_path: Path, prompt: Prompt
) -> None:
    put(chat_server, tmp_path / "s", ["hello"])
    _, tally = put(chat_server, tmp_path / "s", ["hello"], task=Task(prompt, Form))
    assert tally == Tally(asked=1)


def test_schema_is_shown_only_where_the_server_does_not_hold_the_model_to_it(
    chat_server: ChatServer, tmp_path: Path
) -> None:
    (held, free), tally = put(chat_server, tmp_path / "s", ["held to it", "UNHELD here"])
    assert held.value == Form(words=["held"])
    assert free.value == Form(words=["unheld"])
    assert tally == Tally(asked=2, asked_again=1)
    shown = [
        one["prompt"]
        for one in chat_server.asked
        if json.dumps(json_schema(Form)) in one["body"]["messages"][-1]["content"]
    ]
    assert shown == ["UNHELD here"]


def test_entries_of_earlier_stores_are_read(chat_server: ChatServer, tmp_path: Path) -> None:
    (answer,), _ = put(chat_server, tmp_path / "s", ["hello"])
    earlier = {"text": '{"words": ["earlier"]}', "problem": None, "tokens_in": 1, "tokens_out": 1}
    with Store(tmp_path / "s") as store:
        store.put_many({answer.key: json.dumps(earlier).encode()})
    (again,), tally = put(chat_server, tmp_path / "s", ["hello"])
    assert again.value == Form(words=["earlier"])
    assert tally.asked == 0


def test_time_of_each_reply_is_kept(chat_server: ChatServer, tmp_path: Path) -> None:
    """Their sum is the time that all took, whichever were under way at once."""
    chat_server.delay = 0.1
    started = time.monotonic()
    answers, _ = put(chat_server, tmp_path / "s", [f"w{n}" for n in range(12)], concurrency=4)
    took = time.monotonic() - started
    with Store(tmp_path / "s") as store:
        kept = store.get_many([answer.key for answer in answers])
    assert 3 * 0.1 <= sum(json.loads(entry)["seconds"] for entry in kept.values()) <= took


@pytest.mark.parametrize(
    ("status", "tries"),
    [(503, 3), (500, 3 + 3)],  # a prompt may be what fails with 500, so a small one is tried too
)
def test_server_that_always_fails_ends_the_run_and_what_was_answered_is_kept(
    chat_server: ChatServer, tmp_path: Path, status: int, tries: int
) -> None:
    chat_server.dead_after, chat_server.dead_status = 5, status
    with pytest.raises(UserError) as caught:
        put(chat_server, tmp_path / "s", [f"w{n}" for n in range(9)], concurrency=1, max_retries=2)
    said = str(caught.value)
    assert f"fails after 3 tries ({status}, shutting down); look into its log, then run the" in said
    assert said.endswith("what was answered so far is kept")
    assert len(chat_server.asked) == 5 + tries
    with Store(tmp_path / "s") as store:
        assert len(store) == 5


def test_reasons_are_counted_by_kind() -> None:
    reasons = ["refusal: no", None, "refusal: never", "cut off: 5 tokens"]
    assert count_reasons(reasons) == {"cut off": 1, "refusal": 2}


@pytest.mark.parametrize("form", [ReviewKeywords, summary_form(300)])
def test_every_list_and_text_of_a_form_is_bounded(form: type[BaseModel]) -> None:
    schema = json_schema(form)
    assert schema["additionalProperties"] is False
    assert schema["required"] == list(schema["properties"])
    for field in schema["properties"].values():
        text = field["items"] if field["type"] == "array" else field
        assert "maxLength" in text
        assert field["type"] != "array" or "maxItems" in field


def test_forms_are_worded_as_those_that_stored_answers_were_asked_with() -> None:
    # A pydantic release that words a schema anew would make every stored answer useless: then
    # pin the old wording, or accept that everything is asked again and change these.
    digests = [content_hash(json_schema(f)) for f in (ReviewKeywords, summary_form(300))]
    assert digests == ["3d4b197b31170aa7e052933eb86ef5d8", "6dc0624b6a670774bae44bae37ec7e99"]
