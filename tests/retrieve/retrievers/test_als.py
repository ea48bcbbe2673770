"""ALS: a checkerboard, and folding in by its formula."""

from datetime import timedelta
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.core.log import UserError
from stages.core.params import Als
from stages.core.tables import EVENTS
from stages.retrieve.retrievers import TrainingData
from stages.retrieve.retrievers.als import AlsRetriever
from stages.retrieve.retrievers.choices import choices
from tests.retrieve.conftest import START, queries


def events(rows: list[tuple[str, str]], event: str = "purchase") -> pl.DataFrame:
    made = [(user, item, START + timedelta(days=n), event) for n, (user, item) in enumerate(rows)]
    names = ("user_id", "item_id", "timestamp", "event")
    return pl.DataFrame(made, {name: EVENTS.columns[name] for name in names}, orient="row")


def checkerboard(side: int = 20) -> list[tuple[str, str]]:
    """Users of even number chose even items, the others odd ones; nobody the one of their number.

    As in the tests of `implicit`.
    """
    return [
        (f"u{user:02d}", f"i{item:02d}")
        for user in range(side)
        for item in range(user % 2, side, 2)
        if item != user
    ]


def test_the_withheld_item_of_a_checkerboard_comes_first() -> None:
    made = AlsRetriever(Als(factors=2, regularization=0.01), seed=3)
    made.fit(TrainingData(pl.DataFrame(), events=events(checkerboard())))
    past = [[item for u, item in checkerboard() if u == f"u{user:02d}"] for user in range(20)]
    found = made.retrieve(queries([None] * 20, past), 1)
    assert found["item_id"].to_list() == [f"i{user:02d}" for user in range(20)]


def test_someone_new_with_half_a_row_gets_the_rest_of_it() -> None:
    made = AlsRetriever(Als(factors=2, regularization=0.01), seed=3)
    made.fit(TrainingData(pl.DataFrame(), events=events(checkerboard())))
    half = [f"i{n:02d}" for n in range(0, 10, 2)]
    found = made.retrieve(queries([None], [half]), 5)
    assert sorted(found["item_id"]) == [f"i{n:02d}" for n in range(10, 20, 2)]
    again = AlsRetriever(Als(factors=2, regularization=0.01, repeat=True), seed=3)
    again.fit(TrainingData(pl.DataFrame(), events=events(checkerboard())))
    found = again.retrieve(queries([None], [half]), 10)
    assert sorted(found["item_id"]) == [f"i{n:02d}" for n in range(0, 20, 2)]


def test_folding_in_is_the_minimum_of_the_papers_loss(tmp_path: Path) -> None:
    params = Als(factors=3, alpha=2.0, regularization=0.5)
    made = AlsRetriever(params, seed=1)
    made.fit(TrainingData(pl.DataFrame(), events=events(checkerboard(8))))
    made.save(tmp_path)
    factors = np.load(tmp_path / "factors.npy").astype(np.float64)
    ids = pl.read_parquet(tmp_path / "items.parquet")["item_id"].to_list()
    past = ["i00", "i04", "i05"]
    found = made.retrieve(queries([None], [past]), 8)
    # Every event is a purchase of weight 5, so that a choice of the history weighs as much.
    chosen = np.isin(ids, past)
    confidence = np.where(chosen, 1 + params.alpha * 5, 1.0)
    weighted = factors * confidence[:, None]
    user = np.linalg.solve(weighted.T @ factors + 0.5 * np.eye(3), weighted.T @ chosen)
    expected = {name: score for name, score in zip(ids, factors @ user, strict=True)}
    for item, score in zip(found["item_id"], found["score"], strict=True):
        assert score == pytest.approx(expected[item], abs=1e-5)
    assert set(found["item_id"]) == set(ids) - set(past)


def test_what_says_nothing_is_left_out() -> None:
    made = AlsRetriever(Als.model_validate({"factors": 2, "weights": {"view": 0}}))
    seen = events([("u00", "only-seen"), ("u01", "only-seen")], "view")
    made.fit(TrainingData(pl.DataFrame(), events=pl.concat([events(checkerboard(6)), seen])))
    found = made.retrieve(queries([None], [["i00"]]), 10)
    assert "only-seen" not in found["item_id"]
    assert made.retrieve(queries([None], [["only-seen"]]), 10).is_empty()


