"""Metrics: hand-computed cases, trec_eval and scikit-learn as references, edges, intervals."""

import math

import ir_measures
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ir_measures import AP, RR, R, nDCG
from sklearn.metrics import average_precision_score, roc_auc_score

from stages.core import metrics

Lists = dict[str, dict[str, float]]
Targets = dict[str, list[str]]


def lists_of(lists: Lists) -> pl.DataFrame:
    rows = [(q, i, s) for q, items in lists.items() for i, s in items.items()]
    schema = {"query_id": pl.String, "item_id": pl.String, "score": pl.Float32}
    return pl.DataFrame(rows, schema, orient="row")


def queries_of(targets: Targets) -> pl.DataFrame:
    schema = {"query_id": pl.String, "targets": pl.List(pl.String)}
    return pl.DataFrame(list(targets.items()), schema, orient="row")


def row(frame: pl.DataFrame, query: str) -> dict[str, float]:
    return frame.row(by_predicate=pl.col("query_id") == query, named=True)


def generated(queries: int, seed: int, levels: int | None = None) -> tuple[Lists, Targets]:
    """Lists of 0 to 30 of 40 items, and 1 to 4 targets, some of them in no list."""
    rng = np.random.default_rng(seed)
    lists: Lists = {}
    targets: Targets = {}
    for number in range(queries):
        name = f"q{number:03d}"
        shown = rng.permutation(40)[: rng.integers(0, 31)]
        scores = rng.integers(0, levels, len(shown)) if levels else rng.normal(size=len(shown))
        lists[name] = {
            f"i{item:02d}": float(np.float32(score))
            for item, score in zip(shown, scores, strict=True)
        }
        targets[name] = [f"i{item:02d}" for item in rng.permutation(40)[: rng.integers(1, 5)]]
    return lists, targets


# Hand-computed -----------------------------------------------------------------------------------


def test_a_target_in_third_place() -> None:
    lists = lists_of({"q": {"a": 0.9, "b": 0.8, "c": 0.7, "d": 0.6}})
    found = row(metrics.retrieval_metrics(lists, queries_of({"q": ["c"]})), "q")
    assert found["recall@1"] == 0
    assert found["recall@5"] == found["recall@100"] == 1
    assert found["mrr"] == pytest.approx(1 / 3)
    assert found["ndcg"] == pytest.approx(1 / math.log2(4))


def test_two_of_three_targets_at_one_and_four() -> None:
    lists = lists_of({"q": {"a": 4, "b": 3, "c": 2, "d": 1}})
    queries = queries_of({"q": ["a", "d", "elsewhere"]})
    ideal = 1 + 1 / math.log2(3) + 1 / math.log2(4)
    found = row(metrics.retrieval_metrics(lists, queries), "q")
    assert found["recall@1"] == pytest.approx(1 / 3)
    assert found["recall@5"] == pytest.approx(2 / 3)
    assert found["ndcg"] == pytest.approx((1 + 1 / math.log2(5)) / ideal)
    ranked = row(metrics.ranking_metrics(lists, queries), "q")
    assert ranked["map"] == pytest.approx((1 / 1 + 2 / 4) / 3)
    assert ranked["ndcg@3"] == pytest.approx(1 / ideal)
    ceiling = row(metrics.ranking_ceiling(lists, queries), "q")
    assert ceiling["ndcg@3"] == pytest.approx((1 + 1 / math.log2(3)) / ideal)
    assert ceiling["map"] == pytest.approx(2 / 3)


def test_ties_go_to_the_smaller_item_id_whatever_the_order_of_rows() -> None:
    lists = lists_of({"q": {"c": 1.0, "a": 1.0, "b": 1.0}})
    assert metrics.order(lists)["item_id"].to_list() == ["a", "b", "c"]
    assert metrics.order(lists.reverse()).equals(metrics.order(lists))
    found = row(metrics.ranking_metrics(lists, queries_of({"q": ["b"]})), "q")
    assert found["mrr"] == 0.5


def test_a_query_that_found_nothing_counts_zero_and_one_that_asked_nothing_is_null() -> None:
    lists = lists_of({"found": {"a": 1.0}, "asks nothing": {"a": 1.0}})
    queries = queries_of({"found": ["a"], "no list": ["a"], "asks nothing": []})
    found = metrics.retrieval_metrics(lists, queries)
    assert found["query_id"].to_list() == ["asks nothing", "found", "no list"]
    assert found["recall@1"].to_list() == [None, 1.0, 0.0]
    assert metrics.intervals(found.select("mrr"), 100, 0.95, 0)["mrr"]["mean"] == 0.5


def test_no_rows_at_all() -> None:
    lists, queries = lists_of({}), queries_of({})
    assert metrics.retrieval_metrics(lists, queries).is_empty()
    assert metrics.ranking_metrics(lists, queries).is_empty()
    assert metrics.group_auc(lists, queries).is_empty()
    assert metrics.pooled_metrics(lists, queries, 100, 0.95, 0) == {}
    assert metrics.intervals(pl.DataFrame({"mrr": []}), 100, 0.95, 0) == {}


