"""Examples: blended candidates in, labelled (query, item) rows with features out."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from stages.core import catalogue, files, tables
from stages.core.by_query import ByQuery, pieces
from stages.core.log import get_logger, run
from stages.core.params import load_params
from stages.core.parts import Parts
from stages.core.storage import atomic_folder
from stages.core.threads import side_by_side
from stages.rank.features import FeatureProgram

log = get_logger(__name__)

_CHUNK = 5_000
"""Queries whose candidates are described in one piece."""


def label(examples: pl.DataFrame, queries: pl.DataFrame) -> pl.DataFrame:
    """Add `split` and `relevance`: 1 where the item is among the query's targets, else 0."""
    chosen = queries.select("query_id", item_id="targets").explode("item_id").unique()
    return (
        examples.join(
            chosen.with_columns(relevance=pl.lit(1, pl.Int8)),
            on=["query_id", "item_id"],
            how="left",
            maintain_order="left",
        )
        .with_columns(pl.col("relevance").fill_null(0))
        .join(queries.select("query_id", "split"), on="query_id", how="left", maintain_order="left")
    )


def described(
    program: FeatureProgram, queries: pl.DataFrame, candidates: ByQuery, blended: ByQuery
) -> Iterator[pl.DataFrame]:
    """Yield labelled examples of queries in pieces; see `FeatureProgram.transform`."""

    def describe(some: pl.DataFrame) -> pl.DataFrame:
        return label(program.transform(some, candidates.of(some), blended.of(some)), some)

    yield from side_by_side(describe, pieces(queries, _CHUNK))


def main(
    params_file: Annotated[Path, typer.Option("--params")] = files.PARAMS,
    items_file: Path = files.ITEMS,
    users_file: Path = files.USERS,
    properties_file: Path = files.SPLIT_PROPERTIES,
    events_file: Path = files.SPLIT_EVENTS,
    queries_file: Path = files.QUERIES,
    documents_file: Path = files.DOCUMENTS,
    candidates_folder: Path = files.CANDIDATES,
    blend_file: Path = files.BLEND,
    examples_file: Path = files.EXAMPLES,
    features_folder: Path = files.FEATURES_MODEL,
) -> None:
    """Fit the feature program on both windows and describe each split's candidates with its own."""
    params = load_params(params_file)
    items = tables.read(items_file, tables.ITEMS)
    parts = Parts.of(items, tables.read(users_file, tables.USERS))
    events = tables.read(events_file, tables.SPLIT_EVENTS)
    properties = tables.read(properties_file, tables.SPLIT_PROPERTIES)
    queries = tables.read(queries_file, tables.QUERIES)
    documents = tables.read(documents_file, tables.DOCUMENTS)
    lists = [candidates_folder / f"{name}.parquet" for name in sorted(params.retrievers)]
    candidates = ByQuery([tables.read(path, tables.CANDIDATES) for path in lists])
    blended = ByQuery([tables.read(blend_file, tables.CANDIDATES)])
    made: list[pl.DataFrame] = []
    with atomic_folder(features_folder) as folder:
        for window in tables.WINDOWS:
            program = FeatureProgram(params.examples, params.retrievers).fit(
                catalogue.of_window(items, properties, window),
                documents.filter(window=window),
                events.filter(pl.col("split").is_in(tables.PARTS_OF_WINDOW[window])),
                parts,
            )
            (folder / window).mkdir()
            program.save(folder / window)
            splits = [s for s, behind in tables.WINDOW_OF_SPLIT.items() if behind == window]
            asked = queries.filter(pl.col("split").is_in(splits))
            made += described(program, asked, candidates, blended)
    examples = pl.concat(made)
    tables.write(examples, examples_file, tables.EXAMPLES)
    log.info(
        "%d examples of %d queries, %d features, %d relevant",
        examples.height,
        examples["query_id"].n_unique(),
        len(tables.feature_names(examples)),
        int(examples["relevance"].sum()),
    )


if __name__ == "__main__":
    run(main)
