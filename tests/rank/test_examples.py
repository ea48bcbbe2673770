"""The stages examples, train and score on a small shop: labels, windows, the same bytes."""

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from stages.core import tables
from stages.rank import examples as stage
from stages.rank import score, train

START = datetime(2023, 1, 1, tzinfo=UTC)
SPLITS = ["fit"] * 40 + ["rank"] * 20 + ["valid"] * 10 + ["test"] * 10
ITEMS = [f"i{n}" for n in range(8)]


def test_labels_are_targets_and_splits_the_query_s() -> None:
    queries = pl.DataFrame(
        {
            "query_id": ["p", "q"],
            "targets": [["a", "a"], ["b", "elsewhere"]],
            "split": pl.Series(["rank", "rank"], dtype=tables.EXAMPLES.columns["split"]),
        }
    )
    rows = pl.DataFrame({"query_id": ["p", "p", "q", "q"], "item_id": ["a", "b", "a", "b"]})
    found = stage.label(rows, queries)
    assert found["relevance"].to_list() == [1, 0, 0, 1]
    assert found.schema["relevance"] == pl.Int8
    assert found["split"].to_list() == ["rank"] * 4
    assert found.select("query_id", "item_id").equals(rows)


def events() -> pl.DataFrame:
    """One review a day; the story of each names its item."""
    rng = np.random.default_rng(0)
    return pl.DataFrame(
        [
            {
                "event_id": f"e{n:02d}",
                "user_id": f"u{rng.integers(6)}",
                "item_id": ITEMS[rng.integers(len(ITEMS))],
                "timestamp": START + timedelta(days=n),
                "event": "rate",
                "value": float(rng.integers(1, 6)),
                "title": None,
                "text": "loud guitar",
                "split": split,
            }
            for n, split in enumerate(SPLITS)
        ],
        tables.SPLIT_EVENTS.columns,
    )


def write(folder: Path, shown: pl.DataFrame) -> None:
    """Write the inputs; candidates and queries are those of `events()`, whatever is shown."""
    rng = np.random.default_rng(1)
    names = tables.ITEMS.columns
    blank = dict.fromkeys(names) | {"features": [], "categories": []}
    items = pl.DataFrame([blank | {"item_id": i, "title": f"Name {i}"} for i in ITEMS], names)
    asking = events().filter(pl.col("split") != "fit")
    queries = asking.select(
        query_id="event_id",
        user_id="user_id",
        timestamp="timestamp",
        text="text",
        history=pl.lit([], tables.HISTORY),
        targets=pl.concat_list("item_id"),
        split="split",
    )
    documents = pl.DataFrame(
        [
            {"window": window, "item_id": item, "text": f"[Title] Name {item}"}
            for window in tables.WINDOWS
            for item in ITEMS
        ],
        tables.DOCUMENTS.columns,
    )
    lists = []
    for query, target in asking.select("event_id", "item_id").iter_rows():
        scores = {i: float(rng.normal() + 3 * (i == target)) for i in ITEMS}
        best = sorted(scores, key=lambda item: -scores[item])[:5]
        lists += [(query, i, rank, scores[i]) for rank, i in enumerate(best, start=1)]
    kinds = {"query_id": pl.String, "item_id": pl.String, "rank": pl.UInt32, "score": pl.Float32}
    found = pl.DataFrame(lists, kinds, orient="row").with_columns(retriever=pl.lit("bm25"))
    found = found.select(*tables.CANDIDATES.columns)
    tables.write(items, folder / "items.parquet", tables.ITEMS)
    users = pl.DataFrame(schema=tables.USERS.columns)
    tables.write(users, folder / "users.parquet", tables.USERS)
    none = pl.DataFrame(schema=tables.SPLIT_PROPERTIES.columns)
    tables.write(none, folder / "properties.parquet", tables.SPLIT_PROPERTIES)
    tables.write(shown, folder / "events.parquet", tables.SPLIT_EVENTS)
    tables.write(queries, folder / "queries.parquet", tables.QUERIES)
    tables.write(documents, folder / "documents.parquet", tables.DOCUMENTS)
    tables.write(found, folder / "candidates" / "bm25.parquet", tables.CANDIDATES)
    blended = found.with_columns(retriever=pl.lit("blend"))
    tables.write(blended, folder / "blend.parquet", tables.CANDIDATES)
    params = {
        "retrievers": ["bm25"],
        "train": {"lightgbm": {"trees": 5, "min_leaf": 2}, "xgboost": {"trees": 5}},
    }
    (folder / "params.yaml").write_text(yaml.safe_dump(params))


