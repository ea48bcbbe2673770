"""The server backend over real HTTP: what is sent, what is tried again, what ends the run."""

import itertools
from typing import Any

import pytest
from chat_server import RETRY_AFTER, ChatServer

from stages.core.log import UserError
from stages.core.params import Llm
from stages.enrich.llm import load_backend
from stages.enrich.llm.base import Conversation, Reply

SCHEMA = {
    "title": "Form",
    "type": "object",
    "properties": {"words": {"type": "array", "items": {"type": "string"}, "maxItems": 5}},
    "required": ["words"],
}


def answers(server: ChatServer | str, prompts: list[str], **settings: Any) -> dict[int, Reply]:
    return answers_and_retries(server, prompts, **settings)[0]


def answers_and_retries(
    server: ChatServer | str, prompts: list[str], **settings: Any
) -> tuple[dict[int, Reply], dict[str, int]]:
    url = server if isinstance(server, str) else server.url
    settings = {"max_retries": 2, "timeout_s": 20.0} | settings
    backend = load_backend("openai", Llm(model="tiny", base_url=url, **settings))
    conversations: list[Conversation] = [[{"role": "user", "content": p}] for p in prompts]
    taken: dict[int, Reply] = {}

    def take(position: int, reply: Reply) -> None:
        assert position not in taken
        taken[position] = reply

    backend.answer(conversations, SCHEMA, backend.max_tokens, take)
    return taken, backend.retries


def test_each_prompt_gets_its_own_answer(chat_server: ChatServer) -> None:
    chat_server.delay = 0.01
    taken = answers(chat_server, [f"w{n}" for n in range(40)], concurrency=7)
    assert taken == {n: Reply(f'{{"words": ["w{n}"]}}') for n in range(40)}


def test_request_carries_model_schema_limits_and_messages(chat_server: ChatServer) -> None:
    answers(chat_server, ["hello"], max_tokens=77)
    body = chat_server.asked[0]["body"]
    assert body["model"] == "tiny"
    assert body["max_tokens"] == 77
    assert body["temperature"] == 0
    assert body["messages"] == [{"role": "user", "content": "hello"}]
    assert body["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "Form", "schema": SCHEMA},
    }


def test_key_of_the_environment_is_the_bearer(
    chat_server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_LLM_KEY", "sesame")
    answers(chat_server, ["a"], api_key_env="SHOP_LLM_KEY")
    monkeypatch.delenv("SHOP_LLM_KEY")
    answers(chat_server, ["a"], api_key_env="SHOP_LLM_KEY")
    assert [one["key"] for one in chat_server.asked] == ["Bearer sesame", "Bearer none"]


@pytest.mark.parametrize("concurrency", [1, 5])
def test_as_many_at_once_as_allowed_and_no_more(chat_server: ChatServer, concurrency: int) -> None:
    chat_server.delay = 0.03
    answers(chat_server, [f"w{n}" for n in range(20)], concurrency=concurrency)
    assert chat_server.most_at_once == concurrency


def test_retry_after_is_waited_for(chat_server: ChatServer) -> None:
    taken = answers(chat_server, ["BUSY-ONCE now"])
    assert taken[0].text == '{"words": ["busy-once"]}'
    first, second = chat_server.times
    assert second - first >= RETRY_AFTER


@pytest.mark.parametrize(
    ("prompt", "retries"),
    [
        ("FAIL-TWICE now", {"500": 2}),
        ("SLOW-ONCE now", {"timeout": 1}),
        ("CLOSE-ONCE now", {"connection": 1}),
        ("DROP-ONCE now", {"connection": 1}),
    ],
)
def test_server_that_fails_for_a_while_is_waited_for(
    chat_server: ChatServer, prompt: str, retries: dict[str, int]
) -> None:
    taken, counted = answers_and_retries(chat_server, [prompt, "good"], timeout_s=0.5)
    tries = 1 + sum(retries.values())
    assert counted == retries
    word = prompt.split()[0].lower()
    assert taken == {0: Reply(f'{{"words": ["{word}"]}}'), 1: Reply('{"words": ["good"]}')}
    assert sorted(chat_server.prompts) == sorted([prompt] * tries + ["good"])


@pytest.mark.parametrize("concurrency", [1, 3, 16])
def test_requests_sent_again_are_counted_by_what_had_failed(
    chat_server: ChatServer, concurrency: int
) -> None:
    prompts = [f"BUSY-ONCE w{n}" for n in range(4)] + [f"FAIL-TWICE w{n}" for n in range(3)]
    prompts += [f"CLOSE-ONCE w{n}" for n in range(2)] + ["DROP-ONCE x", "SLOW-ONCE x", "good"]
    taken, retries = answers_and_retries(
        chat_server, prompts, timeout_s=0.5, concurrency=concurrency
    )
    assert all(reply.problem is None for reply in taken.values())
    assert retries == {"429": 4, "500": 6, "connection": 3, "timeout": 1}
    assert len(chat_server.asked) == len(prompts) + sum(retries.values())


def test_what_failed_for_good_was_sent_again_once_less_than_tried(chat_server: ChatServer) -> None:
    prompts = ["FAIL x", "LONG x", "SOFT", "FAIL y"]
    taken, retries = answers_and_retries(chat_server, prompts, max_retries=2, concurrency=1)
    assert [taken[n].text is None for n in range(4)] == [True, True, False, True]
    tried = [sum(prompt == one for one in chat_server.prompts) for prompt in prompts]
    assert tried == [3, 1, 1, 3]
    assert retries == {"500": 4}
    assert answers_and_retries(chat_server, ["FAIL x", "good"], max_retries=0)[1] == {}


def test_back_off_grows(chat_server: ChatServer) -> None:
    answers(chat_server, ["FAIL now", "good"], max_retries=2, concurrency=1)
    waits = [b - a for a, b in itertools.pairwise(chat_server.times[:3])]
    assert waits[1] > waits[0] > 0.3


@pytest.mark.parametrize(
    ("prompt", "reply"),
    [
        ("REFUSE this", Reply("", "refusal: I cannot help with that.")),
        ("CUT this", Reply('{"words": ', "cut off: 256 tokens were not enough (llm.max_tokens)")),
        ("LONG one", Reply(None, "rejected: 400, maximum context length is 4096 tokens")),
        ("FAIL now", Reply(None, "rejected: 500, out of luck")),
        ("SURROGATE", Reply('{"words": ["half"]}')),
        ("PARTS of it", Reply('{"words": ["parts"]}')),
        ("SILENT", Reply("", "stopped: error")),
    ],
)
def test_replies_that_are_no_answers(chat_server: ChatServer, prompt: str, reply: Reply) -> None:
    taken = answers(chat_server, [prompt, "good"], max_retries=0)
    assert taken == {0: reply, 1: Reply('{"words": ["good"]}')}


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        (400, "correct what it names in the section llm"),
        (401, "environment variable OPENAI_API_KEY"),
        (404, "correct llm.model"),
        (429, "lower llm.concurrency"),
        (500, "look into its log"),
        (503, "look into its log"),
    ],
)
def test_server_that_turns_everything_away_ends_the_run(
    chat_server: ChatServer, status: int, remedy: str
) -> None:
    chat_server.refuse_all = status
    with pytest.raises(UserError) as caught:
        answers(chat_server, ["a", "b", "c"], max_retries=0)
    message = str(caught.value)
    assert chat_server.url in message
    assert f"{status}, not today" in message
    assert remedy in message


