"""The evaluation: what its files hold, on tables made by hand and on a small shop."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from small_world import LISTED, RANKERS, RETRIEVERS, World

from stages.core import metrics, storage, tables
from stages.core.params import Evaluate, TwoTower
from stages.evaluate.evaluate import main
from stages.evaluate.figures import measures, plots
from stages.evaluate.figures.intervals import Bootstrap
from stages.evaluate.figures.slices import SLICES, slices_of
from stages.retrieve.retrievers.inputs import of_window, with_behaviour
from stages.retrieve.retrievers.two_tower import TwoTowerRetriever

BOOTSTRAP = Bootstrap(Evaluate(bootstrap=100), 0)
INTERVAL = {"mean", "low", "high"}


@pytest.fixture(scope="module")
def folder(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the stage; its metrics and plots."""
    made = world.write(tmp_path_factory.mktemp("evaluate"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made)
        main()
    return made


@pytest.fixture(scope="module")
def found(folder: Path) -> dict[str, Any]:
    read = {path.stem: storage.read_json(path) for path in (folder / "metrics").iterdir()}
    return read | read["details"]


def paths(value: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], float]]:
    if isinstance(value, dict):
        return [leaf for key, inner in value.items() for leaf in paths(inner, (*path, key))]
    return [(path, value)]


def frame(**columns: list[float]) -> pl.DataFrame:
    ids = [f"q{n}" for n in range(len(next(iter(columns.values()))))]
    return pl.DataFrame({"query_id": ids, **columns})


# The files ---------------------------------------------------------------------------------------


def test_retrieval_is_retriever_split_metric_interval(found: dict[str, Any]) -> None:
    retrieval = found["retrieval"]
    assert set(retrieval) == {*RETRIEVERS, "blend"}
    due = {f"recall@{k}" for k in (1, 5, 10, 20, 50, 100)} | {"mrr", "ndcg", "coverage"}
    for splits in retrieval.values():
        assert set(splits) == {"rank", "valid", "test"}
        for figures in splits.values():
            assert set(figures) == due | {"coverage@10"}
            assert all(set(interval) == INTERVAL for interval in figures.values())


def test_ranking_is_ranker_split_metric_interval(found: dict[str, Any]) -> None:
    ranking = found["ranking"]
    assert set(ranking) == {*RANKERS, "blend"}
    due = {"ndcg@3", "ndcg@5", "ndcg@10", "map", "mrr", "auc", "average_precision", "gauc"}
    for splits in ranking.values():
        assert set(splits) == {"valid", "test"}
        for figures in splits.values():
            assert {name for name in figures if not name.endswith("_given_retrieved")} == due
            assert all(set(interval) == INTERVAL for interval in figures.values())


def test_every_interval_holds_its_mean_and_every_name_survives_dvc(found: dict[str, Any]) -> None:
    leaves = paths(found)
    # DVC joins the keys of a metric by dots.
    assert not any("." in key for path, _ in leaves for key in path)
    by_path = {path[:-1]: {} for path, _ in leaves if path[-1] in INTERVAL}
    for path, value in leaves:
        if path[-1] in INTERVAL:
            by_path[path[:-1]][path[-1]] = value
    assert len(by_path) > 500
    for path, interval in by_path.items():
        assert interval["low"] <= interval["mean"] <= interval["high"], path


def test_figures_are_the_means_of_the_queries(found: dict[str, Any], world: World) -> None:
    test = world.queries.filter(split="test")
    lists = world.candidates.filter(retriever="dense").join(test, on="query_id", how="semi")
    rows = lists.join(test.select("query_id", "targets"), on="query_id")
    hits = rows.filter(pl.col("targets").list.contains(pl.col("item_id")))
    figures = found["retrieval"]["dense"]["test"]
    assert figures["recall@5"]["mean"] == (hits["rank"] <= 5).sum() / test.height
    assert figures["mrr"]["mean"] == pytest.approx((1 / hits["rank"]).sum() / test.height, abs=1e-6)
    assert figures["coverage"]["mean"] == lists["item_id"].n_unique() / world.items.height


def test_an_unretrieved_target_counts_zero_end_to_end(found: dict[str, Any], world: World) -> None:
    figures = found["ranking"]["lightgbm"]["test"]
    test = world.queries.filter(split="test")
    asked = test.select("query_id", item_id=pl.col("targets").list.first())
    share = asked.join(world.blend, on=["query_id", "item_id"], how="semi").height / test.height
    assert 0 < share < 1
    for metric in ("ndcg@5", "mrr", "map"):
        given = figures[f"{metric}_given_retrieved"]["mean"]
        assert figures[metric]["mean"] == pytest.approx(given * share, abs=1e-5)
    assert figures["ndcg@10"]["mean"] <= found["retrieval"]["blend"]["test"]["recall@100"]["mean"]