def run(folder: Path, shown: pl.DataFrame | None = None) -> pl.DataFrame:
    folder.mkdir(exist_ok=True)
    write(folder, events() if shown is None else shown)
    inputs = ["params.yaml", "items.parquet", "users.parquet", "properties.parquet"]
    inputs += ["events.parquet", "queries.parquet", "documents.parquet"]
    inputs += ["candidates", "blend.parquet"]
    stage.main(*(folder / name for name in [*inputs, "examples.parquet", "features"]))
    return tables.read(folder / "examples.parquet", tables.EXAMPLES)


def later(split: str) -> pl.DataFrame:
    """The events with twenty more reviews of every item in one split."""
    more = pl.concat([events().filter(split=split).head(1)] * 20)
    more = more.with_columns(
        pl.format("x{}", pl.int_range(pl.len())).alias("event_id"),
        pl.Series("item_id", (ITEMS * 3)[:20]),
    )
    return pl.concat([events(), more])


def of(found: pl.DataFrame, *splits: str) -> pl.DataFrame:
    return found.filter(pl.col("split").is_in(splits))


def test_examples_are_the_blend_labelled_and_described(tmp_path: Path) -> None:
    found = run(tmp_path)
    assert found.height == 40 * 5
    assert found["split"].unique(maintain_order=True).to_list() == ["rank", "valid", "test"]
    hits = found.filter(relevance=1).select("query_id", "item_id")
    asked = events().select(query_id="event_id", item_id="item_id")
    expected = found.select("query_id", "item_id").join(asked, on=["query_id", "item_id"])
    assert hits.sort("query_id").equals(expected.sort("query_id"))
    assert hits.height > 20
    assert "relevance" not in tables.feature_names(found)


def test_what_comes_after_a_window_changes_nothing_in_it(tmp_path: Path) -> None:
    first = run(tmp_path / "a")
    for split in ("valid", "test"):
        assert run(tmp_path / "b", later(split)).equals(first)
    moved = run(tmp_path / "c", later("rank"))
    assert of(moved, "rank").equals(of(first, "rank"))
    assert not of(moved, "valid").equals(of(first, "valid"))
    assert not of(run(tmp_path / "d", later("fit")), "rank").equals(of(first, "rank"))


@pytest.mark.parametrize("ranker", ["lightgbm", "xgboost"])
def test_examples_to_scores_twice_the_same(ranker: str, tmp_path: Path) -> None:
    digests = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        found = run(folder)
        train.main(ranker, folder / "params.yaml", folder / "examples.parquet", folder / "rankers")
        score.main(ranker, folder / "examples.parquet", folder / "rankers", folder / "scores")
        written = [folder / "examples.parquet", folder / "scores" / f"{ranker}.parquet"]
        written += sorted((folder / "rankers" / ranker).iterdir())
        digests.append([hashlib.sha256(path.read_bytes()).hexdigest() for path in written])
        scores = tables.read(folder / "scores" / f"{ranker}.parquet", tables.SCORES)
        held = of(found, "valid", "test").select("query_id", "item_id")
        assert scores.select("query_id", "item_id").equals(held)
    assert digests[0] == digests[1]
    importance = pl.read_csv(tmp_path / "a" / "rankers" / ranker / "importance.csv")
    assert importance["gain"].sum() == pytest.approx(1, abs=1e-4)