def test_the_same_seed_gives_the_same_factors(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        made = AlsRetriever(Als(factors=5), seed=seed)
        made.fit(TrainingData(pl.DataFrame(), events=events(checkerboard())))
        (tmp_path / name).mkdir()
        made.save(tmp_path / name)
    a, b, c = ((tmp_path / name / "factors.npy").read_bytes() for name in ("a", "b", "c"))
    assert a == b
    assert a != c


def test_without_events_it_says_so() -> None:
    with pytest.raises(UserError, match="als needs events"):
        AlsRetriever(Als()).fit(TrainingData(pl.DataFrame()))


@pytest.mark.parametrize("backend", ["implicit", "spark"])
def test_folding_in_solves_the_backends_problem(backend: Literal["implicit", "spark"]) -> None:
    rng = np.random.default_rng(2)
    params = Als(backend=backend, alpha=1.5, regularization=0.7)
    factors = rng.normal(size=(6, 3)).astype(np.float32)
    ids = pl.Series([f"i{n}" for n in range(6)])
    made = AlsRetriever.of_factors(params, ids, factors, 1.0)
    found = made.fold_in(np.array([4, 4, 4, 9]), np.array([0, 2, 5, 3]), np.array([1, 2, 0.5, 3]))
    for row, (items, weights) in enumerate([([0, 2, 5], [1, 2, 0.5]), ([3], [3])]):
        chosen = np.zeros(6)
        chosen[items] = 1
        confidence = np.ones(6)
        confidence[items] += 1.5 * np.array(weights)
        penalty = 0.7 * (len(items) if backend == "spark" else 1)
        left = (factors.T * confidence) @ factors + penalty * np.eye(3)
        expected = np.linalg.solve(left, (factors.T * confidence) @ chosen)
        assert found[row] == pytest.approx(expected, abs=1e-5)


@given(st.lists(st.lists(st.integers(0, 5), min_size=1, unique=True), min_size=1, max_size=40))
def test_folding_in_does_not_depend_on_who_else_is(histories: list[list[int]]) -> None:
    factors = np.random.default_rng(3).normal(size=(6, 4)).astype(np.float32)
    made = AlsRetriever.of_factors(Als(), pl.Series([f"i{n}" for n in range(6)]), factors, 1.0)

    def folded(some: list[list[int]]) -> np.ndarray:
        user = np.repeat(np.arange(len(some)), [len(items) for items in some])
        item = np.concatenate(some)
        return made.fold_in(user, item, 1.0 + item)

    alone = [folded([items])[0] for items in histories]
    np.testing.assert_array_equal(folded(histories), alone)


def test_folding_in_a_whole_row_is_the_trainers_half_step() -> None:
    from implicit.cpu.als import AlternatingLeastSquares

    rng = np.random.default_rng(5)
    made = [(f"u{rng.integers(30)}", f"i{rng.integers(12)}") for _ in range(200)]
    kinds = [events(made[:120], "view"), events(made[120:])]
    params = Als(factors=4, alpha=0.8, regularization=0.3)
    chosen = choices(pl.concat(kinds), params.weights.model_dump())
    matrix = chosen.confidences(params.alpha)
    model = AlternatingLeastSquares(4, 0.3, 1.0, use_cg=False, iterations=5, random_state=1)
    model.fit(matrix, show_progress=False)
    fitted = AlsRetriever.of_factors(params, chosen.item_ids, model.item_factors, 1.0)
    pairs = (chosen.pairs[name].to_numpy() for name in ("user", "item", "weight"))
    expected = model.recalculate_user(np.arange(chosen.shape[0]), matrix)
    assert fitted.fold_in(*pairs) == pytest.approx(expected, abs=1e-4)


def test_a_window_without_weight_finds_nothing() -> None:
    made = AlsRetriever(Als.model_validate({"weights": {"purchase": 0}}))
    made.fit(TrainingData(pl.DataFrame(), events=events(checkerboard(4))))
    assert made.retrieve(queries([None], [["i00"]]), 5).is_empty()


def test_who_asks_beside_one_changes_nothing() -> None:
    """One whose known items all lie further back than is read has no answer, and takes none."""
    params = Als(factors=4, iterations=3, max_history=3)
    made = AlsRetriever(params, 1)
    made.fit(TrainingData(pl.DataFrame(), events=events(checkerboard(8))))
    known = made.retrieve(queries([None], [["i00"]]), 8)["item_id"].to_list()
    assert known
    days = range(1, 6)
    lost = ["i01", "i03", "new1", "new2", "new3"]
    both = queries([None] * 2, [lost, ["i00"]])
    at = pl.Series([[START + timedelta(days=day) for day in days], [START]])
    spread = [
        [{"item_id": item, "timestamp": when} for item, when in zip(items, times, strict=True)]
        for items, times in zip([lost, ["i00"]], at.to_list(), strict=True)
    ]
    both = both.with_columns(history=pl.Series(spread, dtype=both.schema["history"]))
    found = made.retrieve(both, 8)
    assert found["query_id"].unique().to_list() == ["q01"]
    assert found["item_id"].to_list() == known
