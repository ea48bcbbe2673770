"""Keywords, documents and vectors, killed at any moment and run again, are what they always are."""

import hashlib
import json
import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from stages.core import files, tables
from stages.core.store import Store
from tests.encode.tiny_models import WORDS, described, settings
from tests.enrich.chat_server import ChatServer

pytestmark = pytest.mark.slow

KILLS, MOST_RUNS = 20, 80
REVIEWS, ASKED, ITEMS = 1300, 150, 20
REQUESTS = 8
"""Requests under way at once: what a kill may cost, at the most."""
MADE = ("keywords.parquet", "documents.parquet", "embeddings/base.parquet")


def write_inputs(folder: Path, bert: Path, url: str) -> None:
    rng = np.random.default_rng(5)
    start = datetime(2024, 1, 1, tzinfo=UTC)
    blank = dict.fromkeys(tables.EVENTS.columns) | {"user_id": "u", "event": "rate", "value": 5.0}
    events = [
        blank
        | {
            "event_id": f"e{n:04d}",
            "item_id": f"i{n % ITEMS:02d}",
            "timestamp": start + timedelta(n),
            "text": f"n{n} " + " ".join(rng.choice(WORDS, rng.integers(3, 9))),
            "split": "fit" if n < REVIEWS // 2 else "rank",
        }
        for n in range(REVIEWS)
    ]
    schema = tables.SPLIT_EVENTS.columns
    tables.write(pl.DataFrame(events, schema), folder / "events.parquet", tables.SPLIT_EVENTS)
    unsaid = dict.fromkeys(tables.ITEMS.columns) | {"features": [], "categories": []}
    items = [unsaid | {"item_id": f"i{n:02d}", "title": f"Title {n}"} for n in range(ITEMS)]
    frame = pl.DataFrame(items, tables.ITEMS.columns)
    tables.write(frame, folder / "items.parquet", tables.ITEMS)
    for name, table in (
        ("properties", tables.SPLIT_PROPERTIES),
        ("summaries", tables.SUMMARIES),
    ):
        tables.write(pl.DataFrame(schema=table.columns), folder / f"{name}.parquet", table)
    params = {
        "documents": {"reviews": REVIEWS},
        "keywords": {"backend": "openai", "max_items": ASKED},
        "llm": {"base_url": url, "concurrency": REQUESTS},
    }
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    described(folder / "encoders" / "base", settings(bert))


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with closing(ChatServer()) as served:
        yield served


def pipeline(inputs: Path, stores: Path, made: Path) -> None:
    """What three stage scripts do, one after another, in a process that may end at any time."""
    import torch

    from stages.encode import embed
    from stages.enrich import documents, keywords

    torch.set_num_threads(1)
    os.environ["OPENAI_API_KEY"] = made.name  # By it the server's notes tell runs apart.
    params, events = inputs / "params.yaml", inputs / "events.parquet"
    items, summaries = inputs / "items.parquet", inputs / "summaries.parquet"
    words, texts = made / "keywords.parquet", made / "documents.parquet"
    answers, vectors = stores / files.LLM_STORE.name, stores / files.VECTOR_STORE.name
    keywords.main(params, events, answers, words, made / "metrics.json")
    documents.main(params, items, inputs / "properties.parquet", events, words, summaries, texts)
    embeddings = made / "embeddings"
    embed.main(
        "base",
        params,
        texts,
        items,
        inputs / "encoders",
        embeddings,
        made / "chroma",
        vectors,
    )


def digests(made: Path) -> list[str]:
    return [hashlib.sha256((made / name).read_bytes()).hexdigest() for name in MADE]


def answered(stores: Path) -> set[str]:
    """Numbers of the reviews of which the store holds a reply: the first word of each."""
    with Store(stores / files.LLM_STORE.name) as store:
        kinds = [size.kind for size in store.sizes()]
        kept = [value for kind in kinds for value in store.latest(kind, ASKED)]
    return {json.loads(json.loads(value)["text"])["who"][0] for value in kept}


def asked(server: ChatServer, run: Path) -> list[str]:
    return [one["prompt"].split()[0] for one in server.asked if one["key"] == f"Bearer {run.name}"]


def test_killed_at_twenty_moments_the_tables_are_the_same(
    bert: Path, tmp_path: Path, server: ChatServer
) -> None:
    """Each run begins in an empty folder, on the store that the run before left as it was killed.

    One that is not killed in time ends with the same tables, and the next begins on a new store.
    """
    # A server with the libraries loaded forks every run, which so costs its work alone.
    context = multiprocessing.get_context("forkserver")
    heavy = ("torch", "sentence_transformers", "transformers.models.bert.modeling_bert", "chromadb")
    context.set_forkserver_preload([*heavy, "openai.resources.chat", __name__])
    write_inputs(tmp_path, bert, server.url)
    everything = {f"n{n}" for n in range(ASKED)}

    def start(stores: Path, made: Path) -> BaseProcess:
        process = context.Process(target=pipeline, args=(tmp_path, stores, made))
        process.start()
        return process

    def finish(stores: Path, made: Path) -> list[str]:
        process = start(stores, made)
        process.join()
        assert process.exitcode == 0
        return digests(made)

    finish(tmp_path / "warm", tmp_path / "warm")  # Starts the server, too.
    begun = time.monotonic()
    expected = finish(tmp_path / "undisturbed", tmp_path / "undisturbed")
    whole = time.monotonic() - begun
    assert sorted(asked(server, tmp_path / "undisturbed")) == sorted(everything)

    rng = np.random.default_rng(11)
    kills, whole_runs, amid = 0, 0, Counter[str]()
    for run in range(MOST_RUNS):
        stores, made = tmp_path / f"stores{whole_runs}", tmp_path / f"run{run}"
        kept = answered(stores)
        process = start(stores, made)
        process.join(rng.uniform(0, whole) if kills < KILLS else None)
        process.kill()
        process.join()
        heard = asked(server, made)
        assert len(heard) == len(set(heard))
        assert not kept & set(heard)
        now = answered(stores)
        assert kept <= now <= kept | set(heard)
        assert len(heard) <= len(now - kept) + REQUESTS
        with Store(stores / files.VECTOR_STORE.name) as store:
            assert len(store) == sum(size.entries for size in store.sizes())
        if process.exitcode == 0:
            assert digests(made) == expected
            assert now == everything
            whole_runs += 1
            if kills == KILLS:
                break
        else:
            assert process.exitcode == -signal.SIGKILL
            kills += 1
            # The last is there and the process still at the index: what it makes last.
            amid[next((name for name in MADE if not (made / name).exists()), MADE[-1])] += 1
    assert kills == KILLS
    assert amid[MADE[0]] >= 3, amid
    assert amid[MADE[2]] >= 3, amid
