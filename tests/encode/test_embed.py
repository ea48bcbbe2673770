"""The stages base and embed: vectors of every document, the same bytes each time, in Chroma too."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

from stages.core import tables
from stages.core.log import UserError
from stages.core.params import Encoder
from stages.encode import base, embed
from stages.encode.encoders import CachedEncoder, chroma
from tests.encode.encoders.test_cached import entries
from tests.encode.tiny_models import WORDS, settings

TEXTS = {f"i{n:02d}": f"{WORDS[n]} wood\nloud {WORDS[n + 1]}" for n in range(8)}


def write_inputs(folder: Path, params: Encoder, texts: dict[str, str]) -> None:
    rows = [
        {"window": window, "item_id": item, "text": text}
        for window in tables.WINDOWS
        for item, text in texts.items()
    ]
    # Of the last item nothing is known yet in window fit.
    frame = pl.DataFrame(rows, tables.DOCUMENTS.columns)
    frame = frame.filter((pl.col("window") == "train") | (pl.col("item_id") != max(texts)))
    tables.write(frame, folder / "documents.parquet", tables.DOCUMENTS)
    items = [{"item_id": item, "title": f"Title {item}", "features": []} for item in texts]
    blank: dict[str, Any] = {"categories": []}
    names = tables.ITEMS.columns
    tables.write(
        pl.DataFrame([dict.fromkeys(names) | blank | item for item in items], names),
        folder / "items.parquet",
        tables.ITEMS,
    )
    chosen = {"encoder": params.model_dump(mode="json"), "embed": {"collection": "shelf"}}
    if params.kind == "none":
        chosen |= {"retrievers": ["bm25"], "finetune": {"enabled": False}}
    (folder / "params.yaml").write_text(yaml.safe_dump(chosen))


def run(folder: Path, params: Encoder, texts: dict[str, str] = TEXTS) -> pl.DataFrame:
    folder.mkdir(exist_ok=True)
    write_inputs(folder, params, texts)
    base.main(folder / "params.yaml", folder / "encoders" / "base")
    embed.main(
        "base",
        folder / "params.yaml",
        folder / "documents.parquet",
        folder / "items.parquet",
        folder / "encoders",
        folder / "embeddings",
        folder / "chroma",
        folder / "vectors.sqlite",
    )
    return tables.read(folder / "embeddings" / "base.parquet", tables.EMBEDDINGS)


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "embeddings" / "base.parquet").read_bytes()).hexdigest()


def test_every_document_gets_its_vector(bert: Path, tmp_path: Path) -> None:
    frame = run(tmp_path, settings(bert))
    encoder = CachedEncoder(tmp_path / "encoders" / "base")
    for window, count in (("fit", 7), ("train", 8)):
        part = frame.filter(window=window)
        assert part["item_id"].to_list() == sorted(TEXTS)[:count]
        expected = encoder.encode_documents([TEXTS[item] for item in part["item_id"]]).dense
        np.testing.assert_allclose(part["vector"].to_numpy(), expected, atol=1e-6)
    assert frame["model_hash"].unique().to_list() == [encoder.model.model_hash]
    assert "sparse" not in frame.columns

    with chroma.open_copy(tmp_path / "chroma" / "base") as client:
        assert [found.name for found in client.list_collections()] == ["shelf_base"]
        kept = client.get_collection("shelf_base", embedding_function=None).get(
            include=["documents", "metadatas", "embeddings"]
        )
    assert sorted(kept["ids"]) == sorted(TEXTS)
    first_lines = {item: text.split("\n")[0] for item, text in TEXTS.items()}
    assert dict(zip(kept["ids"], kept["documents"], strict=True)) == first_lines
    assert kept["metadatas"][0] == {"title": f"Title {kept['ids'][0]}"}
    order = np.argsort(kept["ids"])
    of_train = frame.filter(window="train")["vector"].to_numpy()
    np.testing.assert_array_equal(np.asarray(kept["embeddings"])[order], of_train)


def test_equal_inputs_give_equal_bytes(bert: Path, tmp_path: Path) -> None:
    run(tmp_path / "a", settings(bert))
    first = digest(tmp_path / "a")
    run(tmp_path / "a", settings(bert))  # from the store
    run(tmp_path / "b", settings(bert))  # from nothing
    assert digest(tmp_path / "a") == digest(tmp_path / "b") == first


def test_only_new_lines_are_encoded(bert: Path, tmp_path: Path) -> None:
    before = run(tmp_path, settings(bert))
    lines = {line for text in TEXTS.values() for line in text.split("\n")}
    assert entries(tmp_path / "vectors.sqlite") == len(lines)
    after = run(tmp_path, settings(bert), TEXTS | {"i03": f"{TEXTS['i03']}\nfor a child"})
    assert entries(tmp_path / "vectors.sqlite") == len(lines) + 1
    changed = before.filter(before["vector"] != after["vector"])
    assert changed["item_id"].unique().to_list() == ["i03"]


def test_bge_m3_adds_lexical_weights_and_vectors_a_token(bge_m3: Path, tmp_path: Path) -> None:
    frame = run(tmp_path, settings(bge_m3, kind="bge_m3", multi_vector=True))
    assert frame.schema["sparse"] == pl.List(pl.Struct({"token": pl.String, "weight": pl.Float32}))
    assert frame.schema["multi_vector"] == pl.List(pl.Array(pl.Float16, 16))
    # Two lines of two words with one word each of its own: four tokens; one vector a token of the
    # first line, and one for [SEP].
    assert frame["sparse"].list.len().unique().to_list() == [4]
    assert frame["multi_vector"].list.len().unique().to_list() == [3]
    tokens = [entry["token"] for entry in frame["sparse"][0].to_list()]
    assert tokens == sorted(tokens)


def test_without_documents_there_are_no_vectors_and_no_collection(
    bert: Path, tmp_path: Path
) -> None:
    run(tmp_path, settings(bert))
    tables.write(
        pl.DataFrame([], tables.DOCUMENTS.columns), tmp_path / "documents.parquet", tables.DOCUMENTS
    )
    embed.main(
        "base",
        tmp_path / "params.yaml",
        tmp_path / "documents.parquet",
        tmp_path / "items.parquet",
        tmp_path / "encoders",
        tmp_path / "embeddings",
        tmp_path / "chroma",
        tmp_path / "vectors.sqlite",
    )
    assert tables.read(tmp_path / "embeddings" / "base.parquet", tables.EMBEDDINGS).is_empty()
    assert list((tmp_path / "chroma" / "base").iterdir()) == []


def test_without_an_encoder_nothing_is_encoded(tmp_path: Path) -> None:
    frame = run(tmp_path, Encoder(kind="none"))
    assert frame.is_empty()
    assert not list((tmp_path / "chroma" / "base").iterdir())
    assert not (tmp_path / "vectors.sqlite").exists()
    with pytest.raises(UserError, match=r"encoder\.kind is none, and a text is to be encoded"):
        CachedEncoder(tmp_path / "encoders" / "base").encode(["wood"], "query")
