"""Candidates: queries and one fitted retriever in, its best items for every held-out query out."""

from functools import partial
from pathlib import Path
from typing import Annotated, cast

import polars as pl
import typer

from stages.core import files, tables
from stages.core.log import get_logger, progress, run
from stages.core.params import RetrieverName, load_params
from stages.core.threads import AT_ONCE, side_by_side
from stages.retrieve.retrievers import ENCODER_OF, load_retriever

log = get_logger(__name__)

_CHUNK = 4096
"""Queries answered between two updates of the progress bar."""


def main(
    retriever: Annotated[str, typer.Argument(help="Name of the retriever.")],
    params_file: Annotated[Path, typer.Option("--params")] = files.PARAMS,
    queries_file: Path = files.QUERIES,
    retrievers_folder: Path = files.RETRIEVERS,
    candidates_folder: Path = files.CANDIDATES,
    store: Path = files.VECTOR_STORE,
) -> None:
    """Answer each split's queries with the retriever of the window behind it."""
    params = load_params(params_file)
    name = cast(RetrieverName, retriever)
    queries = tables.read(queries_file, tables.QUERIES)
    found = []
    # What encodes queries has every core at work already.
    at_once = 1 if name in ENCODER_OF else AT_ONCE
    for split, window in tables.WINDOW_OF_SPLIT.items():
        fitted = load_retriever(name, retrievers_folder / name / window, store)
        asked = queries.filter(split=split)
        chunks = [asked.slice(start, _CHUNK) for start in range(0, asked.height, _CHUNK)]
        answer = partial(fitted.retrieve, k=params.candidates.top_k)
        answers = side_by_side(answer, chunks, at_once)
        parts = list(progress(answers, total=len(chunks), desc=f"{name} {split}"))
        found += parts
        count = sum(part.height for part in parts)
        log.info("%s, %s: %d queries, %d candidates", name, split, asked.height, count)
    candidates = pl.concat(found)
    tables.write(candidates, candidates_folder / f"{name}.parquet", tables.CANDIDATES)


if __name__ == "__main__":
    run(main)