def test_a_list_shorter_than_k_and_a_target_named_twice() -> None:
    lists = lists_of({"q": {"a": 1.0}})
    found = row(metrics.ranking_metrics(lists, queries_of({"q": ["a", "a"]})), "q")
    assert found["ndcg@10"] == found["map"] == 1


def test_coverage_of_lists_and_of_their_tops() -> None:
    lists = lists_of({"p": {"a": 2, "b": 1}, "q": {"a": 2, "c": 1}})
    assert metrics.coverage(lists, 10) == 0.3
    assert metrics.coverage(lists, 0) == 0


def test_auc_of_a_group_counts_a_missed_target_as_lost() -> None:
    lists = lists_of({"p": {"a": 3, "b": 2, "c": 1}, "q": {"a": 1, "b": 1}})
    queries = queries_of({"p": ["b"], "q": ["a"], "missed": ["a"]})
    found = metrics.group_auc(lists, queries)
    assert found.rows() == [("p", 0.5, 3), ("q", 0.5, 2)]
    missing = metrics.group_auc(lists, queries_of({"p": ["a", "elsewhere"]}))
    assert missing["auc"].item() == 0.5
    users = queries.with_columns(user_id=pl.lit("u"))
    # a of p beats a, b... pooled over the user: targets 2 and 1 and a miss against others 3, 1, 1.
    auc = (2 + 1.0 + 0) / (3 * 3)
    assert metrics.group_auc(lists, users, ["user_id"]).rows() == [("u", pytest.approx(auc), 5)]


def test_names_are_those_of_the_metrics_files() -> None:
    lists, queries = lists_of({"q": {"a": 1.0}}), queries_of({"q": ["a"]})
    assert tuple(metrics.retrieval_metrics(lists, queries).columns[1:]) == metrics.RETRIEVAL
    assert tuple(metrics.ranking_metrics(lists, queries).columns[1:]) == metrics.RANKING
    assert metrics.ranking_ceiling(lists, queries).columns[1:] == list(metrics.RANKING)


# References --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_trec_eval(seed: int) -> None:
    lists, targets = generated(60, seed)
    measures = {f"recall@{k}": R @ k for k in metrics.DEPTHS}
    measures |= {f"ndcg@{k}": nDCG @ k for k in metrics.CUTOFFS}
    measures |= {"mrr": RR, "ndcg": nDCG, "map": AP}
    frames = (lists_of(lists), queries_of(targets))
    ours = metrics.retrieval_metrics(*frames).join(
        metrics.ranking_metrics(*frames).drop("mrr"), on="query_id"
    )
    qrels = {query: dict.fromkeys(items, 1) for query, items in targets.items()}
    names = {str(measure): name for name, measure in measures.items()}
    compared = 0
    for theirs in ir_measures.iter_calc(list(measures.values()), qrels, lists):
        mine = row(ours, theirs.query_id)[names[str(theirs.measure)]]
        assert mine == pytest.approx(theirs.value, abs=1e-6), theirs
        compared += 1
    assert compared >= 60 * len(measures) * 0.9


@pytest.mark.parametrize("levels", [None, 5])
def test_auc_and_average_precision_agree_with_scikit_learn(levels: int | None) -> None:
    lists, targets = generated(40, 3, levels)
    frames = (lists_of(lists), queries_of(targets))
    scores, labels = [], []
    for query, wanted in targets.items():
        shown = lists[query]
        # A target in no list scores below all.
        own_scores = [*shown.values(), *(-100.0 for item in wanted if item not in shown)]
        own = [item in wanted for item in shown] + [True for i in wanted if i not in shown]
        scores += own_scores
        labels += own
        found = metrics.group_auc(*frames).filter(pl.col("query_id") == query)
        if not all(own):
            assert found["auc"].item() == pytest.approx(roc_auc_score(own, own_scores))
        else:
            assert found.is_empty()
    pooled = metrics.pooled_metrics(*frames, 100, 0.95, 0)
    assert pooled["auc"]["mean"] == pytest.approx(roc_auc_score(labels, scores))
    # scikit-learn lets the misses in at their own threshold; by convention they add nothing.
    lost = sum(s == -100.0 for s in scores) / sum(labels) * np.mean(labels)
    expected = average_precision_score(labels, scores) - lost
    assert pooled["average_precision"]["mean"] == pytest.approx(expected)


def test_pooled_intervals_are_those_of_an_explicit_resample_of_queries() -> None:
    lists, targets = generated(25, 5, 4)
    lists_frame, queries = lists_of(lists), queries_of(targets)
    pooled = metrics.pooled_metrics(lists_frame, queries, 100, 0.9, 11)
    explicit = []
    for weights in metrics.resampled(25, 100, 11):
        for counts in weights:
            names = [f"q{n:03d}" for n, count in enumerate(counts) for _ in range(int(count))]
            copies = {f"{n}": targets[name] for n, name in enumerate(names)}
            shown = {f"{n}": lists[name] for n, name in enumerate(names)}
            once = metrics.group_auc(
                lists_of(shown), queries_of(copies).with_columns(all=pl.lit(1)), ["all"]
            )
            explicit.append(once["auc"].item())
    low, high = np.quantile(explicit, [0.05, 0.95])
    assert pooled["auc"]["low"] == pytest.approx(low)
    assert pooled["auc"]["high"] == pytest.approx(high)


