"""Summaries of descriptions: short ones stay, long ones are shortened, failures fall back."""

import json
from pathlib import Path
from typing import Any

import polars as pl
from chat_server import ChatServer

from stages.core import tables
from stages.core.params import Llm, Summaries
from stages.core.store import Store
from stages.enrich.llm import load_backend
from stages.enrich.llm.ask import Tally
from stages.enrich.summaries import (
    ask_summaries,
    extract_summaries,
    main,
    plan_summaries,
    select_descriptions,
    summarise_metrics,
)

SENTENCE = "It is a sturdy cable for loud stages. "
LONG = SENTENCE * 10


def described_frame(descriptions: list[str | None]) -> pl.DataFrame:
    items = pl.DataFrame(
        {"item_id": [f"i{n}" for n in range(len(descriptions))], "description": descriptions},
        schema={"item_id": pl.String, "description": pl.String},
    )
    return select_descriptions(items, None)


def summarised_by_server(
    server: ChatServer, store_file: Path, descriptions: list[str | None], **settings: Any
) -> tuple[pl.DataFrame, Tally]:
    llm = Llm(model="tiny", base_url=server.url, max_retries=0, concurrency=1)
    with Store(store_file) as store:
        return ask_summaries(
            described_frame(descriptions),
            Summaries(use_llm=True, **settings),
            load_backend("openai", llm),
            store,
        )


def test_items_without_description_have_no_row() -> None:
    frame = described_frame([None, " \n ", " One\n line "])
    assert frame.rows() == [("i2", "One line")]


def test_short_stays_and_long_is_shortened() -> None:
    table = extract_summaries(described_frame([LONG, "Short one.", "x" * 300]), Summaries())
    assert table["backend"].to_list() == ["extractive", "verbatim", "verbatim"]
    assert table["summary"].to_list() == [(SENTENCE * 7).strip(), "Short one.", "x" * 300]
    assert table["status"].to_list() == ["ok"] * 3


def test_hash_is_of_what_decides_the_summary() -> None:
    hashes = [
        extract_summaries(described_frame([text]), Summaries(max_chars=chars))["prompt_hash"][0]
        for text, chars in ((LONG, 300), (LONG, 300), (LONG, 200), (LONG + "x", 300))
    ]
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3


def test_model_is_asked_about_long_ones_only(chat_server: ChatServer, tmp_path: Path) -> None:
    table, tally = summarised_by_server(chat_server, tmp_path / "s", [LONG, "Short.", None])
    assert chat_server.prompts == [LONG.strip()]
    assert table["backend"].to_list() == ["verbatim", "openai"]
    assert max(table["summary"].str.len_chars().to_list()) <= 300
    assert tally == Tally(asked=1, asked_again=0, from_store=0)
    system = chat_server.asked[0]["body"]["messages"][0]["content"]
    assert '"summary"' in system
    assert "300 characters" in system


def test_failure_falls_back_and_says_so(chat_server: ChatServer, tmp_path: Path) -> None:
    table, tally = summarised_by_server(
        chat_server, tmp_path / "s", ["REFUSE that. " + LONG, "LONG text. " + LONG]
    )
    tables.write(table, tmp_path / "t.parquet", tables.SUMMARIES)
    assert table["status"].to_list() == ["failed", "failed"]
    assert table["summary"].str.starts_with("REFUSE that. It is a sturdy").to_list()[0]
    assert table["reason"].to_list() == [
        "refusal: I cannot help with that.",
        "rejected: 400, maximum context length is 4096 tokens",
    ]
    metrics = summarise_metrics(table, tally)
    assert metrics.pop("seconds") >= 0
    assert metrics == {
        "asked": 2,
        "asked_again": 1,
        "from_store": 0,
        "tokens_in": 20,
        "tokens_out": 6,
        "tokens_in_store": 0,
        "tokens_out_store": 0,
        "seconds_store": 0.0,
        "reasons_first": {"refusal": 1, "rejected": 1},
        "retries": {},
        "descriptions": 2,
        "by_backend": {"openai": 2},
        "ok": 0,
        "failed": 2,
        "reasons": {"refusal": 1, "rejected": 1},
    }


def test_plan_is_of_long_descriptions_only(chat_server: ChatServer, tmp_path: Path) -> None:
    described = described_frame([LONG, "Short.", None, LONG + "x", "x" * 300])
    settings = Summaries(use_llm=True)
    llm = Llm(model="tiny", base_url=chat_server.url, max_retries=0)
    with Store(tmp_path / "s") as store:
        planned = plan_summaries(described, settings, llm, store).splitlines()
        assert planned[2] == "| descriptions | 2 | 2 different |"
        assert planned[4] == "| missing | 2 | |"
        ask_summaries(described, settings, load_backend("openai", llm), store)
        assert plan_summaries(described, settings, llm, store).splitlines()[4:] == [
            "| missing | 0 | |"
        ]
        extractive = plan_summaries(described, Summaries(), llm, store)
    assert len(chat_server.asked) == 2
    assert (
        extractive
        == "summaries.use_llm is false, so no language model is asked: nothing is paid for"
    )


def test_only_the_first_items_when_limited() -> None:
    items = pl.DataFrame({"item_id": ["c", "a", "b"], "description": ["3", "1", "2"]})
    assert select_descriptions(items, 2)["item_id"].to_list() == ["a", "b"]


def test_stage_without_a_model(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("summaries: {max_chars: 80}\n")
    nothing = {"title": None, "brand": None, "price": None, "image": None}
    items = pl.DataFrame(
        [
            {"item_id": item, "description": text, "features": [], "categories": []} | nothing
            for item, text in (("b", LONG), ("a", "Short."), ("c", None))
        ],
        schema=tables.ITEMS.columns,
    )
    tables.write(items, tmp_path / "items.parquet", tables.ITEMS)
    outputs = (tmp_path / "summaries.parquet", tmp_path / "metrics" / "summaries.json")
    main(tmp_path / "params.yaml", tmp_path / "items.parquet", tmp_path / "store", *outputs)
    table = tables.read(outputs[0], tables.SUMMARIES)
    assert table["summary"].to_list() == ["Short.", (SENTENCE * 2).strip()]
    assert json.loads(outputs[1].read_text())["by_backend"] == {"extractive": 1, "verbatim": 1}
    assert not (tmp_path / "store").exists()
