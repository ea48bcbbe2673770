"""Keywords of reviews: which reviews are read, by whom, and what a kill or a change costs."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from chat_server import ChatServer

from stages.core import tables
from stages.core.params import Keywords, Llm
from stages.core.store import Store
from stages.enrich.keywords import (
    keywords_task,
    read_keywords,
    select_reviews,
    texts_to_ask,
)
from stages.enrich.llm import load_backend
from stages.enrich.llm.questions import Questions

ROOT = Path(__file__).parents[2]


def event_frame(rows: list[tuple[str, str | None, str]]) -> pl.DataFrame:
    return pl.DataFrame(
        [
            (event, "u", f"i{n % 3}", datetime(2020, 1, 1, tzinfo=UTC), "rate", 5.0, None, text, of)
            for n, (event, text, of) in enumerate(rows)
        ],
        schema=tables.SPLIT_EVENTS.columns,
        orient="row",
    )


def review_frame(texts: list[str]) -> pl.DataFrame:
    events = event_frame([(f"e{n:04d}", text, "fit") for n, text in enumerate(texts)])
    return select_reviews(events, Keywords(), held_out=False)


def read_by_server(
    server: ChatServer, store_file: Path, texts: list[str], **settings: Any
) -> tuple[pl.DataFrame, dict[str, Any]]:
    llm = Llm(model="tiny", base_url=server.url, max_retries=0, concurrency=1)
    keywords = Keywords.model_validate({"backend": "openai"} | settings)
    with Store(store_file) as store:
        return read_keywords(review_frame(texts), keywords, llm, store)


EVENTS = event_frame(
    [
        ("e5", "  late\nwords ", "test"),
        ("e4", "valid words", "valid"),
        ("e3", "rank words", "rank"),
        ("e2", None, "fit"),
        ("e1", " \n\t", "fit"),
        ("e0", "fit words", "fit"),
    ]
)


def test_only_events_with_text_are_read() -> None:
    reviews = select_reviews(EVENTS, Keywords(), held_out=True)
    assert reviews["event_id"].to_list() == ["e0", "e3", "e4", "e5"]
    texts = ["fit words", "rank words", "valid words", "late words"]
    assert texts_to_ask(reviews, Keywords()) == texts


def test_held_out_reviews_are_read_only_for_queries_of_keywords() -> None:
    reviews = select_reviews(EVENTS, Keywords(), held_out=False)
    assert reviews["event_id"].to_list() == ["e0", "e3"]


def test_reviews_are_limited_and_cut() -> None:
    settings = Keywords(max_items=3, max_review_chars=6)
    reviews = select_reviews(EVENTS, settings, held_out=True)
    assert texts_to_ask(reviews, settings) == ["fit wo", "rank w", "valid "]


@pytest.mark.parametrize(
    ("backend", "keywords"),
    [
        ("chunks", ["mic", "son", "school gigs"]),
        ("yake", ["school gigs", "gigs", "mic", "son"]),
    ],
)
def test_table_without_a_language_model(backend: str, keywords: list[str], tmp_path: Path) -> None:
    reviews = review_frame(["A mic for my son at school gigs.", "!!!"])
    settings = Keywords.model_validate({"backend": backend, "max_keywords": 4})
    with Store(tmp_path / "s") as store:
        table, metrics = read_keywords(reviews, settings, Llm(), store)
    tables.write(table, tmp_path / "k.parquet", tables.KEYWORDS)
    assert table["backend"].unique().to_list() == [backend]
    assert table["keywords"].to_list() == [keywords, []]
    assert table["prompt_hash"].n_unique() == 2
    assert metrics == {
        "asked": 0,
        "asked_again": 0,
        "from_store": 0,
        "tokens_in": 0,
        "tokens_out": 0,
        "tokens_in_store": 0,
        "tokens_out_store": 0,
        "seconds": 0.0,
        "seconds_store": 0.0,
        "reasons_first": {},
        "retries": {},
        "reviews": 2,
        "ok": 2,
        "failed": 0,
        "reasons": {},
        "without_keywords": 1,
    }


def test_no_reviews_give_an_empty_table(chat_server: ChatServer, tmp_path: Path) -> None:
    with Store(tmp_path / "s") as store:
        assert read_keywords(review_frame([]), Keywords(), Llm(), store)[0].is_empty()
    table, metrics = read_by_server(chat_server, tmp_path / "s", [])
    tables.write(table, tmp_path / "k.parquet", tables.KEYWORDS)
    assert metrics["reviews"] == metrics["asked"] == 0


def test_model_answers_become_keywords_in_order_who_when_why(
    chat_server: ChatServer, tmp_path: Path
) -> None:
    table, _ = read_by_server(chat_server, tmp_path / "s", ["Kids evenings comfort extra"])
    assert table["keywords"].to_list() == [["kids", "evenings", "comfort"]]
    table, _ = read_by_server(
        chat_server, tmp_path / "s", ["Kids evenings comfort extra"], max_keywords=2
    )
    assert table["keywords"].to_list() == [["kids", "evenings"]]
    assert len(chat_server.asked) == 1
    system = chat_server.asked[0]["body"]["messages"][0]
    assert system["role"] == "system"
    assert all(f'"{field}"' in system["content"] for field in ("who", "when", "why"))


def answered(texts: list[str], answer: dict[str, list[str]], folder: Path, **settings: Any) -> Any:
    """Return the keywords of reviews that were all answered so."""
    keywords = Keywords.model_validate({"backend": "openai"} | settings)
    llm = Llm(model="tiny", base_url="http://127.0.0.1:9/v1", max_retries=0)
    questions = Questions(keywords_task(keywords), load_backend("openai", llm))
    reply = json.dumps({"text": json.dumps({"who": [], "when": [], "why": []} | answer)}).encode()
    with Store(folder / "s") as store:
        store.put_many({questions.key(questions.first(text)): reply for text in texts})
        return read_keywords(review_frame(texts), keywords, llm, store)[0]["keywords"].to_list()


def test_stop_words_are_cut_in_the_language_of_the_review(tmp_path: Path) -> None:
    german = "Für die Tochter gekauft, und sie nimmt es nach dem Baden."
    answer = {"who": ["die Tochter"], "when": ["nach dem Baden"], "why": ["the most"]}
    assert answered([german], answer, tmp_path) == [["tochter", "baden", "the most"]]
    english = "Bought it for my daughter, and she takes it after the bath."
    assert answered([english], answer, tmp_path) == [["die tochter", "nach dem baden"]]


def test_stop_words_are_cut_in_the_language_that_was_asked_for(tmp_path: Path) -> None:
    german = "Für die Tochter gekauft, und sie nimmt es nach dem Baden."
    answer = {"who": ["her daughter"], "when": ["after the bath"], "why": ["die cast"]}
    assert answered([german], answer, tmp_path, language="en") == [
        ["daughter", "bath", "die cast"],
    ]
    answer = {"who": ["para a filha"], "when": ["banho"]}
    assert answered([german], answer, tmp_path, language="pt") == [["filha", "banho"]]
    answer = {"who": ["dóttir"], "when": ["eftir bað"]}
    assert answered([german], answer, tmp_path, language="is") == [["dóttir", "eftir bað"]]


def test_language_is_asked_for_and_is_another_question(
    chat_server: ChatServer, tmp_path: Path
) -> None:
    for language in (None, "en", "pt", "en"):
        read_by_server(chat_server, tmp_path / "s", ["Kids evenings comfort"], language=language)
    asked = [one["body"]["messages"][0]["content"] for one in chat_server.asked]
    assert ["in Portuguese." in system for system in asked] == [False, False, True]
    assert ["in English." in system for system in asked] == [False, True, False]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"backend": "openai", "language": "xx"}, "'xx' is no code of ISO 639-1"),
        ({"backend": "openai", "language": "english"}, "'english' is no code of ISO 639-1"),
        ({"backend": "yake", "language": "en"}, "needs a language model, and backend 'yake' is"),
    ],
)
def test_language_that_cannot_be_had_is_refused(settings: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Keywords.model_validate(settings)


def test_failures_are_rows_with_reasons(chat_server: ChatServer, tmp_path: Path) -> None:
    texts = ["good words here", "REFUSE this one", "BROKEN answers come", "BROKEN too", "LONG one"]
    table, metrics = read_by_server(chat_server, tmp_path / "s", texts)
    tables.write(table, tmp_path / "k.parquet", tables.KEYWORDS)
    assert table["status"].to_list() == ["ok", "failed", "failed", "failed", "failed"]
    assert table["keywords"].list.len().to_list() == [3, 0, 0, 0, 0]
    assert table["reason"][1] == "refusal: I cannot help with that."
    assert metrics.pop("seconds") >= 0
    assert metrics == {
        "asked": 5,
        "asked_again": 3,
        "from_store": 0,
        "tokens_in": 70,  # ten a reply, and the one that was rejected had none
        "tokens_out": 21,
        "tokens_in_store": 0,
        "tokens_out_store": 0,
        "seconds_store": 0.0,
        "reasons_first": {"broken JSON": 2, "refusal": 1, "rejected": 1},
        "retries": {},
        "reviews": 5,
        "ok": 1,
        "failed": 4,
        "reasons": {"broken JSON": 2, "refusal": 1, "rejected": 1},
        "without_keywords": 4,
    }


def test_one_percent_changed_is_one_percent_asked(chat_server: ChatServer, tmp_path: Path) -> None:
    texts = [f"review number {n}" for n in range(200)]
    first, _ = read_by_server(chat_server, tmp_path / "s", texts)
    chat_server.asked.clear()
    texts[17], texts[101] = "changed a word", "changed two words"
    second, metrics = read_by_server(chat_server, tmp_path / "s", texts)
    assert sorted(chat_server.prompts) == ["changed a word", "changed two words"]
    assert (metrics["asked"], metrics["from_store"]) == (2, 198)
    same = [n for n in range(200) if n not in {17, 101}]
    assert second[same].equals(first[same])


def stage_options(folder: Path) -> list[str]:
    names = {
        "--params": "params.yaml",
        "--events": "events.parquet",
        "--store": "store.sqlite",
        "--keywords": "keywords.parquet",
        "--metrics": "keywords.json",
    }
    options = [word for flag, name in names.items() for word in (flag, str(folder / name))]
    return ["-m", "stages.enrich.keywords", *options]


def stage(folder: Path, *options: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, *stage_options(folder), *options],
        cwd=ROOT,
        env=os.environ | {"SHOP_KEY": "sesame"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def prepare(folder: Path, url: str, texts: list[str]) -> None:
    folder.mkdir(exist_ok=True)
    llm = (
        f"{{model: tiny, base_url: '{url}', api_key_env: SHOP_KEY, concurrency: 4, max_retries: 0}}"
    )
    (folder / "params.yaml").write_text(f"keywords: {{backend: openai}}\nllm: {llm}\n")
    events = event_frame([(f"e{n:04d}", text, "fit") for n, text in enumerate(texts)])
    tables.write(events, folder / "events.parquet", tables.SPLIT_EVENTS)


def test_nothing_is_asked_twice_after_a_kill(chat_server: ChatServer, tmp_path: Path) -> None:
    texts = [f"review number {n}" for n in range(80)]
    prepare(tmp_path, chat_server.url, texts)
    chat_server.delay = 0.05
    killed = stage(tmp_path)
    deadline = time.monotonic() + 60
    while chat_server.answered < 30 and time.monotonic() < deadline:
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert not (tmp_path / "keywords.parquet").exists()
    assert 30 <= len(chat_server.asked) < 80

    again = stage(tmp_path)
    again.communicate()
    assert again.returncode == 0
    assert set(chat_server.prompts) == set(texts)
    under_way = 4
    assert 80 <= len(chat_server.asked) <= 80 + under_way
    assert {one["key"] for one in chat_server.asked} == {"Bearer sesame"}

    chat_server.delay = 0.0
    prepare(tmp_path / "whole", chat_server.url, texts)
    whole = stage(tmp_path / "whole")
    whole.communicate()
    assert whole.returncode == 0
    written = (tmp_path / "keywords.parquet").read_bytes()
    assert (tmp_path / "whole" / "keywords.parquet").read_bytes() == written


def test_missing_server_is_one_sentence(tmp_path: Path) -> None:
    prepare(tmp_path, "http://127.0.0.1:9/v1", ["a review"])
    process = stage(tmp_path)
    stderr = process.communicate()[1]
    assert process.returncode == 1
    assert len(stderr.splitlines()) == 1
    assert stderr.startswith("error: the language model server http://127.0.0.1:9/v1 cannot be")
    assert not (tmp_path / "keywords.parquet").exists()


def test_failed_reviews_are_asked_anew_on_request(chat_server: ChatServer, tmp_path: Path) -> None:
    prepare(tmp_path, chat_server.url, ["good words", "REFUSE this"])
    for options, asked in (((), 3), ((), 3), (("--retry-failed",), 5)):
        process = stage(tmp_path, *options)
        process.communicate()
        assert process.returncode == 0
        assert len(chat_server.asked) == asked
    metrics = json.loads((tmp_path / "keywords.json").read_text())
    assert (metrics["ok"], metrics["failed"], metrics["from_store"]) == (1, 1, 1)


def test_dry_run_tells_what_is_missing_and_does_nothing(
    chat_server: ChatServer, tmp_path: Path
) -> None:
    texts = [f"review number {n}" for n in range(30)]
    prepare(tmp_path, chat_server.url, texts)
    before = {path.name for path in tmp_path.iterdir()}
    said = told(tmp_path)
    assert said[:5] == [
        "| tiny | | |",
        "|---|---|---|",
        "| reviews | 30 | 30 different |",
        "| answers in the store | 0 | |",
        "| missing | 30 | |",
    ]
    assert said[-1] == "| time | unknown | until 20 answers have been measured |"
    assert {path.name for path in tmp_path.iterdir()} == before
    assert chat_server.asked == []

    assert stage(tmp_path).wait() == 0
    prepare(tmp_path, chat_server.url, [*texts, "one more"])
    written = (tmp_path / "keywords.parquet").read_bytes()
    said = told(tmp_path)
    assert said[4:7] == [
        "| missing | 1 | |",
        "| tokens in | 10 | mean of 30 answers to this prompt |",
        "| tokens out | 3 | mean of 30 answers to this prompt |",
    ]
    assert said[7].endswith("s | mean of 30 answers to this prompt |")
    assert (tmp_path / "keywords.parquet").read_bytes() == written
    assert len(chat_server.asked) == 30


def test_client_is_loaded_only_where_something_is_asked(
    chat_server: ChatServer, tmp_path: Path
) -> None:
    prepare(tmp_path, chat_server.url, ["a review"])
    for asks in (True, False):
        command = [sys.executable, "-X", "importtime", *stage_options(tmp_path)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
        assert ("openai" in imported) == ("asyncio" in imported) == asks
    assert len(chat_server.asked) == 1


def told(folder: Path) -> list[str]:
    return str(stage(folder, "--dry-run").communicate()[0]).splitlines()


def test_dry_run_without_a_language_model(tmp_path: Path) -> None:
    prepare(tmp_path, "http://127.0.0.1:9/v1", ["a review"])
    (tmp_path / "params.yaml").write_text("keywords: {backend: chunks}\n")
    said = "keywords.backend chunks asks no language model: nothing is paid for"
    assert told(tmp_path) == [said]


@pytest.mark.parametrize("name", ["keywords", "summaries", "queries", "documents"])
def test_help_answers(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", f"stages.enrich.{name}", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--params" in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "polars" in imported
    assert not imported & {"openai", "vllm", "torch", "yake", "tqdm"}
