"""Keywords, documents and vectors, killed at any moment and run again, are what they always are."""

import hashlib
import multiprocessing
import signal
import time
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

pytestmark = pytest.mark.slow

KILLS = 20
PER_STORE = 4
"""Kills that one store suffers before the run that is let be."""
REVIEWS, ITEMS = 1300, 20
MADE = ("keywords.parquet", "documents.parquet", "embeddings/base.parquet")


def write_inputs(folder: Path, bert: Path) -> None:
    rng = np.random.default_rng(5)
    start = datetime(2024, 1, 1, tzinfo=UTC)
    blank = dict.fromkeys(tables.EVENTS.columns) | {"user_id": "u", "event": "rate", "value": 5.0}
    events = [
        blank
        | {
            "event_id": f"e{n:04d}",
            "item_id": f"i{n % ITEMS:02d}",
            "timestamp": start + timedelta(n),
            "text": " ".join(rng.choice(WORDS, rng.integers(3, 9))) + f" {n}",
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
    params = {"documents": {"reviews": REVIEWS}}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    described(folder / "encoders" / "base", settings(bert))


def pipeline(inputs: Path, made: Path) -> None:
    """What three stage scripts do, one after another, in a process that may end at any time."""
    import torch

    from stages.encode import embed
    from stages.enrich import documents, keywords

    torch.set_num_threads(1)
    params, events = inputs / "params.yaml", inputs / "events.parquet"
    items, summaries = inputs / "items.parquet", inputs / "summaries.parquet"
    words, texts = made / "keywords.parquet", made / "documents.parquet"
    answers, vectors = made / files.LLM_STORE.name, made / files.VECTOR_STORE.name
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


def test_killed_at_random_moments_the_tables_are_the_same(bert: Path, tmp_path: Path) -> None:
    # A server with the libraries loaded forks every run, which so costs its work alone.
    context = multiprocessing.get_context("forkserver")
    heavy = ("torch", "sentence_transformers", "transformers.models.bert.modeling_bert", "chromadb")
    context.set_forkserver_preload([*heavy, "yake", __name__])
    write_inputs(tmp_path, bert)

    def start(made: Path) -> BaseProcess:
        process = context.Process(target=pipeline, args=(tmp_path, made))
        process.start()
        return process

    def finish(made: Path) -> list[str]:
        process = start(made)
        process.join()
        assert process.exitcode == 0
        return digests(made)

    finish(tmp_path / "first")  # Starts the server, too.
    begun = time.monotonic()
    expected = finish(tmp_path / "undisturbed")
    whole = time.monotonic() - begun
    rng = np.random.default_rng(11)
    ended = []
    for kill in range(KILLS):
        made = tmp_path / f"killed{kill // PER_STORE}"
        process = start(made)
        process.join(rng.uniform(0, whole))
        process.kill()
        process.join()
        ended.append(process.exitcode)
        for name in (files.LLM_STORE.name, files.VECTOR_STORE.name):
            with Store(made / name) as store:
                assert len(store) == sum(size.entries for size in store.sizes())
        if kill % PER_STORE == PER_STORE - 1:
            assert finish(made) == expected
    assert set(ended) <= {0, -signal.SIGKILL}
    assert ended.count(-signal.SIGKILL) >= KILLS // 4
