"""Fit: documents, embeddings and events in, one retriever fitted on each window out."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Annotated, cast

import polars as pl
import typer

from stages.core import files, tables
from stages.core.catalogue import of_window as catalogue_of
from stages.core.log import get_logger, run
from stages.core.params import RetrieverName, load_params
from stages.core.storage import atomic_folder, read_json
from stages.core.windows import Log, impressions_of
from stages.encode.encoders import CachedEncoder
from stages.retrieve.retrievers import (
    ENCODER_OF,
    READS_BESIDES,
    READS_VECTORS,
    Parts,
    TrainingData,
    counts_log,
    make_retriever,
)

log = get_logger(__name__)

_EVENT_COLUMNS = ["user_id", "item_id", "timestamp", "event", "split"]


def of_window(
    window: str,
    documents: pl.DataFrame,
    embeddings: pl.DataFrame | None,
    encoder: CachedEncoder | None,
    items: pl.DataFrame,
    users: pl.DataFrame,
    pictures: pl.DataFrame | None,
) -> TrainingData:
    """Cut out what is known at the end of a window, but not yet what happened in it.

    Catalogue, users and pictures have no times and are given whole.
    """
    return TrainingData(
        documents.filter(window=window).sort("item_id"),
        None if embeddings is None else embeddings.filter(window=window).sort("item_id"),
        encoder,
        items=items,
        users=users,
        pictures=pictures,
    )


def with_behaviour(
    data: TrainingData,
    window: str,
    events: pl.DataFrame,
    impressions: pl.DataFrame,
    in_time: bool,
    parts: Parts | None,
) -> TrainingData:
    """Add what happened until the end of a window, which is that of its last event.

    Of a shop with parts, until each part's own: what is fitted on all of them learns from the union
    of their windows.
    """
    known = events.filter(pl.col("split").is_in(tables.PARTS_OF_WINDOW[window]))
    shown = impressions_of(impressions, events, window, in_time, parts)
    return replace(data, events=known, impressions=shown)


def _embeddings(path: Path, name: RetrieverName) -> pl.DataFrame:
    """Read what one retriever needs of a table that may hold a vector for every token."""
    there = pl.read_parquet_schema(path) if path.exists() else {}
    besides = [column for column in READS_BESIDES.get(name, ()) if column in there]
    return tables.read(path, tables.EMBEDDINGS, [*tables.EMBEDDINGS.columns, *besides])


def main(
    retriever: Annotated[str, typer.Argument(help="Name of the retriever.")],
    params_file: Annotated[Path, typer.Option("--params")] = files.PARAMS,
    events_file: Path = files.SPLIT_EVENTS,
    cuts_file: Annotated[Path, typer.Option("--cuts")] = files.CUTS,
    impressions_file: Path = files.IMPRESSIONS,
    items_file: Path = files.ITEMS,
    properties_file: Path = files.SPLIT_PROPERTIES,
    users_file: Path = files.USERS,
    documents_file: Path = files.DOCUMENTS,
    pictures_file: Path = files.PICTURE_VECTORS,
    embeddings_folder: Path = files.EMBEDDINGS,
    encoders_folder: Path = files.ENCODERS,
    retrievers_folder: Path = files.RETRIEVERS,
) -> None:
    """Fit one retriever on both windows and save it, its encoder and the shop's parts beside it."""
    params = load_params(params_file)
    name = cast(RetrieverName, retriever)
    documents = tables.read(documents_file, tables.DOCUMENTS)
    cuts = read_json(cuts_file)
    ends = {"fit": cuts["fit_end_ms"], "train": cuts["train_end_ms"]}
    in_time = cuts["method"] != "leave_last_out"
    items = tables.read(items_file, tables.ITEMS)
    properties = tables.read(properties_file, tables.SPLIT_PROPERTIES)
    users = tables.read(users_file, tables.USERS)
    pictures = tables.read(pictures_file, tables.PICTURE_VECTORS)
    parts = Parts.of(items, users)
    from_disk = counts_log(name, params.fit) and parts is None and in_time
    if not from_disk:
        events = tables.read(events_file, tables.SPLIT_EVENTS, _EVENT_COLUMNS)
        impressions = tables.read(impressions_file, tables.IMPRESSIONS)
    embeddings, encoder = None, None
    with atomic_folder(retrievers_folder / name) as folder:
        if parts is not None:
            parts.save(folder / "parts")
        if name in ENCODER_OF:
            which = ENCODER_OF[name]
            embeddings = _embeddings(embeddings_folder / f"{which}.parquet", name)
            encoder = CachedEncoder(encoders_folder / which)
            shutil.copytree(encoders_folder / which, folder / "encoder")
        if name in READS_VECTORS:
            embeddings = _embeddings(embeddings_folder / "base.parquet", name)
        for window in tables.WINDOWS:
            catalogue = catalogue_of(items, properties, window)
            given = None if pictures.is_empty() else pictures
            data = of_window(window, documents, embeddings, encoder, catalogue, users, given)
            if from_disk:
                data = replace(data, log=Log(events_file, impressions_file, ends[window]))
            else:
                data = with_behaviour(data, window, events, impressions, in_time, parts)
            made = make_retriever(name, params.fit, params.seed, parts)
            made.fit(data)
            (folder / window).mkdir()
            made.save(folder / window)
            log.info(
                "%s, window %s: %d documents, %d events",
                name,
                window,
                data.documents.height,
                sum(cuts["events"][part] for part in tables.PARTS_OF_WINDOW[window]),
            )


if __name__ == "__main__":
    run(main)
