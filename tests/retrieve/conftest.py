"""One fitted retriever of each kind, on documents of which every one has a word of its own."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from stages.core import tables
from stages.core.params import Encoder, Fit, RetrieverName
from stages.encode.embed import embeddings_frame
from stages.encode.encoders import CachedEncoder
from stages.retrieve.retrievers import Retriever, TrainingData, load_retriever, make_retriever
from tests.encode import tiny_models

os.environ["HF_HUB_OFFLINE"] = "1"

OWN = tiny_models.WORDS[:12]
TEXTS = {f"i{n:02d}": f"{word} wood" for n, word in enumerate(OWN)}
# Two items, far apart by id, that read the same.
TWINS = ("a-twin", "z-twin")
TEXTS |= dict.fromkeys(TWINS, "pedal metal")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def documents() -> pl.DataFrame:
    return pl.DataFrame({"item_id": list(TEXTS), "text": list(TEXTS.values())}).sort("item_id")


def queries(texts: list[str | None]) -> pl.DataFrame:
    return pl.DataFrame(
        {"query_id": [f"q{n:02d}" for n in range(len(texts))], "text": texts},
        schema={"query_id": pl.String, "text": pl.String},
    )


@dataclass(frozen=True)
class Case:
    """A retriever, fitted, saved as the stage `fit` saves it.

    `ask` makes of an item's own word a query that only this item answers best: the word, where
    words are what is compared, and the item's whole text for an encoder that knows no words.
    """

    name: RetrieverName
    fitted: Retriever
    folder: Path
    ask: Callable[[str], str]

    def load(self, store: Path | None = None) -> Retriever:
        return load_retriever(self.name, self.folder / "train", store)


def settings_of(name: str, folder: Path, seed: int) -> Encoder | None:
    if name == "dense_base":
        return tiny_models.settings(tiny_models.static(folder, rotation=seed))
    if name == "dense":
        return tiny_models.settings(tiny_models.bert(folder, seed=seed))
    if name == "sparse":
        return tiny_models.settings(tiny_models.bge_m3(folder, seed=seed), kind="bge_m3")
    return None


def fit(name: RetrieverName, folder: Path, seed: int = 0) -> Case:
    made = make_retriever(name, Fit())
    params = settings_of(name, folder / "model", seed)
    (folder / "train").mkdir(parents=True)
    data = TrainingData(documents())
    if params is not None:
        tiny_models.described(folder / "encoder", params)
        encoder = CachedEncoder(folder / "encoder")
        encoded = encoder.encode_documents(data.documents["text"].to_list())
        keyed = data.documents.with_columns(
            window=pl.lit("train").cast(tables.EMBEDDINGS.columns["window"])
        )
        frame = embeddings_frame(keyed, encoded, encoder.model.model_hash)
        data = TrainingData(data.documents, frame, encoder)
    made.fit(data)
    made.save(folder / "train")
    whole = name == "dense"
    return Case(name, made, folder, lambda word: f"{word} wood" if whole else word)


@pytest.fixture(scope="session", params=["bm25", "dense_base", "dense", "sparse"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return fit(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture
def swapped(case: Case, tmp_path: Path) -> Path:
    """The folder of the case with another model's encoder in it."""
    other = fit(case.name, tmp_path / "other", seed=1)
    shutil.copytree(case.folder / "train", tmp_path / "mine" / "train")
    shutil.copytree(other.folder / "encoder", tmp_path / "mine" / "encoder")
    return tmp_path / "mine"
