"""The whole pipeline on a log without words, run and served as a user does it."""

import json

import pytest

from stages.core import files
from stages.publish.serving import Recommender
from stages.publish.serving.recommender import history_queries
from tests.conftest import Checkout
from tests.publish.test_service import serving

pytestmark = pytest.mark.slow


def test_second_run_does_nothing(small_log_run: Checkout) -> None:
    assert "Data and pipelines are up to date" in small_log_run.run("dvc", "repro")
    assert small_log_run.run("git", "status", "--porcelain") == ""


def test_what_comes_next_is_found_and_ranked(small_log_run: Checkout) -> None:
    metrics = small_log_run.folder / "metrics"
    compared = json.loads((metrics / "details.json").read_text())["comparisons"]["test"]
    assert compared["retrieval"]["item_knn_vs_popular"]["recall@10"]["low"] > 0.2
    ranking = json.loads((metrics / "ranking.json").read_text())
    assert ranking["lightgbm"]["test"]["ndcg@5"]["mean"] > 0.2
    assert json.loads((metrics / "audit.json").read_text())["failed"] == 0
    page = (small_log_run.folder / "report" / "index.html").read_text()
    assert "No words. Chose before: in_" in page


def test_the_bundle_answers_by_history(small_log_run: Checkout) -> None:
    bundle = Recommender.load(small_log_run.folder / files.BUNDLE)
    asked = history_queries([["in_4-1"], ["in_4-1", "in_7-2"], []])
    found = bundle.recommend(asked, 3)
    of = {key[0]: rows["item_id"].to_list() for key, rows in found.group_by("query_id")}
    assert "in_4-2" in of["0"]
    assert "in_7-3" in of["1"]
    assert len(of["2"]) == 3


def test_the_service_answers_by_history(small_log_run: Checkout) -> None:
    folder = small_log_run.folder
    with serving(small_log_run, "service:Search", folder) as client:
        found = client.post("/recommend", json={"history": ["in_4-1", "in_gone"], "top_k": 3})
        assert found.status_code == 200, found.text
        answer = found.json()
        assert not answer["is_cold_start"]
        assert "in_4-2" in [hit["item_id"] for hit in answer["items"]]
        cold = client.post("/recommend", json={"history": ["in_gone"]}).json()
        assert cold["is_cold_start"]
        assert len(cold["items"]) == 10
        refused = client.post("/search", json={"query": "a serum"})
        assert refused.status_code == 400
        assert "retrievers, popular, item_knn, als, read no words" in refused.text
        refused = client.post("/recommend", json={"history": [], "top_k": 0})
        assert refused.status_code == 400
        assert "top_k is 0" in refused.text
