"""Raw files, or a generated shop, to items with their properties, users, events and impressions."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from stages.core import files, tables
from stages.core.log import UserError, get_logger, run
from stages.core.params import Ingest, load_params
from stages.core.storage import atomic_folder, write_json
from stages.prepare.sources import Ingested

log = get_logger(__name__)


def raw_folder(options: Ingest, params_file: Path) -> Path:
    """Return `ingest.folder`, as seen from here or else from beside the params file.

    Raises:
        UserError: it is in neither place.
    """
    for folder in (options.folder, params_file.parent / options.folder):
        if folder.is_dir():
            return folder
    raise UserError(
        f"{options.folder}: no such folder; make it, or correct ingest.folder in {params_file}"
    )


def read_source(options: Ingest, seed: int, params_file: Path) -> Ingested:
    """Run the reader that the parameters name."""
    if options.source == "sample":
        from stages.prepare.sources import sample

        return sample.generate(options.sample, seed)
    if options.source == "interactions":
        from stages.prepare.sources import interactions

        return interactions.ingest(options, raw_folder(options, params_file))
    if options.source == "hm_retailrocket":
        from stages.prepare.sources import hm_retailrocket

        return hm_retailrocket.ingest(options, raw_folder(options, params_file))
    if options.source == "homepage_feed":
        from stages.prepare.sources import homepage_feed

        return homepage_feed.ingest(options, raw_folder(options, params_file))
    from stages.prepare.sources import amazon

    return amazon.ingest(options, raw_folder(options, params_file))


def counts(raw: Ingested) -> dict[str, Any]:
    """Return what came in, what is kept, and from when to when."""
    first, last = raw.events.select(
        first=pl.col("timestamp").min().dt.to_string("iso:strict"),
        last=pl.col("timestamp").max().dt.to_string("iso:strict"),
    ).row(0)
    return {
        "rows": raw.rows,
        "events": raw.events.height,
        "duplicates": raw.duplicates,
        "bad_rows": raw.bad_rows,
        "items": raw.items.height,
        "users": raw.users.height,
        "impressions": raw.impressions.height,
        "properties": raw.properties.height,
        "unseen_users": raw.unseen_users,
        "first_time": first,
        "last_time": last,
    }


def main(
    params_file: Annotated[Path, typer.Option("--params")] = files.PARAMS,
    items: Path = files.ITEMS,
    users: Path = files.USERS,
    events: Path = files.EVENTS,
    impressions: Path = files.IMPRESSIONS,
    properties: Path = files.PROPERTIES,
    truth: Path = files.TRUTH,
    pictures: Path = files.PICTURES,
    metrics: Path = files.METRICS / "ingest.json",
) -> None:
    """Read the source that `ingest.source` names and write its tables."""
    params = load_params(params_file)
    raw = read_source(params.ingest, params.seed, params_file)
    with ThreadPoolExecutor() as writer:  # The small tables in the gaps that the large one leaves.
        writing = [
            writer.submit(tables.write, raw.events, events, tables.EVENTS),
            writer.submit(tables.write, raw.items, items, tables.ITEMS),
            writer.submit(tables.write, raw.users, users, tables.USERS),
            writer.submit(tables.write, raw.impressions, impressions, tables.IMPRESSIONS),
            writer.submit(tables.write, raw.properties, properties, tables.PROPERTIES),
        ]
    for table in writing:
        table.result()
    with atomic_folder(truth) as folder:
        for name, frame in raw.truth.items():
            frame.write_parquet(folder / f"{name}.parquet")
    with atomic_folder(pictures) as folder:
        for name, picture in raw.pictures.items():
            (folder / name).parent.mkdir(exist_ok=True)
            if isinstance(picture, Path):
                shutil.copyfile(picture, folder / name)
            else:
                (folder / name).write_bytes(picture)
    counted = counts(raw)
    write_json(metrics, counted)
    log.info(
        "%(rows)d rows in: %(events)d events of %(users)d users and %(items)d items, from "
        "%(first_time).10s to %(last_time).10s, out; %(duplicates)d duplicates and "
        "%(bad_rows)d bad lines left out",
        counted,
    )


if __name__ == "__main__":
    run(main)
