"""vLLM, in process and as a server: a clear error without it; with it, a tiny random model.

WINNOW_LLM=1, which `make test-llm` sets, makes a missing package a failure.
"""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
import yaml
from tiny_llama import save_tiny_llama
from vllm_server import CountingProxy, VllmServer

from stages.core import tables
from stages.core.log import UserError
from stages.core.params import Keywords, Llm
from stages.core.store import Store
from stages.enrich.keywords import keywords_task
from stages.enrich.llm import load_backend
from stages.enrich.llm.ask import Tally, ask
from stages.enrich.llm.base import Backend, Conversation, Reply
from stages.enrich.llm.forms import ReviewKeywords, json_schema

HAS_VLLM = importlib.util.find_spec("vllm") is not None
ROOT = Path(__file__).parents[3]
CONCURRENCY = 8
needs_vllm = [
    pytest.mark.llm,
    pytest.mark.slow,
    pytest.mark.skipif(
        not HAS_VLLM and "WINNOW_LLM" not in os.environ,
        reason="needs the package vllm: `make test-llm` runs it",
    ),
]


@pytest.mark.skipif(HAS_VLLM, reason="vllm is installed")
def test_missing_package_is_named_with_the_command_that_installs_it() -> None:
    backend = load_backend("vllm", Llm())
    with pytest.raises(UserError, match=r"pip install -c constraints\.txt -e '\.\[vllm\]'"):
        backend.answer([[{"role": "user", "content": "hello"}]], {}, 256, lambda *_: None)


