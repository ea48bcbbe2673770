"""The whole pipeline on a log without words, run and served as a user does it."""

import json

import httpx
import polars as pl
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
        check_users(client, small_log_run)
        check_strategies(client)
        check_similar(client)
        refused = client.post("/search", json={"query": "a serum"})
        assert refused.status_code == 400
        assert "retrievers, popular, item_knn, als, two_tower, read no words" in refused.text
        refused = client.post("/recommend", json={"history": [], "top_k": 0})
        assert refused.status_code == 400
        assert "top_k is 0" in refused.text


def recommended(client: httpx.Client, **asked: object) -> list[str]:
    found = client.post("/recommend", json=asked)
    assert found.status_code == 200, found.text
    return [hit["item_id"] for hit in found.json()["items"]]


def check_users(client: httpx.Client, run: Checkout) -> None:
    """A user is answered as someone with their history is; one whom nobody knows, as new."""
    events = pl.read_parquet(run.folder / files.SPLIT_EVENTS).filter(user_id="in_u7")
    past = events.sort("timestamp", "item_id")["item_id"].to_list()[-50:]
    assert len(past) > 5
    by_retriever = {"strategy": "item_knn", "top_k": 5}
    mine = recommended(client, user_id="in_u7", **by_retriever)
    assert mine == recommended(client, history=past, **by_retriever)
    known = client.post("/recommend", json={"user_id": "in_u7"}).json()
    assert not known["is_cold_start"]
    new = client.post("/recommend", json={"user_id": "in_nobody"}).json()
    assert new["is_cold_start"]
    assert new["items"] == client.post("/recommend", json={"history": []}).json()["items"]
    both = client.post("/recommend", json={"user_id": "in_u7", "history": ["in_4-1"]})
    assert both.status_code == 400
    assert "send one of them" in both.text


def check_strategies(client: httpx.Client) -> None:
    asked = {"history": ["in_4-1"], "top_k": 20}
    popular = recommended(client, **asked, strategy="popular")
    everybody = recommended(client, history=[], top_k=20, strategy="popular")
    assert popular[:10] == [item for item in everybody if item != "in_4-1"][:10]
    blend = client.post("/recommend", json=asked | {"strategy": "blend"}).json()["items"]
    assert all(hit["ranking_score"] is None for hit in blend)
    scores = [hit["retrieval_score"] for hit in blend]
    assert scores == sorted(scores, reverse=True)
    refused = client.post("/recommend", json=asked | {"strategy": "content"})
    assert refused.status_code == 400
    assert "this bundle has ranked, blend, popular, item_knn, als, two_tower" in refused.text


def check_similar(client: httpx.Client) -> None:
    found = client.post("/similar", json={"item_id": "in_4-1", "top_k": 4}).json()["items"]
    assert len(found) == 4
    assert "in_4-2" in [hit["item_id"] for hit in found]
    assert "in_4-1" not in [hit["item_id"] for hit in found]
    refused = client.post("/similar", json={"item_id": "in_gone"})
    assert refused.status_code == 400
    assert "'in_gone' is not in the bundle's catalogue" in refused.text
