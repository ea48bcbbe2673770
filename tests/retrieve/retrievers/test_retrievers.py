"""What every retriever promises, on one checkerboard."""

import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from stages.core import tables
from stages.core.log import UserError
from stages.core.params import Fit, RetrieverName
from stages.retrieve.retrievers import TrainingData, load_retriever, make_retriever
from stages.retrieve.retrievers.bm25 import _best
from tests.retrieve.conftest import (
    EVERY,
    OWN,
    TEXTS,
    TWINS,
    TWINS_ASKED,
    Case,
    events,
    queries,
    twice,
)

WITH_ENCODER: list[RetrieverName] = ["dense_base", "dense", "sparse", "multi_vector"]
LEARNED = [name for name in EVERY if name != "popular"]
ASKS_FOR_SOMETHING = [name for name in LEARNED if name != "two_tower"]
"""Those that say nothing to a query of nothing."""
ITEMS = {*TEXTS, *events()["item_id"]}


def everything(case: Case) -> pl.DataFrame:
    return case.ask([*OWN, TWINS_ASKED, "wood", "loud wood metal"])


@pytest.mark.parametrize("case", twice(LEARNED), indirect=True)
def test_the_one_right_item_comes_first(case: Case) -> None:
    found = case.fitted.retrieve(case.ask(OWN), 3)
    first = found.filter(rank=1).sort("query_id")
    assert first["item_id"].to_list() == [f"i{n:02d}" for n in range(len(OWN))]


@pytest.mark.parametrize("k", [1, 5, 14, 100])
def test_candidates_are_a_valid_table(case: Case, k: int) -> None:
    found = case.fitted.retrieve(everything(case), k)
    tables.check(found, tables.CANDIDATES)
    assert found["retriever"].unique().to_list() == [case.name]
    assert set(found["item_id"]) <= ITEMS
    for _, one in found.group_by("query_id"):
        one = one.sort("rank")
        assert one["rank"].to_list() == list(range(1, one.height + 1))
        assert one.height <= min(k, len(ITEMS))
        expected = one.sort(["score", "item_id"], descending=[True, False])
        assert one["item_id"].to_list() == expected["item_id"].to_list()
    if case.name.startswith("dense"):
        assert found.height == everything(case).height * min(k, len(TEXTS))


def test_fewer_candidates_are_the_first_of_more(case: Case) -> None:
    more = case.fitted.retrieve(everything(case), 10).filter(pl.col("rank") <= 4)
    fewer = case.fitted.retrieve(everything(case), 4)
    key = ["query_id", "rank"]
    assert fewer.sort(key)["item_id"].to_list() == more.sort(key)["item_id"].to_list()


@pytest.mark.parametrize("case", twice(LEARNED), indirect=True)
def test_equal_scores_go_by_item_id(case: Case) -> None:
    found = case.fitted.retrieve(case.ask([TWINS_ASKED]), 2)
    assert found["item_id"].to_list() == list(TWINS)
    assert found["score"].n_unique() == 1
    assert case.fitted.retrieve(case.ask([TWINS_ASKED]), 1)["item_id"].to_list() == ["a-twin"]


@pytest.mark.parametrize("case", twice(ASKS_FOR_SOMETHING), indirect=True)
@pytest.mark.parametrize("asked", [[], [None], [None, None]], ids=["none", "one", "two"])
def test_a_query_of_nothing_finds_nothing(case: Case, asked: list[None]) -> None:
    for retriever in (case.fitted, case.load()):
        found = retriever.retrieve(case.ask(asked), 5)
        assert found.is_empty()
        tables.check(found, tables.CANDIDATES)


@pytest.mark.parametrize("case", twice(ASKS_FOR_SOMETHING), indirect=True)
def test_others_are_answered_beside_one_of_nothing(case: Case) -> None:
    found = case.fitted.retrieve(case.ask([None, OWN[3], None]), 2)
    assert found["query_id"].unique().to_list() == ["q01"]
    assert found.filter(rank=1)["item_id"].item() == "i03"


@pytest.mark.parametrize("case", twice(["bm25", "sparse"]), indirect=True)
def test_words_that_no_document_has_find_nothing(case: Case) -> None:
    assert case.fitted.retrieve(case.ask(["the", "?!", "", "qqq"]), 5).is_empty()


def test_a_saved_retriever_gives_the_same_answers(case: Case, tmp_path: Path) -> None:
    asked = everything(case)
    expected = case.fitted.retrieve(asked, 5)
    assert case.load().retrieve(asked, 5).equals(expected)
    kept = case.load(tmp_path / "vectors.sqlite")
    first, again = kept.retrieve(asked, 5), kept.retrieve(asked, 5)
    assert first.equals(again)
    assert first.drop("score").equals(expected.drop("score"))
    assert (first["score"] - expected["score"]).abs().max() <= 1e-6


def test_one_query_at_a_time_is_answered_as_in_a_batch(case: Case) -> None:
    asked = everything(case)
    batch = case.fitted.retrieve(asked, 100)
    single = pl.concat([case.fitted.retrieve(asked[n], 100) for n in range(asked.height)])
    assert single.height == batch.height
    both = batch.join(single, on=["query_id", "item_id"], how="inner", suffix="_single")
    assert both.height == batch.height
    assert (both["score"] - both["score_single"]).abs().max() <= 1e-6


@pytest.mark.parametrize("case", twice(WITH_ENCODER), indirect=True)
def test_another_encoder_beside_it_is_refused(case: Case, swapped: Path) -> None:
    with pytest.raises(UserError, match=r"made by model .* run `dvc repro`"):
        load_retriever(case.name, swapped / "train")


@pytest.mark.parametrize("name", WITH_ENCODER)
def test_what_a_retriever_needs_is_named(name: RetrieverName) -> None:
    with pytest.raises(UserError, match=f"{name}.*embeddings"):
        make_retriever(name, Fit()).fit(TrainingData(pl.DataFrame()))


def test_bm25_ranks_by_its_formula() -> None:
    """Lucene's BM25 by hand: three documents of 2, 2 and 4 words, mean length 8/3."""
    texts = {"a": "guitar wood", "b": "guitar drum", "c": "drum drum drum harp"}
    made = make_retriever("bm25", Fit())
    made.fit(TrainingData(pl.DataFrame({"item_id": list(texts), "text": list(texts.values())})))
    found = made.retrieve(queries(["drums, harp!"]), 3)

    def weight(times: int, length: int, holding: int) -> float:
        k1, b = Fit().bm25.k1, Fit().bm25.b
        idf = math.log(1 + (3 - holding + 0.5) / (holding + 0.5))
        return idf * times / (times + k1 * (1 - b + b * length / (8 / 3)))

    assert found["item_id"].to_list() == ["c", "b"]
    expected = [weight(3, 4, 2) + weight(1, 4, 1), weight(1, 2, 2)]
    assert found["score"].to_list() == pytest.approx(expected, rel=1e-5)


def test_the_best_of_many_scores_by_row_where_they_tie() -> None:
    scores = np.array([1, 3, 2, 3, 2, 2, 0], np.float32)
    assert _best(scores, 4).tolist() == [1, 3, 2, 4]
    assert _best(scores, 7).tolist() == [1, 3, 2, 4, 5, 0, 6]
