"""One fitted retriever of each kind, in a small shop where the right answers are known.

Every document has a word of its own; whoever chose the companion of an item then chose it; and a
companion's vector is near its item's. Each retriever stands there twice: the second time another
shop, the same but busier, is beside this one, and who asks is of this one.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import get_args

import numpy as np
import polars as pl
import pytest

from stages.core import tables
from stages.core.params import READS_HISTORY, Content, Encoder, Fit, RetrieverName
from stages.encode.embed import embeddings_frame
from stages.encode.encoders import CachedEncoder
from stages.retrieve.retrievers import (
    Parts,
    Retriever,
    TrainingData,
    load_retriever,
    make_retriever,
)
from tests.encode import tiny_models

os.environ["HF_HUB_OFFLINE"] = "1"

OWN = tiny_models.WORDS[:12]
TEXTS = {f"i{n:02d}": f"{word} wood" for n, word in enumerate(OWN)}
# Two items, far apart by id, that read the same.
TWINS = ("a-twin", "z-twin")
TEXTS |= dict.fromkeys(TWINS, "pedal metal")
TWINS_ASKED = "pedal metal"
"""The words that both twins hold; as a shopper, who has chosen what goes with both."""
COMPANIONS = {word: f"c{n:02d}" for n, word in enumerate(OWN)}
"""The item that was chosen before the one of that word."""
START = datetime(2023, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def documents() -> pl.DataFrame:
    return pl.DataFrame({"item_id": list(TEXTS), "text": list(TEXTS.values())}).sort("item_id")


def events() -> pl.DataFrame:
    """Three users for each word chose the companion, then the item; three chose both twins."""
    baskets = [([COMPANIONS[word]], [f"i{n:02d}"]) for n, word in enumerate(OWN)]
    baskets.append((["c-twin"], list(TWINS)))
    rows = [
        {
            "user_id": f"u{n}-{place}",
            "item_id": item,
            "timestamp": START + timedelta(days=day),
            "event": "purchase",
        }
        for place, both in enumerate(baskets)
        for n in range(3)
        for day, basket in enumerate(both)
        for item in basket
    ]
    return pl.DataFrame(rows, {name: tables.EVENTS.columns[name] for name in rows[0]})


def vectors() -> pl.DataFrame:
    """A direction for each item, which its companion shares, and one for each companion alone."""
    goes_with = {item: f"i{n:02d}" for n, item in enumerate(COMPANIONS.values())}
    goes_with["c-twin"] = "twins"
    directions = {name: n for n, name in enumerate([*goes_with.values(), *goes_with])}
    frame = {}
    for item in sorted([*TEXTS, *goes_with]):
        vector = np.zeros(len(directions), np.float32)
        if item in goes_with:
            vector[[directions[goes_with[item]], directions[item]]] = 0.8, 0.6
        else:
            vector[directions["twins" if item in TWINS else item]] = 1
        frame[item] = vector
    kind = pl.Array(pl.Float32, len(directions))
    return pl.DataFrame(
        {
            "window": pl.repeat("train", len(frame), dtype=pl.String, eager=True),
            "item_id": list(frame),
            "vector": pl.Series(list(frame.values()), dtype=kind),
            "model_hash": pl.repeat("made by hand", len(frame), eager=True),
        },
        schema_overrides={"window": tables.EMBEDDINGS.columns["window"]},
    )


def items() -> pl.DataFrame:
    """The catalogue: an item and its companion are of one brand, the twins and theirs of another.

    What was chosen first is a case, what followed is not; the twins are told apart by nothing.
    """
    brands = {f"i{n:02d}": word for n, word in enumerate(OWN)}
    brands |= {item: word for word, item in COMPANIONS.items()}
    brands |= dict.fromkeys([*TWINS, "c-twin"], TWINS_ASKED)
    blank = dict.fromkeys(tables.ITEMS.columns) | {"features": []}
    rows = [
        blank
        | {"item_id": item, "brand": brand, "categories": ["case" if item[0] == "c" else "tool"]}
        for item, brand in sorted(brands.items())
    ]
    return pl.DataFrame(rows, tables.ITEMS.columns)


def queries(
    texts: Sequence[str | None], histories: Sequence[Sequence[str]] | None = None
) -> pl.DataFrame:
    """Queries of nobody known, with words, or with what was chosen, all at one moment."""
    now = START + timedelta(days=30)
    rows = [
        {
            "query_id": f"q{n:02d}",
            "user_id": None,
            "timestamp": now,
            "text": text,
            "history": [
                {"item_id": item, "timestamp": now - timedelta(days=1)}
                for item in (histories[n] if histories else [])
            ],
            "targets": [],
            "split": "test",
        }
        for n, text in enumerate(texts)
    ]
    return pl.DataFrame(rows, tables.QUERIES.columns)


def shoppers(words: Sequence[str | None]) -> pl.DataFrame:
    """Who asks without words: they have chosen what goes with the items that hold the words."""
    past = {TWINS_ASKED: ["c-twin"]} | {word: [item] for word, item in COMPANIONS.items()}
    every = list(COMPANIONS.values())
    histories = [[] if word is None else past.get(word, every) for word in words]
    return queries([None] * len(words), histories)


OTHER = "other-"
"""Before the ids of the other shop."""
USER = "u0-0"
"""Somebody of this shop."""


def beside(data: TrainingData, busier: int = 5) -> TrainingData:
    """The same shop once more, with ids of its own and so many times as many events, years later.

    Items and users of both name their shop in the column `part`.
    """

    def renamed(frame: pl.DataFrame) -> pl.DataFrame:
        ids = [name for name in ("user_id", "item_id") if name in frame.columns]
        return frame.with_columns(pl.concat_str(pl.lit(OTHER), name).alias(name) for name in ids)

    def both(frame: pl.DataFrame | None, named: bool = False) -> pl.DataFrame | None:
        if frame is None:
            return None
        pair = [frame, renamed(frame)]
        if named:
            pair = [
                own.with_columns(part=pl.lit(part)) for own, part in zip(pair, "ab", strict=True)
            ]
        return pl.concat(pair).sort("item_id")

    assert data.events is not None
    late = [
        renamed(data.events).with_columns(pl.col("timestamp") + timedelta(days=1000, minutes=n))
        for n in range(busier)
    ]
    events = pl.concat([data.events, *late])
    users = events.select("user_id").unique().sort("user_id")
    is_other = pl.col("user_id").str.starts_with(OTHER)
    users = users.with_columns(part=pl.when(is_other).then(pl.lit("b")).otherwise(pl.lit("a")))
    documents = both(data.documents)
    assert documents is not None
    return replace(
        data,
        documents=documents,
        embeddings=both(data.embeddings),
        events=events,
        items=both(data.items, named=True),
        users=users,
    )


def parts_of(data: TrainingData) -> Parts:
    assert data.items is not None
    assert data.users is not None
    parts = Parts.of(data.items, data.users)
    assert parts is not None
    return parts


@dataclass(frozen=True)
class Case:
    """A retriever, fitted, saved as the stage `fit` saves it.

    `ask` makes of items' own words the queries that only these items answer best: the word, where
    words are what is compared, the item's whole text for an encoder that knows no words, and the
    item's companion as the history where behaviour is what is known. None asks nothing.
    """

    name: RetrieverName
    fitted: Retriever
    folder: Path
    ask: Callable[[Sequence[str | None]], pl.DataFrame]

    def load(self, store: Path | None = None) -> Retriever:
        return load_retriever(self.name, self.folder / "train", store)


def settings_of(name: str, folder: Path, seed: int) -> Encoder | None:
    if name == "dense_base":
        return tiny_models.settings(tiny_models.static(folder, rotation=seed))
    if name == "dense":
        return tiny_models.settings(tiny_models.bert(folder, seed=seed))
    if name == "sparse":
        return tiny_models.settings(tiny_models.bge_m3(folder, seed=seed), kind="bge_m3")
    if name == "multi_vector":
        model = tiny_models.bge_m3(folder, seed=seed)
        return tiny_models.settings(model, kind="bge_m3", multi_vector=True)
    return None


def fit(
    name: RetrieverName,
    folder: Path,
    seed: int = 0,
    in_parts: bool = False,
    params: Fit | None = None,
) -> Case:
    model = settings_of(name, folder / "model", seed)
    (folder / "train").mkdir(parents=True)
    known = vectors() if name == "content" else None
    data = TrainingData(documents(), known, events=events(), items=items())
    if in_parts:
        data = beside(data)
    if model is not None:
        tiny_models.described(folder / "encoder", model)
        encoder = CachedEncoder(folder / "encoder")
        encoded = encoder.encode_documents(data.documents["text"].to_list(), multi=True)
        keyed = data.documents.with_columns(
            window=pl.lit("train").cast(tables.EMBEDDINGS.columns["window"])
        )
        frame = embeddings_frame(keyed, encoded, encoder.model.model_hash)
        data = replace(data, embeddings=frame, encoder=encoder)
    parts = parts_of(data) if in_parts else None
    made = make_retriever(name, params or Fit(), parts=parts)
    made.fit(data)
    made.save(folder / "train")
    ask = whole_texts if name == "dense" else shoppers if name in READS_HISTORY else queries
    if parts is None:
        return Case(name, made, folder, ask)
    parts.save(folder / "parts")
    return Case(name, made, folder, lambda words: ask(words).with_columns(user_id=pl.lit(USER)))


def whole_texts(words: Sequence[str | None]) -> pl.DataFrame:
    """Queries with the whole texts of the items that hold the words."""
    return queries([f"{word} wood" if word in OWN else word for word in words])


EVERY = get_args(RetrieverName)
IN_PARTS = "-in-parts"


BY_CHROMA = "-by-chroma"


def twice(names: Sequence[str]) -> list[str]:
    """Parameters of `case`: each retriever alone, and of a shop of parts; content by Chroma too."""
    kinds = [*names, *(name + BY_CHROMA for name in names if name == "content")]
    return [*kinds, *(kind + IN_PARTS for kind in kinds)]


@pytest.fixture(scope="session", params=twice(EVERY))
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    kind = request.param.removesuffix(IN_PARTS)
    name = kind.removesuffix(BY_CHROMA)
    params = Fit(content=Content(index="chroma")) if kind != name else None
    in_parts = kind != request.param
    return fit(name, tmp_path_factory.mktemp(name), in_parts=in_parts, params=params)


@pytest.fixture
def swapped(case: Case, tmp_path: Path) -> Path:
    """The folder of the case with another model's encoder in it."""
    other = fit(case.name, tmp_path / "other", seed=1)
    for name in {"train", "parts"} & {path.name for path in case.folder.iterdir()}:
        shutil.copytree(case.folder / name, tmp_path / "mine" / name)
    shutil.copytree(other.folder / "encoder", tmp_path / "mine" / "encoder")
    return tmp_path / "mine"
