"""Chroma collections: in a folder that reading leaves as it is, and on a real server."""

import hashlib
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from stages.core.log import UserError
from stages.core.search import top_k
from stages.encode.encoders import chroma


def documents(count: int, seed: int = 0) -> pl.DataFrame:
    vectors = np.random.default_rng(seed).normal(size=(count, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return pl.DataFrame(
        {
            "item_id": [f"i{n:02d}" for n in range(count)],
            "text": [f"text {n}" for n in range(count)],
            "title": [None if n % 3 else f"title {n}" for n in range(count)],
            "vector": pl.Series(vectors, dtype=pl.Array(pl.Float32, 8)),
        }
    )


def asked(count: int) -> np.ndarray:
    return documents(count, seed=1)["vector"].to_numpy(writable=True)


def digest(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def nearest(frame: pl.DataFrame, queries: np.ndarray, k: int) -> list[list[str]]:
    rows, _ = top_k(queries, frame["vector"].to_numpy(), k)
    return [frame["item_id"].gather(row).to_list() for row in rows]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_folder_answers_from_a_copy_and_stays_as_it_is(tmp_path: Path) -> None:
    frame, queries = documents(40), asked(5)
    folder = tmp_path / "chroma"
    chroma.write_folder(folder, "shelf", frame)
    before = digest(folder)
    assert before
    for _ in range(2):
        with chroma.open_copy(folder) as client:
            shelf = client.get_collection("shelf", embedding_function=None)
            found = shelf.query(query_embeddings=queries, n_results=5)
            assert found["ids"] == nearest(frame, queries, 5)
            entry = shelf.get(["i01", "i03"], include=["documents", "metadatas"])
            assert entry["documents"] == ["text 1", "text 3"]
            assert entry["metadatas"] == [{"title": ""}, {"title": "title 3"}]
        assert digest(folder) == before

    chroma.write_folder(folder, "shelf", documents(3))
    with chroma.open_copy(folder) as client:
        assert client.get_collection("shelf", embedding_function=None).count() == 3


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A real Chroma server in its own process."""
    program = shutil.which("chroma", path=str(Path(sys.executable).parent)) or "chroma"
    port, log = free_port(), tmp_path / "log"
    command = [program, "run", "--path", str(tmp_path / "db"), "--port", str(port)]
    try:
        with log.open("wb") as out:
            process = subprocess.Popen(
                [*command, "--host", "127.0.0.1"], stdout=out, stderr=out, cwd=tmp_path
            )
    except OSError as error:
        pytest.skip(f"`chroma run` cannot be started: {error}")
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            if process.poll() is not None:
                break
            try:
                urllib.request.urlopen(f"{url}/api/v2/heartbeat", timeout=5).close()
                break
            except OSError:
                time.sleep(0.2)
        else:
            process.terminate()
        if process.poll() is not None:
            pytest.skip(f"`chroma run` gave no server: {log.read_text(errors='replace')[-300:]}")
        yield url
    finally:
        process.terminate()
        process.wait(20)


def test_a_server_gets_the_collection_anew(server: str) -> None:
    import chromadb

    frame, queries = documents(30), asked(4)
    chroma.write_server(server, "shelf", documents(7, seed=2))
    chroma.write_server(server, "other", documents(5))
    chroma.write_server(server, "shelf", frame)
    host, port = server.removeprefix("http://").split(":")
    client = chromadb.HttpClient(host=host, port=int(port), settings=chroma._settings())
    assert sorted(found.name for found in client.list_collections()) == ["other", "shelf"]
    shelf = client.get_collection("shelf", embedding_function=None)
    assert shelf.count() == 30
    assert shelf.query(query_embeddings=queries, n_results=5)["ids"] == nearest(frame, queries, 5)


def test_where_no_server_answers_the_parameter_is_named() -> None:
    with pytest.raises(UserError, match=r"embed\.chroma_url 'http://127\.0\.0\.1:\d+'"):
        chroma.write_server(f"http://127.0.0.1:{free_port()}", "shelf", documents(3))


@pytest.mark.parametrize("url", ["shop:9000", "127.0.0.1:8000", "ftp://shop"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(UserError, match="write it as http://host:port"):
        chroma.write_server(url, "shelf", documents(3))
