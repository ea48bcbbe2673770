"""What every ranker promises, on examples in which one feature tells the relevant item."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from stages.core import metrics, tables
from stages.core.log import UserError
from stages.core.params import RankerName, Train
from stages.rank.rankers import Ranker, load_ranker, make_ranker
from stages.rank.rankers.base import importance_frame, learnable, matrix, scores_frame

FEATURES = ["noise", "planted", "sometimes"]
FAST = Train.model_validate(
    {
        "lightgbm": {"trees": 30, "learning_rate": 0.3, "leaves": 7, "min_leaf": 5},
        "xgboost": {"trees": 30, "learning_rate": 0.3, "depth": 3, "min_leaf": 0.1},
    }
)


def examples(groups: int, seed: int, split: str = "rank", size: int = 6) -> pl.DataFrame:
    """The relevant item of a query has the largest `planted`; `sometimes` is often unknown."""
    rng = np.random.default_rng(seed)
    rows = groups * size
    frame = pl.DataFrame(
        {
            "query_id": [f"{split}{n // size:03d}" for n in range(rows)],
            "item_id": [f"i{n % size}" for n in range(rows)],
            "user_id": pl.Series([None] * rows, dtype=pl.String),
            "split": pl.Series([split] * rows, dtype=tables.EXAMPLES.columns["split"]),
            "noise": rng.normal(size=rows),
            "planted": np.concatenate([rng.permutation(12)[:size] for _ in range(groups)]),
            "sometimes": np.where(rng.random(rows) < 0.4, np.nan, rng.normal(size=rows)),
        }
    ).with_columns(pl.col("noise", "planted", "sometimes").cast(pl.Float32))
    best = pl.col("planted") == pl.col("planted").max().over("query_id")
    unknown = pl.when(~pl.col("sometimes").is_nan()).then("sometimes")
    frame = frame.with_columns(relevance=best.cast(pl.Int8), sometimes=unknown)
    return tables.check(frame, tables.EXAMPLES)


def fitted(name: RankerName, seed: int = 3) -> Ranker:
    ranker = make_ranker(name, FAST, seed)
    ranker.fit(examples(200, 1), examples(60, 2, "valid"), FEATURES)
    return ranker


@pytest.fixture(scope="module", params=["lightgbm", "xgboost"])
def name(request: pytest.FixtureRequest) -> RankerName:
    return request.param


@pytest.fixture(scope="module")
def ranker(name: RankerName) -> Ranker:
    return fitted(name)


def test_a_planted_feature_is_learned(name: RankerName, ranker: Ranker) -> None:
    held = examples(100, 3, "test")
    scores = ranker.score(held)
    assert scores.dtype == np.float32
    ranked = scores_frame(held, scores, name)
    targets = held.filter(relevance=1).select("query_id", targets=pl.concat_list("item_id"))
    assert metrics.ranking_metrics(ranked, targets)["ndcg@5"].mean() > 0.95


def test_scores_do_not_depend_on_other_rows(ranker: Ranker) -> None:
    held = examples(5, 4, "test")
    shuffled = held.sample(fraction=1.0, shuffle=True, seed=1).with_row_index()
    whole = dict(zip(held.select("query_id", "item_id").rows(), ranker.score(held), strict=True))
    alone = [ranker.score(shuffled[n])[0] for n in range(held.height)]
    assert [whole[key] for key in shuffled.select("query_id", "item_id").rows()] == alone


def test_a_saved_ranker_gives_the_same_scores(
    name: RankerName, ranker: Ranker, tmp_path: Path
) -> None:
    held = examples(20, 5, "test")
    ranker.save(tmp_path)
    loaded = load_ranker(name, tmp_path)
    np.testing.assert_array_equal(loaded.score(held), ranker.score(held))
    again = held.select(reversed(held.columns))
    np.testing.assert_array_equal(loaded.score(again), ranker.score(held))
    assert loaded.importance().equals(ranker.importance())


def test_equal_seeds_give_equal_bytes(name: RankerName, ranker: Ranker, tmp_path: Path) -> None:
    for folder, made in (("a", ranker), ("b", fitted(name))):
        (tmp_path / folder).mkdir()
        made.save(tmp_path / folder)
    saved = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert len(saved) == 2
    for file in saved:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_the_planted_feature_is_the_most_important(ranker: Ranker) -> None:
    found = ranker.importance()
    assert found.columns == ["feature", "gain"]
    assert sorted(found["feature"]) == FEATURES
    assert found["feature"][0] == "planted"
    assert found["gain"].sum() == pytest.approx(1)
    assert found["gain"].is_sorted(descending=True)


def test_unknown_values_are_scored(ranker: Ranker) -> None:
    held = examples(3, 6, "test")
    nothing = held.with_columns(pl.lit(None, pl.Float32).alias(feature) for feature in FEATURES)
    scores = ranker.score(nothing)
    assert np.isfinite(scores).all()
    assert len(set(scores.tolist())) == 1


def test_no_rows_have_no_scores(ranker: Ranker) -> None:
    assert ranker.score(examples(1, 1).clear()).shape == (0,)


def test_a_missing_feature_is_named(ranker: Ranker) -> None:
    with pytest.raises(UserError, match=r"lack the features \['planted'\].*dvc repro examples"):
        ranker.score(examples(2, 7).drop("planted"))


@pytest.mark.parametrize("which", ["rank", "valid"])
def test_nothing_relevant_is_nothing_to_learn(name: RankerName, which: str) -> None:
    parts = {"rank": examples(5, 1), "valid": examples(5, 2, "valid")}
    parts[which] = parts[which].with_columns(relevance=pl.lit(0, pl.Int8))
    with pytest.raises(UserError, match=f"no {which} query has its target.*candidates.top_k"):
        make_ranker(name, FAST, 1).fit(parts["rank"], parts["valid"], FEATURES)


def test_queries_without_a_relevant_candidate_teach_nothing(
    name: RankerName, ranker: Ranker
) -> None:
    """They would only dilute the groups: the model is the one without them."""
    lost = examples(40, 9).with_columns(
        pl.format("x{}", "query_id").alias("query_id"), relevance=pl.lit(0, pl.Int8)
    )
    made = make_ranker(name, FAST, 3)
    made.fit(pl.concat([lost, examples(200, 1)]), examples(60, 2, "valid"), FEATURES)
    held = examples(10, 5, "test")
    np.testing.assert_array_equal(made.score(held), ranker.score(held))


def test_groups_are_sorted_and_counted() -> None:
    frame = examples(3, 1).filter(~((pl.col("query_id") == "rank001") & (pl.col("relevance") == 1)))
    grouped = learnable(frame.sample(fraction=1.0, shuffle=True, seed=3), ["planted"], "rank")
    assert grouped.sizes.tolist() == [6, 6]
    kept = frame.filter(pl.col("query_id") != "rank001")
    assert grouped.features.ravel().tolist() == kept["planted"].to_list()
    assert grouped.labels.tolist() == kept["relevance"].to_list()


def test_the_matrix_has_nan_where_nothing_is_known() -> None:
    frame = pl.DataFrame({"a": [1, None], "b": [None, 2.5]})
    found = matrix(frame, ["b", "a"])
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.array([[np.nan, 1], [2.5, np.nan]], np.float32))


def test_ranks_go_by_score_then_item_id() -> None:
    frame = pl.DataFrame(
        {"query_id": ["q", "q", "q", "p", "p"], "item_id": ["c", "a", "b", "y", "x"]}
    )
    found = scores_frame(frame, np.array([1, 1, 2, 0, 0], np.float32), "lightgbm")
    assert tables.check(found, tables.SCORES).select("query_id", "item_id", "rank").rows() == [
        ("p", "x", 1),
        ("p", "y", 2),
        ("q", "b", 1),
        ("q", "a", 2),
        ("q", "c", 3),
    ]


def test_importance_of_nothing_is_zero_not_nan() -> None:
    found = importance_frame(["b", "a"], np.zeros(2))
    assert found.rows() == [("a", 0.0), ("b", 0.0)]
