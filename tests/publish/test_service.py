"""The service over real HTTP, from a bundle that the pipeline made."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import httpx
import polars as pl
import pytest

from stages.core import files, tables
from stages.core.params import READS_HISTORY, RetrieverName
from stages.publish.serving import Recommender, read_manifest
from stages.rank.features import FeatureProgram
from stages.rank.rankers import load_ranker
from stages.rank.rankers.base import scores_frame
from stages.retrieve.blending.fusion import Fusion
from stages.retrieve.retrievers import load_retriever
from tests.conftest import Checkout
from tests.publish.test_manifest import tiny_bundle

pytestmark = pytest.mark.slow


@contextmanager
def serving(checkout: Checkout, target: str, folder: Path) -> Iterator[httpx.Client]:
    """Run `bentoml serve` on a free port of the loopback interface until the block ends."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "BENTOML_HOME": str(checkout.folder.parent / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
    }
    written = log_of(checkout)
    with written.open("w") as log:
        server = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "bentoml",
                "serve",
                target,
                "--host",
                "127.0.0.1",
                "--port",
                str(port),
            ],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
                _wait(client, server, written)
                yield client
        finally:
            server.terminate()
            server.wait(30)


def log_of(checkout: Checkout) -> Path:
    """Where `serving` writes what the server logs."""
    return checkout.folder.parent / "serve.log"


