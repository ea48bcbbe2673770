"""Fit: documents, embeddings and events in, one retriever fitted on each window out."""

import shutil
from functools import partial
from pathlib import Path
from typing import Annotated, cast

import typer

from stages.core import files, tables
from stages.core.log import get_logger, run
from stages.core.params import Fit, RetrieverName, load_params
from stages.core.processes import in_processes
from stages.core.storage import atomic_folder
from stages.core.threads import CORES
from stages.retrieve.retrievers import ENCODER_OF, TRAINS, make_retriever
from stages.retrieve.retrievers.inputs import Inputs

log = get_logger(__name__)

_WORTH_A_PROCESS = 50_000
"""Events of a window from which on its training takes longer than a process needs to begin."""


def fit_window(window: str, inputs: Inputs, fit: Fit, seed: int, folder: Path) -> int:
    """Fit on one window and save in a folder of its name; return how many documents it has."""
    data = inputs.of_window(window)
    made = make_retriever(inputs.name, fit, seed, inputs.parts)
    made.fit(data)
    (folder / window).mkdir()
    made.save(folder / window)
    return data.documents.height


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
    name = cast(RetrieverName, retriever)
    params = load_params(params_file)
    inputs = Inputs(
        *(name, params, events_file, cuts_file, impressions_file, items_file),
        *(properties_file, users_file, documents_file, pictures_file),
        *(embeddings_folder, encoders_folder),
    )
    counts = inputs.cuts["events"]
    events = {w: sum(counts[part] for part in tables.PARTS_OF_WINDOW[w]) for w in tables.WINDOWS}
    apart = name in TRAINS and CORES > 1 and min(events.values()) >= _WORTH_A_PROCESS
    with atomic_folder(retrievers_folder / name) as folder:
        if inputs.parts is not None:
            inputs.parts.save(folder / "parts")
        if name in ENCODER_OF:
            shutil.copytree(encoders_folder / ENCODER_OF[name], folder / "encoder")
        work = partial(fit_window, inputs=inputs, fit=params.fit, seed=params.seed, folder=folder)
        done = in_processes(work, tables.WINDOWS) if apart else map(work, tables.WINDOWS)
        for window, documents in zip(tables.WINDOWS, done, strict=True):
            fitted = (name, window, documents, events[window])
            log.info("%s, window %s: %d documents, %d events", *fitted)


if __name__ == "__main__":
    run(main)
