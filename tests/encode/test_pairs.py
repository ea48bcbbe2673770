"""The stage pairs, whole: from window fit alone, with its counts."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from stages.core import tables
from stages.core.params import Documents
from stages.core.storage import read_json
from stages.encode import pairs as stage
from stages.enrich.documents import compose_windows
from tests.encode.tiny_models import WORDS, described, settings

START = datetime(2023, 1, 1, tzinfo=UTC)
SPLITS = ["fit"] * 12 + ["rank", "rank", "valid", "test"]


def shop() -> dict[str, pl.DataFrame]:
    """Sixteen reviews of four items by six users; the first of them names its item's title."""
    names = tables.ITEMS.columns
    items = [
        dict.fromkeys(names)
        | {"item_id": f"i{n}", "title": WORDS[n], "features": [], "categories": []}
        for n in range(4)
    ]
    events, keywords = [], []
    for n, split in enumerate(SPLITS):
        item = n % 4
        said = f"my {WORDS[10 + n % 8]} is loud in story s{n:02d}"
        events.append(
            {
                "event_id": f"e{n:02d}",
                "user_id": f"u{n % 6}",
                "item_id": f"i{item}",
                "timestamp": START + timedelta(days=n),
                "event": "rate",
                "value": 5.0,
                "title": None,
                "text": f"{said}, a {WORDS[item]}" if n == 0 else said,
                "split": split,
            }
        )
        keywords.append(
            {
                "event_id": f"e{n:02d}",
                "item_id": f"i{item}",
                "keywords": [WORDS[10 + n % 8], f"key{n:02d}"],
                "backend": "yake",
                "prompt_hash": "h",
                "status": "ok",
                "reason": None,
            }
        )
    made = {
        "items": pl.DataFrame(items, names),
        "events": pl.DataFrame(events, tables.SPLIT_EVENTS.columns),
        "keywords": pl.DataFrame(keywords, tables.KEYWORDS.columns),
        "summaries": pl.DataFrame(schema=tables.SUMMARIES.columns),
    }
    documents = compose_windows(*made.values(), Documents(reviews=1))
    return made | {"documents": documents}


def run(folder: Path, static: Path, **options: Any) -> tuple[pl.DataFrame, dict[str, int]]:
    kinds = {
        "items": tables.ITEMS,
        "events": tables.SPLIT_EVENTS,
        "keywords": tables.KEYWORDS,
        "summaries": tables.SUMMARIES,
        "documents": tables.DOCUMENTS,
    }
    for name, frame in shop().items():
        tables.write(frame, folder / f"{name}.parquet", kinds[name])
    params = settings(static)
    described(folder / "base", params)
    chosen = {
        "encoder": params.model_dump(mode="json"),
        "documents": {"reviews": 1},
        "pairs": options,
    }
    (folder / "params.yaml").write_text(yaml.safe_dump(chosen))
    none = pl.DataFrame(schema=tables.SPLIT_PROPERTIES.columns)
    tables.write(none, folder / "properties.parquet", tables.SPLIT_PROPERTIES)
    first, *rest = (folder / f"{name}.parquet" for name in kinds)
    inputs = [first, folder / "properties.parquet", *rest]
    outputs = [folder / "pairs.parquet", folder / "metrics.json", folder / "vectors.sqlite"]
    stage.main(folder / "params.yaml", *inputs, folder / "base", *outputs)
    made = tables.read(folder / "pairs.parquet", tables.PAIRS)
    return made, read_json(folder / "metrics.json")


def test_pairs_of_window_fit(static: Path, tmp_path: Path) -> None:
    found, counts = run(tmp_path, static)
    assert found["event_id"].to_list() == [f"e{n:02d}" for n in range(12)]
    assert counts == {
        "asked": 12,
        "masked": 1,
        "dropped": 0,
        "without_document": 0,
        "pairs": 12,
    }
    assert found["query"][0] == f"my {WORDS[10]} is loud in story s00 a"
    # Nothing later than the window, and nothing of its own.
    for n, positive in enumerate(found["positive"]):
        later = [f"s{m:02d}" for m in range(12, 16)] + [f"key{m:02d}" for m in range(12, 16)]
        assert not any(word in positive for word in [*later, f"s{n:02d}", f"key{n:02d}"])
    assert found["negatives"].list.len().sum() == 0


@pytest.mark.parametrize(
    ("query_type", "count"), [("keywords", 12), ("review_text", 12), ("both", 24)]
)
def test_what_asks(query_type: str, count: int, static: Path, tmp_path: Path) -> None:
    found, _ = run(tmp_path, static, query_type=query_type)
    assert found.height == count
    assert found["pair_id"].is_unique().all()


def test_the_newest_are_kept(static: Path, tmp_path: Path) -> None:
    found, counts = run(tmp_path, static, max_pairs=3)
    assert found["event_id"].to_list() == ["e09", "e10", "e11"]
    assert counts["asked"] == 12


def test_triplets_have_negatives_that_the_user_did_not_choose(static: Path, tmp_path: Path) -> None:
    found, counts = run(tmp_path, static, format="triplet", margin=0.01)
    chosen = {"u0": {0, 2}, "u1": {1, 3}, "u2": {2, 0}, "u3": {3, 1}, "u4": {0, 2}, "u5": {1, 3}}
    assert 0 < found.height == 12 - counts["without_negatives"] == counts["pairs"]
    documents = shop()["documents"].filter(window="fit")
    lines = dict(documents.select("item_id", "text").iter_rows())
    for user, ids, texts in found.select("user_id", "negative_ids", "negatives").iter_rows():
        assert len(ids) == len(texts) == 1
        assert int(ids[0][1:]) not in chosen[user]
        assert texts[0] in lines[ids[0]].split("\n")
