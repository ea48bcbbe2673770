"""Fit: documents and embeddings in, one retriever fitted on each window out."""

import shutil
from pathlib import Path
from typing import Annotated, cast

import polars as pl
import typer

from stages.core import files, tables
from stages.core.log import get_logger, run
from stages.core.params import RetrieverName, load_params
from stages.core.storage import atomic_folder
from stages.encode.encoders import CachedEncoder
from stages.retrieve.retrievers import ENCODER_OF, TrainingData, make_retriever

log = get_logger(__name__)


def of_window(
    window: str,
    documents: pl.DataFrame,
    embeddings: pl.DataFrame | None,
    encoder: CachedEncoder | None,
) -> TrainingData:
    """Cut out what is known at the end of a window."""
    return TrainingData(
        documents.filter(window=window).sort("item_id"),
        None if embeddings is None else embeddings.filter(window=window).sort("item_id"),
        encoder,
    )


def main(
    retriever: Annotated[str, typer.Argument(help="Name of the retriever.")],
    params_file: Annotated[Path, typer.Option("--params")] = files.PARAMS,
    documents_file: Path = files.DOCUMENTS,
    embeddings_folder: Path = files.EMBEDDINGS,
    encoders_folder: Path = files.ENCODERS,
    retrievers_folder: Path = files.RETRIEVERS,
) -> None:
    """Fit one retriever on both windows and save it, its encoder beside it."""
    params = load_params(params_file)
    name = cast(RetrieverName, retriever)
    documents = tables.read(documents_file, tables.DOCUMENTS)
    embeddings, encoder = None, None
    with atomic_folder(retrievers_folder / name) as folder:
        if name in ENCODER_OF:
            which = ENCODER_OF[name]
            embeddings = tables.read(embeddings_folder / f"{which}.parquet", tables.EMBEDDINGS)
            encoder = CachedEncoder(encoders_folder / which)
            shutil.copytree(encoders_folder / which, folder / "encoder")
        for window in tables.WINDOWS:
            data = of_window(window, documents, embeddings, encoder)
            made = make_retriever(name, params.fit)
            made.fit(data)
            (folder / window).mkdir()
            made.save(folder / window)
            log.info("%s, window %s: %d documents", name, window, data.documents.height)


if __name__ == "__main__":
    run(main)
