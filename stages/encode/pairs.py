"""Pairs: reviews of window `fit` in, queries with a document passage that they should find out."""

from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from stages.core import catalogue, files, tables
from stages.core.log import get_logger, run
from stages.core.params import load_params
from stages.core.storage import write_json
from stages.encode.encoders import CachedEncoder
from stages.encode.pairing.negatives import mine_negatives
from stages.encode.pairing.positives import positives
from stages.encode.pairing.queries import hide_titles, queries_of

log = get_logger(__name__)


def main(
    params_file: Annotated[Path, typer.Option("--params")] = files.PARAMS,
    items_file: Path = files.ITEMS,
    properties_file: Path = files.SPLIT_PROPERTIES,
    events_file: Path = files.SPLIT_EVENTS,
    keywords_file: Path = files.KEYWORDS,
    summaries_file: Path = files.SUMMARIES,
    documents_file: Path = files.DOCUMENTS,
    base_folder: Path = files.BASE_MODEL,
    pairs_file: Path = files.PAIRS,
    metrics_file: Path = files.METRICS / "pairs.json",
    store: Path = files.VECTOR_STORE,
) -> None:
    """Make the training pairs of window `fit`."""
    params = load_params(params_file)
    settings = params.pairs
    properties = tables.read(properties_file, tables.SPLIT_PROPERTIES)
    items = catalogue.of_window(tables.read(items_file, tables.ITEMS), properties, "fit")
    events = tables.read(events_file, tables.SPLIT_EVENTS).filter(split="fit")
    keywords = tables.read(keywords_file, tables.KEYWORDS).join(events, on="event_id", how="semi")
    summaries = tables.read(summaries_file, tables.SUMMARIES)
    asked = queries_of(events, keywords, settings)
    counts: dict[str, Any] = {"asked": asked.height}
    if settings.max_pairs is not None:
        newest = asked.join(events.select("event_id", "timestamp"), on="event_id")
        newest = newest.sort("timestamp", "pair_id").tail(settings.max_pairs)
        asked = asked.join(newest, on="pair_id", how="semi", maintain_order="left")
    asked, hidden = hide_titles(asked, items.select("item_id", "title"))
    pairs = positives(asked, items, events, keywords, summaries, params.documents)
    counts |= hidden | {"without_document": asked.height - pairs.height}
    none = pl.lit([], pl.List(pl.String))
    pairs = pairs.with_columns(negatives=none, negative_ids=none)
    if settings.format == "triplet":
        window = tables.read(documents_file, tables.DOCUMENTS).filter(window="fit")
        encoder = CachedEncoder(base_folder, store)
        found = mine_negatives(pairs, window, events, encoder, settings)
        counts["without_negatives"] = pairs.height - found.height
        pairs = found
    tables.write(pairs, pairs_file, tables.PAIRS)
    write_json(metrics_file, counts | {"pairs": pairs.height})
    log.info("%d reviews: %s, %d pairs", events.height, counts, pairs.height)


if __name__ == "__main__":
    run(main)
