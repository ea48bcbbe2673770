"""Chroma collections: written from vectors that exist already, read only through a copy.

Opening a `PersistentClient` writes into its folder, so that a folder tracked by DVC would be dirty
after every read; `open_copy` is the one way in which a tracked folder is opened.
"""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import polars as pl

from stages.core.log import UserError, progress
from stages.core.storage import atomic_folder


def write_folder(
    folder: Path, collection: str, documents: pl.DataFrame, graph: Mapping[str, int] | None = None
) -> None:
    """Write a collection into a new folder.

    Args:
        folder: replaced whole.
        collection: its name.
        documents: item_id, text, title (may be null) and vector.
        graph: settings of its HNSW index; None for Chroma's own.
    """
    import chromadb

    with atomic_folder(folder) as temporary:
        client = chromadb.PersistentClient(str(temporary), settings=_settings())
        _fill(client, collection, documents, graph or {})
        _close(client)


def write_server(url: str, collection: str, documents: pl.DataFrame) -> None:
    """Write a collection to a Chroma server; one of that name is replaced.

    Raises:
        UserError: `url` is none, or no Chroma server answers there.
    """
    import chromadb

    parsed = urlparse(url)
    if parsed.scheme not in ("http", "https") or not parsed.hostname:
        raise UserError(f"embed.chroma_url {url!r} is no URL; write it as http://host:port")
    try:
        client = chromadb.HttpClient(
            host=parsed.hostname,
            port=parsed.port or 8000,
            ssl=parsed.scheme == "https",
            settings=_settings(),
        )
    except ValueError as error:
        raise UserError(f"embed.chroma_url {url!r}: no Chroma server answers ({error})") from error
    if collection in {existing.name for existing in client.list_collections()}:
        client.delete_collection(collection)
    _fill(client, collection, documents, {})


@contextmanager
def open_copy(folder: Path) -> Iterator[Any]:
    """Yield a client on a temporary copy of a Chroma folder; the folder itself stays untouched."""
    import chromadb

    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary) / "chroma"
        shutil.copytree(folder, copy, copy_function=shutil.copyfile)
        client = chromadb.PersistentClient(str(copy), settings=_settings())
        try:
            yield client
        finally:
            _close(client)


def _close(client: Any) -> None:
    """Let go of the folder, so that it may be moved or deleted."""
    client.close()


def _settings() -> Any:
    from chromadb.config import Settings

    return Settings(anonymized_telemetry=False)


def _fill(client: Any, collection: str, documents: pl.DataFrame, graph: Mapping[str, int]) -> None:
    made = client.create_collection(
        collection, configuration={"hnsw": {"space": "ip", **graph}}, embedding_function=None
    )
    step = client.get_max_batch_size()
    for start in progress(range(0, documents.height, step), desc="chroma", unit="batch"):
        part = documents.slice(start, step)
        made.add(
            ids=part["item_id"].to_list(),
            embeddings=part["vector"].to_numpy(),
            documents=part["text"].to_list(),
            metadatas=[{"title": title or ""} for title in part["title"]],
        )