def test_comparisons_name_the_pairs_that_matter(found: dict[str, Any]) -> None:
    test = found["comparisons"]["test"]
    assert set(test["retrieval"]) == {
        "dense_vs_bm25",
        "dense_base_vs_bm25",
        "dense_vs_dense_base",
        "blend_vs_bm25",
        "blend_vs_dense",
    }
    assert set(test["ranking"]) == {
        "lightgbm_vs_blend",
        "xgboost_vs_blend",
        "lightgbm_vs_xgboost",
    }
    change = test["retrieval"]["dense_vs_bm25"]["recall@10"]
    one, other = (found["retrieval"][n]["test"]["recall@10"]["mean"] for n in ("dense", "bm25"))
    assert change["mean"] == pytest.approx(one - other, abs=1e-6)
    assert change["low"] > 0


def test_losses_add_up_to_one(found: dict[str, Any]) -> None:
    for split in ("valid", "test"):
        for name, lost in found["attribution"][split]["rankers"].items():
            for metric, parts in lost.items():
                assert sum(part["mean"] for part in parts.values()) == pytest.approx(1, abs=2e-6)
                achieved = found["ranking"][name][split][metric]["mean"]
                assert parts["achieved"]["mean"] == achieved
                assert all(part["low"] >= 0 for part in parts.values())
    test = found["attribution"]["test"]
    ceiling = 1 - test["rankers"]["blend"]["ndcg@5"]["lost_by_retrieval"]["mean"]
    recall = found["retrieval"]["blend"]["test"]["recall@100"]["mean"]
    assert ceiling == pytest.approx(recall, abs=1e-6)
    assert test["retrieval"]["found_by_any"]["mean"] >= recall


def test_slices_part_the_queries_in_two(found: dict[str, Any], world: World) -> None:
    held = world.queries.filter(split="test").height
    test = found["slices"]["test"]
    assert set(test) == set(SLICES)
    for one, other in zip(SLICES[::2], SLICES[1::2], strict=True):
        assert test[one]["queries"] + test[other]["queries"] == held
    assert set(test["tail_items"]["retrieval"]["blend"]) == {"recall@10", "recall@100", "mrr"}
    assert set(test["tail_items"]["ranking"]["xgboost"]) == {"ndcg@5", "mrr"}
    assert test["cold_users"]["queries"] == 0
    assert test["cold_users"]["ranking"] == {name: {} for name in ("blend", *RANKERS)}


def test_rankers_are_held_against_the_best_retriever(found: dict[str, Any]) -> None:
    """The tuned encoder is made the best of three here."""
    assert set(found["best_retriever"]["test"]) == {"dense"}
    over = found["comparisons"]["test"]["over_best_retriever"]
    assert set(over) == {f"{name}_vs_dense" for name in ("blend", *RANKERS)}
    alone = found["best_retriever"]["test"]["dense"]["ndcg@10"]["mean"]
    ranked = found["ranking"]["lightgbm"]["test"]["ndcg@10"]["mean"]
    change = over["lightgbm_vs_dense"]["ndcg@10"]["mean"]
    assert ranked - alone == pytest.approx(change, abs=2e-6)


def test_learned_retrievers_are_held_against_popular_by_slice() -> None:
    slices = pl.DataFrame({"query_id": ["a", "b", "c"]}).with_columns(
        pl.lit(name != "cold_users").alias(name) for name in SLICES
    )
    names = ("recall@10", "recall@100", "mrr")

    def measured(value: float) -> pl.DataFrame:
        return slices.select("query_id").with_columns(pl.lit(value).alias(n) for n in names)

    frames = {"popular": measured(0.25), "als": measured(0.75), "bm25": measured(0.5)}
    bootstrap = Bootstrap(Evaluate(bootstrap=100), 1)
    made = measures.slice_figures(slices, {"retrieval": frames}, bootstrap)
    assert set(made["warm_users"]["over_popular"]) == {"als_vs_popular"}
    change = made["warm_users"]["over_popular"]["als_vs_popular"]["recall@10"]
    assert change == {"mean": 0.5, "low": 0.5, "high": 0.5}
    assert made["cold_users"]["over_popular"] == {"als_vs_popular": {}}
    del frames["popular"]
    assert (
        "over_popular"
        not in measures.slice_figures(slices, {"retrieval": frames}, bootstrap)["warm_users"]
    )


