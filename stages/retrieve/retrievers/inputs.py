"""What one retriever is fitted on: tables of the pipeline in, what one window knows of them out."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from stages.core import tables
from stages.core.catalogue import of_window as catalogue_of
from stages.core.params import Params, RetrieverName
from stages.core.storage import read_json
from stages.core.windows import Log, impressions_of
from stages.encode.encoders import CachedEncoder
from stages.retrieve.retrievers import (
    ENCODER_OF,
    READS_BESIDES,
    READS_VECTORS,
    Parts,
    TrainingData,
    counts_log,
)

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


@dataclass(frozen=True)
class Inputs:
    """What one retriever is fitted on: files, each read when it is first needed.

    Attributes:
        name: of the retriever.
        params: all of them.
        others: as the options of the command.
    """

    name: RetrieverName
    params: Params
    events_file: Path
    cuts_file: Path
    impressions_file: Path
    items_file: Path
    properties_file: Path
    users_file: Path
    documents_file: Path
    pictures_file: Path
    embeddings_folder: Path
    encoders_folder: Path

    @cached_property
    def cuts(self) -> dict[str, Any]:
        """Where windows end, and how many events each part has."""
        cuts: dict[str, Any] = read_json(self.cuts_file)
        return cuts

    @cached_property
    def documents(self) -> pl.DataFrame:
        """Documents of both windows."""
        return tables.read(self.documents_file, tables.DOCUMENTS)

    @cached_property
    def items(self) -> pl.DataFrame:
        """The catalogue."""
        return tables.read(self.items_file, tables.ITEMS)

    @cached_property
    def properties(self) -> pl.DataFrame:
        """What the catalogue says at times."""
        return tables.read(self.properties_file, tables.SPLIT_PROPERTIES)

    @cached_property
    def users(self) -> pl.DataFrame:
        """Users, all of them."""
        return tables.read(self.users_file, tables.USERS)

    @cached_property
    def pictures(self) -> pl.DataFrame | None:
        """Vectors of pictures, where there are any."""
        pictures = tables.read(self.pictures_file, tables.PICTURE_VECTORS)
        return None if pictures.is_empty() else pictures

    @cached_property
    def parts(self) -> Parts | None:
        """The shop's parts, where it has some."""
        return Parts.of(self.items, self.users)

    @cached_property
    def encoder(self) -> CachedEncoder | None:
        """The retriever's encoder, where it has one."""
        which = ENCODER_OF.get(self.name)
        return None if which is None else CachedEncoder(self.encoders_folder / which)

    @cached_property
    def embeddings(self) -> pl.DataFrame | None:
        """What the retriever reads of a table that may hold a vector for every token."""
        which = "base" if self.name in READS_VECTORS else ENCODER_OF.get(self.name)
        if which is None:
            return None
        path = self.embeddings_folder / f"{which}.parquet"
        there = pl.read_parquet_schema(path) if path.exists() else {}
        besides = [column for column in READS_BESIDES.get(self.name, ()) if column in there]
        return tables.read(path, tables.EMBEDDINGS, [*tables.EMBEDDINGS.columns, *besides])

    @cached_property
    def behaviour(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Events and impressions, all of them."""
        events = tables.read(self.events_file, tables.SPLIT_EVENTS, _EVENT_COLUMNS)
        return events, tables.read(self.impressions_file, tables.IMPRESSIONS)

    def of_window(self, window: str) -> TrainingData:
        """Return what is known of one window at its end."""
        catalogue = catalogue_of(self.items, self.properties, window)
        data = of_window(
            *(window, self.documents, self.embeddings, self.encoder),
            *(catalogue, self.users, self.pictures),
        )
        in_time = self.cuts["method"] != "leave_last_out"
        if counts_log(self.name, self.params.fit) and self.parts is None and in_time:
            end = self.cuts[f"{window}_end_ms"]
            return replace(data, log=Log(self.events_file, self.impressions_file, end))
        return with_behaviour(data, window, *self.behaviour, in_time, self.parts)
