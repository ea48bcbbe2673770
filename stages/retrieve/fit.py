"""Fit: documents and embeddings in, one retriever fitted on each window out."""

from pathlib import Path
from typing import Annotated, cast

import polars as pl
import typer

from stages.core import files, tables
from stages.core.log import get_logger, run
from stages.core.params import RetrieverName, load_params
from stages.core.storage import atomic_folder
from stages.encode.encoders import Encoders
from stages.retrieve.retrievers import TrainingData, make_retriever

log = get_logger(__name__)

ENCODERS_OF = {"bm25": (), "dense_base": ("base",), "dense": ("tuned",), "sparse": ("base",)}
"""The embeddings that each retriever is fitted on."""


def of_window(
    documents: pl.DataFrame, embeddings: dict[str, pl.DataFrame], window: str
) -> TrainingData:
    """Cut out what is known at the end of a window."""
    return TrainingData(
        documents.filter(window=window).sort("item_id"),
        {name: frame.filter(window=window).sort("item_id") for name, frame in embeddings.items()},
    )


def main(
    retriever: Annotated[str, typer.Argument(help="Name of the retriever.")],
    params_file: Annotated[Path, typer.Option("--params")] = files.PARAMS,
    documents_file: Path = files.DOCUMENTS,
    embeddings_folder: Path = files.EMBEDDINGS,
    model_folder: Path = files.TUNED_MODEL,
    retrievers_folder: Path = files.RETRIEVERS,
) -> None:
    """Fit one retriever on both windows and save it."""
    params = load_params(params_file)
    name = cast(RetrieverName, retriever)
    documents = tables.read(documents_file, tables.DOCUMENTS)
    embeddings = {
        encoder: tables.read(embeddings_folder / f"{encoder}.parquet", tables.EMBEDDINGS)
        for encoder in ENCODERS_OF[name]
    }
    encoders = Encoders(params.encoder, model_folder)
    with atomic_folder(retrievers_folder / name) as folder:
        for window in tables.WINDOWS:
            data = of_window(documents, embeddings, window)
            made = make_retriever(name, params.fit, encoders)
            made.fit(data)
            (folder / window).mkdir()
            made.save(folder / window)
            log.info("%s, window %s: %d documents", name, window, data.documents.height)


if __name__ == "__main__":
    run(main)
