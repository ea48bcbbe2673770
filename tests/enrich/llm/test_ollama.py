"""Ollama, by the client of all servers: its grammar, its memory, and a model it does not hold."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chat_server import ChatServer
from ollama_server import OllamaServer

from stages.core.log import UserError
from stages.core.params import Keywords, Llm
from stages.core.store import Store
from stages.enrich.keywords import keywords_task
from stages.enrich.llm import load_backend
from stages.enrich.llm.ask import Tally, ask
from stages.enrich.llm.forms import ReviewKeywords, json_schema

MODEL = "llama3.1:8b"


@pytest.fixture
def ollama() -> Iterator[OllamaServer]:
    server = OllamaServer(MODEL)
    yield server
    server.close()


def asked(url: str, folder: Path, texts: list[str], **settings: Any) -> Tally:
    settings = {"model": MODEL, "max_retries": 0, "concurrency": 2} | settings
    backend = load_backend("openai", Llm(base_url=url, **settings))
    with Store(folder / "store") as store:
        answers, tally = ask(texts, keywords_task(Keywords()), backend, store)
    assert all(answer.value is not None for answer in answers)
    return tally


def test_schema_is_its_format_and_the_instructions_describe_it(
    ollama: OllamaServer, tmp_path: Path
) -> None:
    tally = asked(ollama.url, tmp_path, ["a", "b", "c"])
    assert (tally.asked, tally.tokens_in, tally.tokens_out) == (3, 3 * 26, 3 * 9)
    assert ollama.paths == ["/v1/chat/completions"] * 3
    for chat in ollama.chats:
        assert chat.format == json_schema(ReviewKeywords)
        assert chat.num_predict == 256
        said = chat.messages[0]["content"]
        assert all(f'"{field}"' in said for field in chat.format["properties"])
        assert not any("additionalProperties" in m["content"] for m in chat.messages)
    assert ollama.dropped == set()
    assert ollama.kept == {MODEL: "5m"}


@pytest.mark.parametrize("keep_alive", ["30m", "1h30m", 3600, -1])
def test_model_is_loaded_once_before_all_questions_and_kept_as_long_as_asked(
    ollama: OllamaServer, tmp_path: Path, keep_alive: str | int
) -> None:
    asked(ollama.url, tmp_path, ["a", "b", "c"], keep_alive=keep_alive)
    assert ollama.paths == ["/api/generate", *["/v1/chat/completions"] * 3]
    assert ollama.kept == {MODEL: keep_alive}
    assert ollama.dropped == set()
    asked(ollama.url, tmp_path, ["a", "b", "c"], keep_alive=keep_alive)
    assert len(ollama.paths) == 4  # all is in the store, so nothing is loaded either


def test_requests_sent_again_are_counted_and_loading_is_one(
    ollama: OllamaServer, tmp_path: Path
) -> None:
    ollama.failing = [503, 429, 500]
    settings = {"keep_alive": "30m", "max_retries": 3, "concurrency": 1}
    tally = asked(ollama.url, tmp_path, ["a", "b"], **settings)
    assert tally.retries == {"429": 1, "500": 1, "503": 1}
    assert ollama.paths == ["/api/generate"] * 4 + ["/v1/chat/completions"] * 2
    ollama.failing = [503]
    tally = asked(ollama.url, tmp_path, ["a", "b", "c"], **(settings | {"keep_alive": None}))
    assert (tally.asked, tally.retries) == (1, {"503": 1})
    assert ollama.paths[6:] == ["/v1/chat/completions"] * 2
    assert asked(ollama.url, tmp_path, ["a", "b", "c"], **settings).retries == {}


def test_time_in_memory_is_no_part_of_the_question(ollama: OllamaServer, tmp_path: Path) -> None:
    asked(ollama.url, tmp_path, ["a"], keep_alive="30m")
    assert asked(ollama.url, tmp_path, ["a"]).asked == 0


@pytest.mark.parametrize("keep_alive", [None, "30m"])
def test_model_that_was_not_pulled_is_named_with_the_command(
    ollama: OllamaServer, tmp_path: Path, keep_alive: str | None
) -> None:
    with pytest.raises(UserError, match="run `ollama pull qwen3:4b` where the server is"):
        asked(ollama.url, tmp_path, ["a"], model="qwen3:4b", keep_alive=keep_alive)
    assert len(ollama.paths) <= 1


def test_keep_alive_of_another_server_is_refused(chat_server: ChatServer, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"llm\.keep_alive is for Ollama alone; let it be null"):
        asked(chat_server.url, tmp_path, ["a"], keep_alive="30m")
    assert chat_server.asked == []


def test_server_that_is_away_is_named_before_anything_is_asked(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"127\.0\.0\.1:9/v1 cannot be reached \("):
        asked("http://127.0.0.1:9/v1", tmp_path, ["a"], keep_alive="30m")


@pytest.mark.parametrize("keep_alive", ["soon", "5 m", "", "1d"])
def test_time_that_ollama_does_not_read_is_refused(keep_alive: str) -> None:
    with pytest.raises(ValueError, match="keep_alive"):
        Llm(keep_alive=keep_alive)