def test_rank_slice_compares_with_valid(found: dict[str, Any]) -> None:
    assert set(found["rank_slice"]) == {*RETRIEVERS, "blend"}
    for name, figures in found["rank_slice"].items():
        assert set(figures) == {"recall@10", "recall@100"}
        for metric, sides in figures.items():
            assert set(sides) == {"rank", "valid", "excess"}
            difference = sides["rank"]["mean"] - sides["valid"]["mean"]
            assert sides["excess"]["mean"] == pytest.approx(difference, abs=2e-6)
            assert sides["rank"] == found["retrieval"][name]["rank"][metric]


def test_plots_hold_the_figures(folder: Path, found: dict[str, Any]) -> None:
    recall = pl.read_csv(folder / "plots" / "recall.csv")
    assert recall.columns == ["retriever", "split", "k", "recall", "low", "high"]
    assert recall.height == 4 * 3 * len(metrics.DEPTHS)
    (row,) = recall.filter(retriever="bm25", split="test", k=20).to_dicts()
    assert row["recall"] == found["retrieval"]["bm25"]["test"]["recall@20"]["mean"]
    ranking = pl.read_csv(folder / "plots" / "ranking.csv")
    assert ranking.columns == ["ranker", "split", "metric", "mean", "low", "high"]


def test_without_towers_their_curve_is_empty(folder: Path) -> None:
    """A folder of towers may be left from when they were named."""
    assert (folder / "plots" / "two_tower.csv").read_text() == "epoch,step,loss,mrr\n"
    assert plots.towers_curve(folder / "nowhere", ["bm25"]).is_empty()


