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
    fusion, ndcg, _ = blend.choose(parts, valid, names, params, depth=100)
    return fusion, ndcg


RIGHT, NOISE = lists({"v": 9, "t": 0}), lists({"v": 0, "t": 9}, seed=1)


@pytest.mark.parametrize("method", ["rrf", "weighted"])
def test_the_retriever_that_is_right_outweighs_noise(method: str) -> None:
    params = Blend.model_validate({"method": method})
    mine = candidates({"right": RIGHT, "noise": NOISE})
    valid = queries().filter(split="valid")
    fusion, figure = chosen(mine, valid, ["noise", "right"], params)
    assert fusion.weights["right"] > 0.5
    judged = metrics.ranking_metrics(fusion.blend(mine, 100), valid, [10])
    assert figure == pytest.approx(judged["ndcg@10"].mean(), abs=1e-9)
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
    assert fusion.origin == "even"
    assert np.isnan(figure)


def ranked(fusion: Fusion, mine: pl.DataFrame, query: str) -> list[str]:
    return fusion.blend(mine, 20).filter(query_id=query).sort("rank")["item_id"].to_list()


@pytest.mark.parametrize("method", ["rrf", "weighted", "interleave"])
def test_weights_that_are_set_are_not_tuned(method: str) -> None:
    mine = candidates({"right": RIGHT, "noise": NOISE, "mute": {}})
    valid = queries().filter(split="valid")
    weights = {"right": 0.2, "noise": 0.5, "mute": 0.3}
    params = Blend.model_validate({"method": method, "weights": weights})
    fusion, figure = chosen(mine, valid, list(weights), params)
    assert fusion == Fusion(params.method, weights, origin="set")
    judged = metrics.ranking_metrics(fusion.blend(mine, 100), valid, [10])
    assert figure == pytest.approx(judged["ndcg@10"].mean(), abs=1e-9)
    tuned, best = chosen(mine, valid, list(weights), params.model_copy(update={"weights": None}))
    assert tuned.origin == "tuned"
    assert best > figure
    unasked, none = chosen(mine, valid.clear(), list(weights), params)
    assert unasked == fusion
    assert np.isnan(none)


@pytest.mark.parametrize("method", ["rrf", "weighted", "interleave"])
@pytest.mark.parametrize("scale", [1e-3, 3, 100])
def test_of_weights_the_proportions_count(method: str, scale: float) -> None:
    """At any scale, one of 0 decides no more than what the others leave equal."""
    mine = candidates({"right": RIGHT, "noise": NOISE, "same": RIGHT})
    valid = queries().filter(split="valid")
    shares = {"noise": 0.0, "right": 0.6, "same": 0.4}
    scaled = {name: scale * share for name, share in shares.items()}
    params = Blend.model_validate({"method": method, "weights": scaled})
    fusion, _ = chosen(mine, valid, list(shares), params)
    assert fusion == Fusion(params.method, shares, origin="set")


def test_tuning_may_give_a_list_no_turn_and_weights_that_are_set_give_it_one() -> None:
    mine = candidates({"right": RIGHT, "noise": NOISE})
    valid = queries().filter(split="valid")
    first = sorted(NOISE["v00"], key=lambda item: -NOISE["v00"][item])
    params = Blend(method="interleave", grid=2)
    tuned, _ = chosen(mine, valid, ["noise", "right"], params)
    assert tuned.weights == {"noise": 0.0, "right": 1.0}
    alone = sorted(RIGHT["v00"], key=lambda item: -RIGHT["v00"][item])
    assert ranked(tuned, mine, "v00")[:10] == alone  # and then the other list
    even = params.model_copy(update={"weights": {"noise": 1.0, "right": 1.0}})
    fusion, _ = chosen(mine, valid, ["noise", "right"], even)
    assert ranked(fusion, mine, "v00")[:2] == [first[0], alone[0]]


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


def narrow_and_wide() -> tuple[pl.DataFrame, pl.DataFrame]:
    """One list is right at once for a third of valid, the other for all, but late."""
    targets = {f"v{n:02d}": f"i{n:02d}" for n in range(30)}
    narrow, wide = {}, {}
    for n, (query, target) in enumerate(targets.items()):
        first = target if n % 3 == 0 else "a"
        narrow[query] = {first: 90.0} | {f"n{place:02d}": 60.0 - place for place in range(50)}
        wide[query] = {f"w{place:02d}": 30.0 - place for place in range(24)}
        wide[query] |= {target: 2.0, "z": 1.0}
    return candidates({"narrow": narrow, "wide": wide}), queries().filter(split="valid")


@pytest.mark.parametrize("method", ["rrf", "weighted", "interleave"])
def test_a_tail_finds_what_the_head_does_not(method: str) -> None:
    mine, valid = narrow_and_wide()
    params = Blend.model_validate({"method": method, "grid": 2, "head": 10})
    parts = blend.evenly(["narrow", "wide"], params).contributions(mine)

    def chosen_with(head: int | None) -> tuple[Fusion, float, float]:
        asked = params.model_copy(update={"head": head})
        fusion, ndcg, recall = blend.choose(parts, valid, ["narrow", "wide"], asked, depth=35)
        blended = fusion.blend(mine, 35)
        judged = metrics.ranking_metrics(blended, valid, [10])["ndcg@10"].mean()
        assert ndcg == pytest.approx(judged, abs=1e-9)
        listed = metrics.retrieval_metrics(blended, valid, [35])["recall@35"].mean()
        assert recall == pytest.approx(listed, abs=1e-9)
        return fusion, ndcg, recall

    whole, ndcg, recall = chosen_with(None)
    assert whole.tail is None
    headed, its_ndcg, its_recall = chosen_with(10)
    assert (headed.weights, its_ndcg) == (whole.weights, ndcg)
    assert headed.head == 10
    assert headed.tail is not None
    assert headed.tail["wide"] > headed.weights["wide"]
    assert (recall, its_recall) == (pytest.approx(1 / 3), 1.0)


def test_there_is_no_tail_where_one_list_is_best_and_widest() -> None:
    mine = candidates({"right": RIGHT, "noise": NOISE})
    fusion, _ = chosen(mine, queries().filter(split="valid"), ["noise", "right"], Blend())
    assert fusion.tail is None


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


@pytest.mark.parametrize("method", ["rrf", "weighted", "interleave"])
def test_the_stage_joins_by_weights_that_are_set(method: str, tmp_path: Path) -> None:
    """Thirds have no end in decimals: the table is joined by what the file holds of them."""
    weights = {"bm25": 1 / 3, "dense": 2 / 3}
    params = {
        "retrievers": list(weights),
        "candidates": {"top_k": 12},
        "blend": {"method": method, "weights": weights},
    }
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    tables.write(queries(), tmp_path / "queries.parquet", tables.QUERIES)
    every = []
    for name, mine in (("bm25", RIGHT), ("dense", NOISE)):
        every.append(candidates({name: mine}))
        tables.write(every[-1], tmp_path / "candidates" / f"{name}.parquet", tables.CANDIDATES)
    names = ["params.yaml", "queries.parquet", "candidates", "blend.parquet", "blend.json"]
    blend.main(*(tmp_path / name for name in names))
    fusion = Fusion.load(tmp_path / "blend.json")
    assert (fusion.origin, fusion.weights) == ("set", {"bm25": 0.333333, "dense": 0.666667})
    found = tables.read(tmp_path / "blend.parquet", tables.CANDIDATES)
    again = fusion.blend(pl.concat(every), 12)
    assert found.sort("query_id", "item_id").equals(again.sort("query_id", "item_id"))
