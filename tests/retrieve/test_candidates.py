"""The stages fit and candidates: each split answered by its window, the same bytes each time."""

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from polars.testing import assert_frame_equal

from stages.core import tables
from stages.core.params import Encoder
from stages.core.storage import write_json
from stages.encode import base, embed
from stages.retrieve import candidates, fit
from stages.retrieve.retrievers import ENCODER_OF, READS_BESIDES, READS_VECTORS
from tests.encode import tiny_models
from tests.retrieve.conftest import COMPANIONS, OWN, START

LATE = "i11"
"""The item that only window train knows."""


def write_inputs(folder: Path, encoder: Encoder, name: str, *, cut: bool, words: bool) -> None:
    # Companions have documents only where what is alike in words is looked for.
    documents = [
        {"window": window, "item_id": item, "text": f"{word} wood\nloud {word}"}
        for window in tables.WINDOWS
        if words
        for n, word in enumerate(OWN)
        for item in (f"i{n:02d}", COMPANIONS[word])[: 1 + (name == "content")]
        if window == "train" or item != LATE
    ]
    frame = pl.DataFrame(documents, tables.DOCUMENTS.columns)
    tables.write(frame, folder / "documents.parquet", tables.DOCUMENTS)
    names = tables.ITEMS.columns
    blank = dict.fromkeys(names) | {"features": [], "categories": []}
    items = [
        blank | {"item_id": item, "brand": word, "categories": [kind]}
        for n, word in enumerate(OWN)
        for item, kind in ((COMPANIONS[word], "case"), (f"i{n:02d}", "tool"))
    ]
    tables.write(pl.DataFrame(items, names), folder / "items.parquet", tables.ITEMS)
    users = pl.DataFrame({"user_id": [f"{name}{n}" for name in "ab" for n in range(len(OWN))]})
    tables.write(users, folder / "users.parquet", tables.USERS)
    queries = [
        {
            "query_id": f"{split}{n:02d}",
            "user_id": None,
            "timestamp": datetime(2023, 1, 1, tzinfo=UTC),
            "text": word,
            "history": [
                {"item_id": COMPANIONS[word], "timestamp": datetime(2022, 12, 1, tzinfo=UTC)}
            ],
            "targets": [f"i{n:02d}"],
            "split": split,
        }
        for split in tables.WINDOW_OF_SPLIT
        for n, word in enumerate(OWN)
    ]
    frame = pl.DataFrame(queries, tables.QUERIES.columns)
    tables.write(frame, folder / "queries.parquet", tables.QUERIES)
    names = tables.SPLIT_EVENTS.columns
    blank = dict.fromkeys(names) | {"event": "purchase", "value": 1.0}
    events = [
        blank
        | {
            "event_id": f"{user}{item}",
            "user_id": f"{user}{n}",
            "item_id": item,
            "timestamp": START + timedelta(days=40 * (part == "rank") + day),
            "split": part,
        }
        for user in ("a", "b")
        for n, word in enumerate(OWN)
        for part in ["rank" if f"i{n:02d}" == LATE else "fit"]
        for day, item in enumerate((COMPANIONS[word], f"i{n:02d}"))
    ]
    tables.write(pl.DataFrame(events, names), folder / "events.parquet", tables.SPLIT_EVENTS)
    counted = {part: sum(event["split"] == part for event in events) for part in tables.PARTS}
    ends = {
        f"{window}_end_ms": max(
            int(event["timestamp"].timestamp() * 1000)
            for event in events
            if event["split"] in tables.PARTS_OF_WINDOW[window]
        )
        for window in tables.WINDOWS
    }
    method = "fractions" if cut else "leave_last_out"
    cuts = (ends if cut else dict.fromkeys(ends)) | {"method": method, "events": counted}
    write_json(folder / "cuts.json", cuts)
    shown = pl.DataFrame(events, names).select(
        pl.col("event_id").alias("impression_id"),
        "user_id",
        "item_id",
        pl.col("timestamp") - timedelta(minutes=1),
        click=pl.lit(1, pl.Int8),
        conversion=pl.lit(0, pl.Int8),
        position=pl.lit(1, pl.Int32),
    )
    tables.write(shown, folder / "impressions.parquet", tables.IMPRESSIONS)
    users = pl.DataFrame({"user_id": ["a", "b"]})
    tables.write(users, folder / "users.parquet", tables.USERS)
    none = pl.DataFrame(schema=tables.SPLIT_PROPERTIES.columns)
    tables.write(none, folder / "properties.parquet", tables.SPLIT_PROPERTIES)
    pictures = {"item_id": pl.String, "vector": pl.Array(pl.Float32, 0), "model_hash": pl.String}
    none = pl.DataFrame(schema=pl.Schema(pictures))
    tables.write(none, folder / "pictures.parquet", tables.PICTURE_VECTORS)
    params = {"encoder": encoder.model_dump(mode="json"), "candidates": {"top_k": 10}}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))