@pytest.mark.parametrize(
    ("status", "wrong"),
    [
        (400, "turns requests away (400, not today); correct what"),
        (404, "does not know the model 'tiny' or the path (404, not today); correct"),
        (429, "refuses further requests after 2 tries (429, not today); wait"),
        (503, "fails after 2 tries (503, not today); look into"),
    ],
)
def test_tries_are_told_where_there_were_some(
    chat_server: ChatServer, status: int, wrong: str
) -> None:
    chat_server.refuse_all = status
    with pytest.raises(UserError) as caught:
        answers(chat_server, ["a"], max_retries=1)
    assert wrong in str(caught.value)
    asked_of = len([prompt for prompt in chat_server.prompts if prompt == "a"])
    assert asked_of == (2 if "2 tries" in wrong else 1)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("when", "told"),
    [
        ("300", "until 300 s from now"),
        ("Fri, 01 Jan 2100 00:00:00 GMT", "until Fri, 01 Jan 2100 00:00:00 GMT"),
    ],
)
def test_server_that_wants_to_be_left_alone_for_long_ends_the_run_at_once(
    chat_server: ChatServer, status: int, when: str, told: str
) -> None:
    chat_server.refuse_all, chat_server.retry_after = status, when
    with pytest.raises(UserError) as caught:
        answers(chat_server, ["a"], max_retries=5)
    assert f"wants no further request {told} ({status}, not today); run the st" in str(caught.value)
    assert len(chat_server.asked) == 1


@pytest.mark.parametrize(
    "said", ['model "tiny" not found, try pulling it first', "model 'tiny' not found"]
)
def test_model_that_ollama_has_not_pulled_is_named_with_the_command(
    chat_server: ChatServer, said: str
) -> None:
    chat_server.refuse_all, chat_server.refusal = 404, said
    with pytest.raises(UserError, match="run `ollama pull tiny` where the server is"):
        answers(chat_server, ["a"], max_retries=0)


def test_model_that_vllm_does_not_serve_is_named_without_that_command(
    chat_server: ChatServer,
) -> None:
    chat_server.refuse_all, chat_server.refusal = 404, "The model `tiny` does not exist."
    with pytest.raises(UserError, match=r"correct llm\.model or llm\.base_url"):
        answers(chat_server, ["a"], max_retries=0)


def test_hanging_server_ends_the_run(chat_server: ChatServer) -> None:
    chat_server.delay = 30
    with pytest.raises(UserError, match=r"no answer within 0\.2 s after 2 tries.*llm\.timeout_s"):
        answers(chat_server, ["a", "b", "c"], timeout_s=0.2, max_retries=1, concurrency=2)
    assert len(chat_server.asked) == 2 * 2 + 2  # whether it answers at all is asked once


def test_missing_server_ends_the_run() -> None:
    with pytest.raises(UserError, match=r"http://127\.0\.0\.1:9/v1 cannot be reached \("):
        answers("http://127.0.0.1:9/v1", ["a"], max_retries=0)


def test_another_kind_of_server_ends_the_run(chat_server: ChatServer) -> None:
    chat_server.html = True
    with pytest.raises(UserError, match="does not speak the OpenAI protocol"):
        answers(chat_server, ["a"], max_retries=0)
    with pytest.raises(UserError, match="mostly ends in /v1"):
        answers(chat_server.url.removesuffix("/v1"), ["a"], max_retries=0)