@pytest.fixture(scope="module", autouse=True)
def little_memory() -> Iterator[None]:
    """Keep vLLM from what it takes unasked: on a CPU, nearly all memory of the machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        patch.setenv("VLLM_LOGGING_LEVEL", "ERROR")
        patch.setenv("VLLM_NO_USAGE_STATS", "1")
        yield


@pytest.fixture(scope="module")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny-llama")
    save_tiny_llama(folder)
    return folder


@pytest.fixture(scope="module")
def backend(tiny_llama: Path) -> Backend:
    return load_backend("vllm", Llm(model=str(tiny_llama), max_tokens=600, batch_size=300))


def reviews(count: int) -> list[str]:
    return [f"A mic for my son, number {n}, at school and on the road." for n in range(count)]


class TestInProcess:
    pytestmark = needs_vllm

    def test_hundreds_of_reviews_in_one_batch_all_fill_in_the_form(
        self, backend: Backend, tmp_path: Path
    ) -> None:
        with Store(tmp_path / "s") as store:
            task = keywords_task(Keywords())
            arguments = (reviews(300), task, backend, store)
            answers, tally = ask(*arguments)
            assert tally.asked == 300
            kinds = {answer.reason for answer in answers if answer.value is None}
            assert kinds <= {"cut off: 1200 tokens were not enough (llm.max_tokens)"}
            assert sum(answer.value is not None for answer in answers) >= 290
            assert len(store) == 300 + tally.asked_again
            before = sum(len(message["content"]) for message in task.prompt.messages)
            assert tally.tokens_in >= 300 * before  # a token is a byte
            assert 0 < tally.tokens_out <= 300 * 600 + tally.asked_again * 1200
            again, tally = ask(*arguments)
        assert again == answers
        assert (tally.asked, tally.asked_again) == (0, 0)

    def test_prompt_too_long_for_the_model_is_rejected_alone(self, backend: Backend) -> None:
        prompts = ["short", "too long " * 2000, "brief"]
        conversations: list[Conversation] = [[{"role": "user", "content": p}] for p in prompts]
        taken: dict[int, Reply] = {}
        backend.answer(conversations, json_schema(ReviewKeywords), 600, taken.__setitem__)
        assert [taken[n].text is None for n in range(3)] == [False, True, False]
        assert str(taken[1].problem).startswith("rejected: ")

    def test_answer_without_room_is_cut_off(self, backend: Backend) -> None:
        taken: dict[int, Reply] = {}
        conversation: Conversation = [{"role": "user", "content": "hello"}]
        backend.answer([conversation], json_schema(ReviewKeywords), 3, taken.__setitem__)
        assert taken[0].is_cut_off

    def test_cut_off_answers_are_asked_once_more_with_twice_the_room(
        self, backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(backend, "max_tokens", 4)
        with Store(tmp_path / "s") as store:
            arguments = (reviews(5), keywords_task(Keywords()), backend, store)
            answers, tally = ask(*arguments)
            assert (tally.asked, tally.asked_again) == (5, 5)
            assert 5 * 4 < tally.tokens_out <= 5 * (4 + 8)
            reason = "cut off: 8 tokens were not enough (llm.max_tokens)"
            assert [answer.reason for answer in answers] == [reason] * 5
            assert ask(*arguments) == (answers, Tally(from_store=5))

    def test_model_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        missing = load_backend("vllm", Llm(model=str(tmp_path / "nowhere")))
        with pytest.raises(UserError, match="nowhere"):
            missing.answer([[{"role": "user", "content": "hello"}]], {}, 256, lambda *_: None)


@pytest.fixture
def server(tiny_llama: Path, tmp_path: Path) -> Iterator[VllmServer]:
    one = VllmServer(tiny_llama, tmp_path / "vllm.log")
    one.start()
    yield one
    one.kill()


class TestServer:
    pytestmark = needs_vllm

    def test_server_killed_in_mid_stage_loses_nothing_and_hears_nothing_twice(
        self, server: VllmServer, tiny_llama: Path, tmp_path: Path
    ) -> None:
        count = 60
        proxy = CountingProxy(server.port)
        stage = keywords_stage(tmp_path, tiny_llama, proxy.url, count)
        with subprocess.Popen(stage, cwd=ROOT, stderr=subprocess.PIPE, text=True) as run:
            # Amid the answers, just after a question: it takes the model seconds.
            while not proxy.wait_for_questions(count // 2, timeout_s=1):
                assert run.poll() is None, run.stderr and run.stderr.read()
            server.kill()
            heard = len(proxy.answered)
            assert heard < count
            server.start()
            _, said = run.communicate(timeout=300)
        assert run.returncode == 0, said

        assert len(set(proxy.answered)) == len(proxy.answered) >= count
        assert 0 < proxy.under_way() <= CONCURRENCY  # when the server died
        table = tables.read(tmp_path / "keywords.parquet", tables.KEYWORDS)
        assert table.height == count
        assert set(table["reason"].drop_nulls().str.split(":").list.first()) <= {"cut off"}
        assert (table["status"] == "ok").sum() >= 0.9 * count

        before = len(proxy.asked)
        first = (tmp_path / "keywords.parquet").read_bytes()
        subprocess.run(stage, cwd=ROOT, check=True)
        assert len(proxy.asked) == before
        assert (tmp_path / "keywords.parquet").read_bytes() == first
        proxy.close()


def keywords_stage(folder: Path, model: Path, url: str, count: int) -> list[str]:
    """Write parameters and reviews into the folder, return the command that reads them."""
    params = yaml.safe_load((ROOT / "recipes" / "sample.yaml").read_text())
    params["keywords"] = {"backend": "openai"}
    params["llm"] = {
        "model": str(model),
        "base_url": url,
        "concurrency": CONCURRENCY,
        "max_retries": 40,
        "max_tokens": 600,
    }
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    at = datetime(2020, 1, 1, tzinfo=UTC)
    events = pl.DataFrame(
        [
            (f"e{n:03d}", "u", "i", at, "rate", 5.0, None, text, "fit")
            for n, text in enumerate(reviews(count))
        ],
        schema=tables.SPLIT_EVENTS.columns,
        orient="row",
    )
    tables.write(events, folder / "events.parquet", tables.SPLIT_EVENTS)
    names = {
        "--params": "params.yaml",
        "--events": "events.parquet",
        "--store": "store",
        "--keywords": "keywords.parquet",
        "--metrics": "keywords.json",
    }
    options = [word for flag, name in names.items() for word in (flag, str(folder / name))]
    return [sys.executable, "-m", "stages.enrich.keywords", *options]