def run(
    folder: Path, encoder: Encoder, name: str, *, cut: bool = True, words: bool = True
) -> pl.DataFrame:
    folder.mkdir(exist_ok=True)
    write_inputs(folder, encoder, name, cut=cut, words=words)
    params, documents = folder / "params.yaml", folder / "documents.parquet"
    encoders, embeddings = folder / "encoders", folder / "embeddings"
    store, items = folder / "vectors.sqlite", folder / "items.parquet"
    if name in ENCODER_OF or name in READS_VECTORS:
        base.main(params, encoders / "base")
        chroma = folder / "chroma"
        embed.main("base", params, documents, items, encoders, embeddings, chroma, store)
    retrievers, found = folder / "retrievers", folder / "candidates"
    fit.main(
        name,
        params,
        events_file=folder / "events.parquet",
        cuts_file=folder / "cuts.json",
        impressions_file=folder / "impressions.parquet",
        items_file=items,
        properties_file=folder / "properties.parquet",
        users_file=folder / "users.parquet",
        documents_file=documents,
        pictures_file=folder / "pictures.parquet",
        embeddings_folder=embeddings,
        encoders_folder=encoders,
        retrievers_folder=retrievers,
    )
    candidates.main(name, params, folder / "queries.parquet", retrievers, found, store)
    return tables.read(found / f"{name}.parquet", tables.CANDIDATES)


@pytest.mark.parametrize(
    "name",
    [
        *("popular", "item_knn", "als", "two_tower", "content"),
        *("bm25", "dense_base", "sparse", "multi_vector"),
    ],
)
def test_each_split_is_answered_by_its_window_twice_the_same(name: str, tmp_path: Path) -> None:
    if name in READS_BESIDES:
        model = tiny_models.bge_m3(tmp_path / "model")
        encoder = tiny_models.settings(model, kind="bge_m3", multi_vector=name == "multi_vector")
    else:
        encoder = tiny_models.settings(tiny_models.static(tmp_path / "model"))
    found = run(tmp_path / "a", encoder, name)
    split = found["query_id"].str.slice(0, found["query_id"].str.len_chars() - 2)
    first = found.filter((pl.col("rank") == 1) & (split == "test"))
    if name != "popular":
        assert first["item_id"].to_list() == [f"i{n:02d}" for n in range(len(OWN))]
    # What is not known yet is not found, but by what the catalogue says.
    assert (LATE in found.filter(split == "rank")["item_id"]) == (name == "two_tower")
    assert LATE in found.filter(split == "valid")["item_id"]
    assert found["rank"].max() <= 10

    run(tmp_path / "b", encoder, name)
    run(tmp_path / "a", encoder, name)

    def digest(folder: Path) -> str:
        path = folder / "candidates" / f"{name}.parquet"
        return hashlib.sha256(path.read_bytes()).hexdigest()

    assert digest(tmp_path / "a") == digest(tmp_path / "b")
    again = tables.read(tmp_path / "a" / "candidates" / f"{name}.parquet", tables.CANDIDATES)
    assert again.equals(found)


@pytest.mark.parametrize("name", ["dense_base", "sparse", "multi_vector"])
def test_without_documents_encoders_find_nothing(name: str, tmp_path: Path) -> None:
    model = tiny_models.bge_m3(tmp_path / "model")
    encoder = tiny_models.settings(model, kind="bge_m3", multi_vector=name == "multi_vector")
    assert run(tmp_path / "shop", encoder, name, words=False).is_empty()


def test_what_is_popular_is_the_same_from_disk_as_in_memory(tmp_path: Path) -> None:
    """Where no cut in time says what a window holds, its rows are picked in memory."""
    encoder = tiny_models.settings(tmp_path / "model")
    for name, cut in (("disk", True), ("memory", False)):
        run(tmp_path / name, encoder, "popular", cut=cut)
    for window in tables.WINDOWS:
        lists = [
            pl.read_parquet(tmp_path / name / "retrievers" / "popular" / window / "hot.parquet")
            for name in ("disk", "memory")
        ]
        assert_frame_equal(*lists)
        # Both users chose the item in the window's last moment, and were shown it just before.
        assert lists[0]["event_count"].max() == 2
        assert lists[0]["impression_count"].max() == pytest.approx(2, rel=1e-4)
        assert (LATE in lists[0]["item_id"]) == (window == "train")


def test_windows_trained_side_by_side_are_what_they_are_in_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small windows are trained in turn; here none is too small for a process."""
    encoder = tiny_models.settings(tiny_models.static(tmp_path / "model"))
    in_turn = run(tmp_path / "in turn", encoder, "two_tower")
    monkeypatch.setattr(fit, "_WORTH_A_PROCESS", 0)
    monkeypatch.setattr(fit, "CORES", 2)
    assert run(tmp_path / "apart", encoder, "two_tower").equals(in_turn)
    for window in tables.WINDOWS:
        vectors = [
            np.load(tmp_path / name / "retrievers" / "two_tower" / window / "vectors.npy")
            for name in ("in turn", "apart")
        ]
        np.testing.assert_allclose(*vectors, atol=1e-6)
