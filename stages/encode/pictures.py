"""Pictures: the items' picture files in, a vector for each that can be read out."""

import os
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
import typer

from stages.core import files, tables
from stages.core.log import get_logger, run
from stages.core.params import load_params
from stages.core.storage import write_json

log = get_logger(__name__)

_LISTED = 20
"""Pictures of each kind of fault whose names are written."""


def locate(items: pl.DataFrame, folder: Path) -> pl.DataFrame:
    """Find the files of the items' pictures.

    Args:
        items: item_id and image: a path, absolute or as seen from the folder.
        folder: into which `ingest` wrote pictures.

    Returns:
        item_id, image, and path, of items with an image; path is null where there is no such file.
    """
    named = items.select("item_id", "image").drop_nulls().sort("item_id")
    paths = [str(folder / name) for name in named["image"]]
    there = [path if os.path.isfile(path) else None for path in paths]
    return named.with_columns(path=pl.Series(there, dtype=pl.String))


def faults_of(located: pl.DataFrame, good: np.ndarray) -> dict[str, pl.Series]:
    """Return the names of the pictures left out, by why.

    Args:
        located: what `locate` returns.
        good: for each of its rows that has a path, whether it is a picture.
    """
    absent = located.filter(pl.col("path").is_null())["image"]
    address = absent.str.contains("://", literal=True)
    broken = located.drop_nulls("path").filter(pl.Series(~good))["image"]
    return {"missing": absent.filter(~address), "address": absent.filter(address), "broken": broken}


def vectors_frame(item_ids: pl.Series, vectors: np.ndarray, model_hash: str) -> pl.DataFrame:
    """Join ids with their vectors, float32 of shape (n, d)."""
    return item_ids.to_frame("item_id").with_columns(
        vector=pl.Series(vectors, dtype=pl.Array(pl.Float32, vectors.shape[1])),
        model_hash=pl.lit(model_hash),
    )


def main(
    params_file: Annotated[Path, typer.Option("--params")] = files.PARAMS,
    items_file: Path = files.ITEMS,
    pictures_folder: Path = files.PICTURES,
    vectors_file: Path = files.PICTURE_VECTORS,
    metrics: Path = files.METRICS / "pictures.json",
    store: Path = files.VECTOR_STORE,
) -> None:
    """Encode the pictures that there are; count, log and list those that cannot be read."""
    params = load_params(params_file)
    settings = params.pictures
    items = tables.read(items_file, tables.ITEMS, ["item_id", "image"])
    counted: dict[str, Any] = {
        "encoder": settings.encoder,
        "items": items.height,
        "without": items["image"].null_count(),
    }
    if settings.encoder == "none":
        none = vectors_frame(items["item_id"].clear(), np.empty((0, 0), np.float32), "")
        tables.write(none, vectors_file, tables.PICTURE_VECTORS)
        write_json(metrics, counted | {"encoded": 0, "skipped": {}, "examples": {}})
        log.info("pictures.encoder is none: nothing is encoded of %d items", items.height)
        return
    from stages.encode.imaging import encode_files, make_encoder

    encoder = make_encoder(settings)
    located = locate(items, pictures_folder)
    there = located.drop_nulls("path")
    paths = [Path(path) for path in there["path"]]
    vectors, good = encode_files(paths, encoder, store, settings.batch_size)
    frame = vectors_frame(there["item_id"], vectors, encoder.model_hash).filter(good)
    tables.write(frame, vectors_file, tables.PICTURE_VECTORS)
    faults = faults_of(located, good)
    skipped = {why: len(names) for why, names in faults.items()}
    listed = {why: names.head(_LISTED).to_list() for why, names in faults.items() if len(names)}
    write_json(metrics, counted | {"encoded": frame.height, "skipped": skipped, "examples": listed})
    for why, names in listed.items():
        log.warning("%d pictures skipped (%s): %s", skipped[why], why, ", ".join(names[:3]))
    log.info(
        "%d items: %d pictures encoded, %d without one, %d skipped",
        *(items.height, frame.height, counted["without"], sum(skipped.values())),
    )


if __name__ == "__main__":
    run(main)