@pytest.mark.parametrize("patience", [None, 2])
def test_the_curve_of_towers_is_that_of_window_train(
    world: World, tmp_path: Path, patience: int | None
) -> None:
    settings = {"dim": 8, "hidden": [8], "min_count": 1, "batch_size": 64, "lr": 0.01}
    params = TwoTower.model_validate(settings | {"min_steps": 40, "patience": patience})
    for run in ("once", "again"):
        for window in tables.WINDOWS:
            data = of_window(window, world.documents, None, None, world.items, world.users, None)
            data = with_behaviour(data, window, world.events, world.impressions, True, None)
            made = TwoTowerRetriever(params, seed=3, store=tmp_path / "store")
            made.fit(data)
            saved = tmp_path / run / "two_tower" / window
            saved.mkdir(parents=True)
            made.save(saved)
        curve = plots.towers_curve(tmp_path / run, ["bm25", "two_tower"])
        plots.write_csv(curve, tmp_path / f"{run}.csv")
    assert (tmp_path / "once.csv").read_bytes() == (tmp_path / "again.csv").read_bytes()
    read = pl.read_csv(tmp_path / "once.csv")
    assert read["epoch"].to_list() == list(range(1, read.height + 1))
    learned = -(-data.events.height // 64)
    if patience is None:
        assert read["step"].to_list() == [n * learned for n in read["epoch"]]
        assert read["step"][-1] >= 40
        assert read["mrr"].null_count() == read.height
    else:
        assert read["mrr"].is_between(0, 1).all()
    assert read["loss"][-1] < read["loss"][0]
    of_fit = pl.read_csv(tmp_path / "once" / "two_tower" / "fit" / "curve.csv")
    assert of_fit["loss"].to_list() != read["loss"].to_list()


def test_the_same_tables_give_the_same_bytes(
    folder: Path, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shuffled = world.replace(
        candidates=world.candidates.reverse(), queries=world.queries.sample(fraction=1, seed=3)
    )
    monkeypatch.chdir(shuffled.write(tmp_path))
    main()
    for path in sorted([*folder.glob("metrics/*"), *folder.glob("plots/*")]):
        assert (tmp_path / path.relative_to(folder)).read_bytes() == path.read_bytes(), path.name


def test_a_split_without_queries_is_left_out(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = world.queries.filter(pl.col("split") != "rank")
    monkeypatch.chdir(world.replace(queries=kept).write(tmp_path))
    main()
    retrieval = storage.read_json(tmp_path / "metrics" / "retrieval.json")
    assert set(retrieval["bm25"]) == {"valid", "test"}
    assert storage.read_json(tmp_path / "metrics" / "details.json")["rank_slice"]["bm25"] == {}


# Parts -------------------------------------------------------------------------------------------


def test_slices_by_hand() -> None:
    splits = ["fit", "fit", "fit", "fit", "rank", "rank", "valid"]
    events = pl.DataFrame(
        {
            "user_id": ["u", "u", "v", "u", "w", "u", "x"],
            "item_id": ["a", "a", "a", "b", "c", "b", "d"],
            "split": splits,
        }
    )
    queries = pl.DataFrame(
        {
            "query_id": ["3", "1", "2", "4"],
            "user_id": ["w", "u", None, "x"],
            "targets": [["a"], ["d"], ["a", "c"], ["b"]],
            "split": ["valid", "valid", "valid", "rank"],
        }
    )
    catalogue = pl.DataFrame({"item_id": ["a", "b", "c", "d", "e"]})
    # Reviews in fit and rank: a 3, b 2, c 1, d 0, e 0; four fifths of the items have up to 2.
    found = slices_of(queries, events, catalogue, "valid", 0.8)
    assert found["query_id"].to_list() == ["1", "2", "3"]
    assert found["warm_users"].to_list() == [True, False, True]
    assert found["warm_items"].to_list() == [False, True, True]
    assert found["head_items"].to_list() == [False, False, True]
    # What is in rank is not behind rank.
    rank = slices_of(queries, events, catalogue, "rank", 0.5)
    assert rank.select("warm_users", "warm_items", "head_items").rows() == [(False, True, True)]


def test_items_reviewed_alike_are_on_one_side() -> None:
    events = pl.DataFrame({"user_id": ["u"] * 3, "item_id": ["a", "b", "c"], "split": ["fit"] * 3})
    queries = pl.DataFrame(
        {"query_id": ["1"], "user_id": ["u"], "targets": [["c"]], "split": ["valid"]}
    )
    catalogue = pl.DataFrame({"item_id": ["a", "b", "c"]})
    found = slices_of(queries, events, catalogue, "valid", 0.4)
    assert found["tail_items"].to_list() == [True]


def test_best_single_retriever_is_by_valid_and_bm25_may_be_absent() -> None:
    def valid_of(top: list[float], deep: list[float]) -> pl.DataFrame:
        return frame(**{"recall@10": top, "recall@100": deep})

    valid = {"dense": valid_of([1.0, 0.0], [1.0, 0.0]), "als": valid_of([1.0, 1.0], [1.0, 1.0])}
    pairs = measures.retriever_pairs(["dense", "als", "blend"], valid)
    assert pairs == [("blend", "als")]
    alone = {"bm25": valid_of([1.0], [1.0])}
    assert measures.retriever_pairs(["bm25", "blend"], alone) == [("blend", "bm25")]


def test_the_blend_is_held_against_who_is_best_in_the_depth_too() -> None:
    valid = {
        "popular": frame(**{"recall@10": [0.0], "recall@100": [0.1]}),
        "als": frame(**{"recall@10": [0.6], "recall@100": [0.7]}),
        "content": frame(**{"recall@10": [0.2], "recall@100": [0.9]}),
    }
    pairs = measures.retriever_pairs([*valid, "blend"], valid)
    assert [other for one, other in pairs if one == "blend"] == ["als", "content", "popular"]


def test_gauc_weighs_users_by_their_impressions() -> None:
    rows = [("1", "a", 2.0), ("1", "b", 1.0), ("2", "a", 1.0), ("2", "b", 2.0), ("2", "c", 3.0)]
    lists = pl.DataFrame(rows, ["query_id", "item_id", "score"], orient="row")
    queries = pl.DataFrame(
        {"query_id": ["1", "2"], "user_id": ["u", None], "targets": [["a"], ["a"]]}
    )
    measured = metrics.ranking_metrics(lists, queries)
    figures = measures.ranking_figures(lists, queries, measured, BOOTSTRAP)
    # AUC 1 over two impressions and 0 over three.
    assert figures["gauc"]["mean"] == pytest.approx(2 / 5)


def test_what_the_blend_dropped_is_told_from_what_nobody_found() -> None:
    none, top = [0.0, 0.0, 0.0], [1.0, 1.0, 0.0]
    retrieved = {"a": frame(mrr=top), "b": frame(mrr=none), "blend": frame(mrr=[1.0, 0.0, 0.0])}
    ranked = {"blend": frame(**{name: [0.5, 0.0, 0.0] for name in measures.ATTRIBUTED})}
    ceiling = frame(**{name: [1.0, 0.0, 0.0] for name in measures.ATTRIBUTED})
    found = measures.attribution(ranked, ceiling, retrieved, BOOTSTRAP)
    shares = {name: interval["mean"] for name, interval in found["retrieval"].items()}
    assert shares == {
        "found_by_any": pytest.approx(2 / 3),
        "found_by_blend": pytest.approx(1 / 3),
        "lost_by_blend": pytest.approx(1 / 3),
    }
    parts = {k: v["mean"] for k, v in found["rankers"]["blend"]["ndcg@5"].items()}
    assert parts == {
        "achieved": pytest.approx(1 / 6),
        "lost_by_ranking": pytest.approx(1 / 6),
        "lost_by_retrieval": pytest.approx(2 / 3),
    }


def test_lists_are_as_long_as_the_shop_says(world: World) -> None:
    assert world.blend["rank"].max() == LISTED