# Invariants --------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([None, 3]))
def test_metrics_lie_in_bounds_and_grow_with_depth(seed: int, levels: int | None) -> None:
    lists, targets = generated(8, seed, levels)
    frames = (lists_of(lists), queries_of(targets))
    found = metrics.retrieval_metrics(*frames)
    for values in found.drop("query_id").iter_columns():
        assert values.is_between(0, 1 + 1e-12).all()
    recalls = found.select(f"recall@{k}" for k in metrics.DEPTHS).to_numpy()
    assert (np.diff(recalls, axis=1) >= 0).all()
    achieved = metrics.ranking_metrics(*frames).drop("query_id").to_numpy()
    ceiling = metrics.ranking_ceiling(*frames).drop("query_id").to_numpy()
    assert (achieved <= ceiling + 1e-12).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_only_the_order_of_scores_matters(seed: int) -> None:
    lists, targets = generated(6, seed)
    frame, queries = lists_of(lists), queries_of(targets)
    bent = frame.with_columns((pl.col("score") * 0.5).exp())
    assert metrics.ranking_metrics(frame, queries).equals(metrics.ranking_metrics(bent, queries))
    assert metrics.group_auc(frame, queries).equals(metrics.group_auc(bent, queries))


# Intervals ---------------------------------------------------------------------------------------


def test_interval_holds_its_mean_and_repeats() -> None:
    values = np.random.default_rng(0).normal(3, 1, 500)
    found = metrics.interval(values, seed=1)
    assert found == metrics.interval(values, seed=1)
    assert found != metrics.interval(values, seed=2)
    assert found["mean"] == pytest.approx(values.mean())
    assert found["low"] < found["mean"] < found["high"]
    assert found["high"] - found["low"] == pytest.approx(2 * 1.96 / math.sqrt(500), rel=0.15)


def test_interval_of_one_value_and_of_none() -> None:
    assert metrics.interval([0.25]) == {"mean": 0.25, "low": 0.25, "high": 0.25}
    assert metrics.interval([0.25, math.nan])["mean"] == 0.25
    for empty in ([], [math.nan]):
        with pytest.raises(ValueError, match="no value"):
            metrics.interval(empty)


def test_weighted_interval_is_of_the_weighted_mean() -> None:
    found = metrics.interval([0.0, 1.0], weights=[3.0, 1.0])
    assert found["mean"] == 0.25
    assert (found["low"], found["high"]) == (0, 1)


def test_blocks_of_resamples_do_not_change_them(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.concatenate(list(metrics.resampled(7, 50, 3)))
    assert (whole.sum(axis=1) == 7).all()
    blocks = list(metrics.resampled(7, 50, 3, rows=8))
    assert len(blocks) == 7
    np.testing.assert_array_equal(np.concatenate(blocks), whole)


def test_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(4)
    covered = 0
    for trial in range(300):
        found = metrics.interval(rng.binomial(1, 0.3, 200), 300, 0.9, trial)
        covered += found["low"] <= 0.3 <= found["high"]
    # Binomial(300, 0.9) has a standard deviation of 5.2 trials.
    assert 0.9 * 300 - 21 <= covered <= 0.9 * 300 + 21


def test_pairing_sees_what_two_samples_cannot() -> None:
    rng = np.random.default_rng(0)
    hardness = rng.normal(0, 1, 400)
    better, worse = hardness + 0.05, hardness + rng.normal(0, 0.05, 400)
    paired = metrics.paired_difference(better, worse)
    apart = metrics.unpaired_difference(better, worse)
    assert paired["low"] > 0
    assert apart["low"] < 0 < apart["high"]
    assert paired["mean"] == pytest.approx(apart["mean"])


def test_differences_refuse_what_is_not_comparable() -> None:
    with pytest.raises(ValueError, match="not pairs"):
        metrics.paired_difference([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="no value"):
        metrics.unpaired_difference([1.0], [])


def test_unpaired_difference_is_as_wide_as_both_samples_are_uncertain() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(1, 1, 300), rng.normal(0, 2, 900)
    found = metrics.unpaired_difference(a, b, 2000)
    deviation = math.sqrt(a.var() / 300 + b.var() / 900)
    assert found["high"] - found["low"] == pytest.approx(2 * 1.96 * deviation, rel=0.1)


def test_resamples_that_are_kept_are_those_that_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = [list(metrics.resampled(300, 40, 7, rows)) for rows in (None, 16, None)]
    monkeypatch.setattr(metrics, "_KEPT", 0)
    drawn = [list(metrics.resampled(300, 40, 7, rows)) for rows in (None, 16, None)]
    for some, others in zip(kept, drawn, strict=True):
        assert len(some) == len(others)
        assert all(np.array_equal(a, b) for a, b in zip(some, others, strict=True))
    assert drawn[0][0].sum(axis=1).tolist() == [300] * 40
