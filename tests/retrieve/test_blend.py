"""The stage blend: weights by what is right on valid, and nothing of test in them."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from stages.core import metrics, tables
from stages.core.params import Blend
from stages.retrieve import blend
from stages.retrieve.blending.fusion import Fusion
from tests.retrieve.blending.test_fusion import candidates

SPLITS = {"v": "valid", "t": "test"}


def queries(count: int = 30) -> pl.DataFrame:
    """Queries v00, v01, ... of valid and t00, ... of test; item i00 answers v00 and t00."""
    return pl.DataFrame(
        [
            {
                "query_id": f"{letter}{n:02d}",
                "user_id": None,
                "timestamp": datetime(2023, 1, 1, tzinfo=UTC),
                "text": "?",
                "history": [],
                "targets": [f"i{n:02d}"],
                "split": split,
            }
            for letter, split in SPLITS.items()
            for n in range(count)
        ],
        tables.QUERIES.columns,
    )


def lists(skill: dict[str, float], seed: int = 0) -> dict[str, dict[str, float]]:
    """Ten items a query, the right one among them; it stands out as far as the split's skill."""
    rng = np.random.default_rng(seed)
    made: dict[str, dict[str, float]] = {}
    for query, targets in queries().select("query_id", "targets").iter_rows():
        others = [f"o{n}" for n in rng.permutation(40)[:9]]
        made[query] = dict(zip(others, rng.normal(size=9), strict=True))
        made[query][targets[0]] = float(rng.normal() + skill[query[0]])
    return made


def chosen(
    mine: pl.DataFrame, valid: pl.DataFrame, names: list[str], params: Blend
) -> tuple[Fusion, float]:
    parts = blend.evenly(names, params).contributions(mine)
    return blend.choose(parts, valid, names, params)


RIGHT, NOISE = lists({"v": 9, "t": 0}), lists({"v": 0, "t": 9}, seed=1)


@pytest.mark.parametrize("method", ["rrf", "weighted"])
def test_the_retriever_that_is_right_outweighs_noise(method: str) -> None:
    params = Blend.model_validate({"method": method})
    mine = candidates({"right": RIGHT, "noise": NOISE})
    valid = queries().filter(split="valid")
    fusion, figure = chosen(mine, valid, ["noise", "right"], params)
    assert fusion.weights["right"] > 0.5
    ranked = metrics.ranking_metrics(fusion.blend(mine, 100), valid, [10])
    assert figure == pytest.approx(ranked["ndcg@10"].mean(), abs=1e-9)
    even = Fusion(fusion.method, {"noise": 0.5, "right": 0.5}).blend(mine, 100)
    assert figure > metrics.ranking_metrics(even, valid, [10])["ndcg@10"].mean()


def test_among_equals_the_most_even_weights() -> None:
    same = candidates({"x": RIGHT, "y": RIGHT, "z": RIGHT})
    valid = queries().filter(split="valid")
    fusion, _ = chosen(same, valid, ["x", "y", "z"], Blend(grid=6))
    assert list(fusion.weights.values()) == pytest.approx([1 / 3] * 3, abs=1e-6)


def test_without_valid_queries_weights_are_even() -> None:
    none = queries().clear()
    fusion, figure = chosen(candidates({"x": RIGHT}), none, ["x", "y"], Blend())
    assert fusion.weights == {"x": 0.5, "y": 0.5}
    assert np.isnan(figure)


@pytest.mark.parametrize("method", ["rrf", "weighted", "interleave"])
@pytest.mark.parametrize("split", ["test", "none"])
def test_a_retriever_that_answers_no_valid_query_weighs_nothing(method: str, split: str) -> None:
    answered = {query: found for query, found in RIGHT.items() if SPLITS[query[0]] == split}
    mine = candidates({"mute": answered, "right": RIGHT, "same": RIGHT})
    valid = queries().filter(split="valid")
    params = Blend.model_validate({"method": method, "grid": 2})
    fusion, _ = chosen(mine, valid, ["mute", "right", "same"], params)
    assert fusion.weights == {"mute": 0.0, "right": 0.5, "same": 0.5}


def test_where_none_answers_weights_are_even() -> None:
    valid = queries().filter(split="valid")
    fusion, figure = chosen(candidates({"x": {}}), valid, ["x", "y"], Blend(grid=2))
    assert (fusion.weights, figure) == ({"x": 0.5, "y": 0.5}, 0.0)


def test_a_target_named_twice_counts_once() -> None:
    mine = candidates({"right": RIGHT})
    valid = queries().filter(split="valid")
    twice = valid.with_columns(targets=pl.concat_list("targets", "targets"))
    once = chosen(mine, valid, ["right"], Blend())
    assert chosen(mine, twice, ["right"], Blend()) == once


def test_the_stage_joins_every_split_with_weights_of_valid(tmp_path: Path) -> None:
    params = {"retrievers": ["bm25", "dense"], "candidates": {"top_k": 12}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    tables.write(queries(), tmp_path / "queries.parquet", tables.QUERIES)
    for name, mine in (("bm25", RIGHT), ("dense", NOISE)):
        frame = candidates({name: mine})
        tables.write(frame, tmp_path / "candidates" / f"{name}.parquet", tables.CANDIDATES)
    names = ["params.yaml", "queries.parquet", "candidates", "blend.parquet", "blend.json"]
    blend.main(*(tmp_path / name for name in names))

    fusion = Fusion.load(tmp_path / "blend.json")
    assert fusion.weights["bm25"] > 0.5  # dense would be right on test
    found = tables.read(tmp_path / "blend.parquet", tables.CANDIDATES)
    assert found["query_id"].n_unique() == 60
    assert found["rank"].max() == 12
    every = pl.concat([candidates({"bm25": RIGHT}), candidates({"dense": NOISE})])
    assert found.sort("query_id", "item_id").equals(
        fusion.blend(every, 12).sort("query_id", "item_id")
    )