def _wait(client: httpx.Client, server: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()[-3000:]
        try:
            if client.get("/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    raise AssertionError(log.read_text()[-3000:])


@pytest.fixture(scope="module")
def client(small_run: Checkout) -> Iterator[httpx.Client]:
    with serving(small_run, "service:Search", small_run.folder) as opened:
        yield opened


@pytest.fixture(scope="module")
def queries(small_run: Checkout) -> pl.DataFrame:
    held = tables.read(small_run.folder / files.QUERIES, tables.QUERIES).filter(split="test")
    return held.head(25)


def test_search_answers(client: httpx.Client, small_run: Checkout) -> None:
    answer = client.post("/search", json={"query": "a light serum for dry skin", "top_k": 5})
    assert answer.status_code == 200
    body = answer.json()
    assert body["bundle_id"] == read_manifest(small_run.folder / files.BUNDLE).bundle_id
    assert [item["rank"] for item in body["items"]] == [1, 2, 3, 4, 5]
    assert set(body["items"][0]) == {
        "rank",
        "item_id",
        "title",
        "retrieval_score",
        "ranking_score",
    }
    scores = [item["ranking_score"] for item in body["items"]]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize(
    ("request_body", "reason"),
    [
        ({"query": "  "}, "empty"),
        ({"query": "x" * 4001}, "4001 characters"),
        ({"query": "serum", "top_k": 0}, "top_k is 0"),
        ({"query": "serum", "top_k": 21}, "1 to 20"),
        ({"query": "serum", "top_k": "many"}, "top_k is 'many', expected a whole number"),
        ({"query": "serum", "topk": 3}, "'topk' is no field; did you mean top_k?"),
        ({"top_k": 3}, "query is missing"),
    ],
)
def test_bad_requests_are_400_with_a_reason_and_no_traceback(
    client: httpx.Client, small_run: Checkout, request_body: dict[str, object], reason: str
) -> None:
    answer = client.post("/search", json=request_body)
    assert answer.status_code == 400
    assert reason in answer.json()["error"]
    assert "Traceback" not in log_of(small_run).read_text()


@pytest.mark.parametrize("damage", ["none there", "cut off"])
def test_without_a_whole_bundle_the_service_ends_with_one_sentence(
    tmp_path: Path, damage: str
) -> None:
    if damage == "cut off":
        tiny_bundle(tmp_path)
        (tmp_path / "items.parquet").write_bytes(b"PA")
        reason = "1 of the bundle's files are not as manifest.json says, such as 'items.parquet'"
    else:
        reason = "manifest.json is missing"
    served = subprocess.run(
        [sys.executable, "-m", "bentoml", "serve", "service:Search"],
        env=os.environ | {"WINNOW_BUNDLE": str(tmp_path), "BENTOML_DO_NOT_TRACK": "True"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert served.returncode == 1
    said = served.stderr.splitlines()
    assert said[-1].startswith(f"error: {tmp_path}")
    assert reason in said[-1]
    assert said[-1].endswith("or name another folder in WINNOW_BUNDLE")
    assert "Traceback" not in served.stderr


def test_health_and_metrics(client: httpx.Client) -> None:
    client.post("/search", json={"query": "shampoo"})
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").status_code == 200
    metrics = client.get("/metrics")
    assert metrics.status_code == 200
    assert "bentoml_service_request_total" in metrics.text


def test_unknown_words_are_answered(client: httpx.Client) -> None:
    answer = client.post("/search", json={"query": "zzzz qqqq ʘʘ 🙂"})
    assert answer.status_code == 200
    assert answer.json()["items"]


def test_replay_gives_the_offline_scores(
    client: httpx.Client, small_run: Checkout, queries: pl.DataFrame
) -> None:
    """The service's answers equal what the stages' tables and functions give, to 1e-6.

    The offline side takes the candidates of words from the tables that the stages wrote. Those of
    who asks are found anew, and features computed, without a user, since a request has none.
    """
    folder = small_run.folder
    manifest = read_manifest(folder / files.BUNDLE)
    nobody = queries.with_columns(
        user_id=pl.lit(None, pl.String), history=pl.lit([], tables.HISTORY)
    )
    of_words = sorted(set(manifest.retrievers) - set(READS_HISTORY))
    of_who_asks = sorted(set(manifest.retrievers) - set(of_words))
    assert of_words == ["bm25", "dense", "dense_base"]
    assert of_who_asks == ["popular", "two_tower"]
    written = tables.read_folder(folder / files.CANDIDATES, of_words, tables.CANDIDATES)
    fitted = [
        load_retriever(cast(RetrieverName, name), folder / files.RETRIEVERS / name / "train")
        for name in of_who_asks
    ]
    candidates = pl.concat(
        [
            written.join(nobody, on="query_id", how="semi"),
            *(one.retrieve(nobody, manifest.top_k) for one in fitted),
        ]
    )
    blended = Fusion.load(folder / files.BLEND_MODEL).blend(candidates, manifest.top_k)
    program = FeatureProgram.load(folder / files.FEATURES_MODEL / "train")
    examples = program.transform(nobody, candidates, blended)
    ranker = load_ranker(manifest.ranker, folder / files.RANKERS / manifest.ranker)
    offline = scores_frame(examples, ranker.score(examples), manifest.ranker)
    for query_id, text in nobody.select("query_id", "text").iter_rows():
        body = client.post("/search", json={"query": text, "top_k": 20}).json()
        online = {item["item_id"]: item["ranking_score"] for item in body["items"]}
        expected = dict(offline.filter(query_id=query_id).select("item_id", "score").iter_rows())
        assert online.keys() == expected.keys()
        worst = max(abs(online[item] - expected[item]) for item in expected)
        assert worst <= 1e-6


def test_who_says_nothing_is_answered_too(client: httpx.Client, small_run: Checkout) -> None:
    """The sample's bundle answers a user, a history, and what goes with an item."""
    events = tables.read(small_run.folder / files.SPLIT_EVENTS, tables.SPLIT_EVENTS)
    user = events["user_id"].value_counts().sort("count", "user_id")["user_id"][-1]
    past = events.filter(user_id=user).sort("timestamp")["item_id"].to_list()
    asked = ({"user_id": user}, {"history": past}, {"user_id": "sa_nobody"}, {"history": []})
    known = [True, True, False, False]
    for question, is_known in zip(asked, known, strict=True):
        for strategy in ("ranked", "blend", "popular", "two_tower"):
            sent = question | {"strategy": strategy, "top_k": 5}
            answer = client.post("/recommend", json=sent)
            assert answer.status_code == 200, answer.text
            assert len({hit["item_id"] for hit in answer.json()["items"]}) == 5
            assert answer.json()["is_cold_start"] is not is_known
    answer = client.post("/similar", json={"item_id": past[0], "top_k": 5})
    assert answer.status_code == 200, answer.text
    found = [hit["item_id"] for hit in answer.json()["items"]]
    assert len(set(found)) == 5
    assert past[0] not in found


def test_batch_equals_single(small_run: Checkout, queries: pl.DataFrame) -> None:
    recommender = Recommender.load(small_run.folder / files.BUNDLE)
    together = recommender.recommend(queries, 10)
    apart = pl.concat(
        recommender.recommend(queries.slice(row, 1), 10) for row in range(queries.height)
    ).sort("query_id", "rank")
    assert together.drop("retrieval_score", "ranking_score").equals(
        apart.drop("retrieval_score", "ranking_score")
    )
    for column in ("retrieval_score", "ranking_score"):
        assert (together[column] - apart[column]).abs().max() <= 1e-5


def test_bento_serves_from_another_folder(small_run: Checkout, tmp_path: Path) -> None:
    environment = os.environ | {
        "BENTOML_HOME": str(small_run.folder.parent / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
    }
    built = subprocess.run(
        [sys.executable, "-m", "bentoml", "build", "--output", "tag"],
        cwd=small_run.folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    tag = built.stdout.strip().splitlines()[-1].removeprefix("__tag__:")
    with serving(small_run, tag, tmp_path) as client:
        body = client.post("/search", json={"query": "gift for my mother", "top_k": 3}).json()
    assert len(body["items"]) == 3
