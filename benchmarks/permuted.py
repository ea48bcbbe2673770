"""Copy a log and what is said of its items with every id given to another, at random.

Nothing but ids changes, so that figures of the copy must be those of the log, but for ties and for
what ALS and the two towers start from. With `ingest.source: interactions` in `params.yaml`:

    python -m benchmarks.permuted /tmp/permuted
    dvc exp run -S ingest.folder=/tmp/permuted
"""

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
import polars as pl
import typer

from stages.core import files
from stages.core.params import Interactions, load_params
from stages.prepare.sources.found import found_files, required_files


def id_columns(folder: Path, log: Interactions) -> dict[Path, dict[str, str]]:
    """Return the columns of each file that hold ids: {path: {column: "user" or "item"}}."""
    columns = {
        path: {about.columns["item_id"]: "item"}
        for about in log.items
        for path in required_files(folder, [about.file], "ingest.interactions.items")
    }
    for path in found_files(folder, log.events, "ingest.interactions"):
        columns.setdefault(path, {log.columns.user: "user", log.columns.item: "item"})
    return columns


def read(path: Path, separator: str, header: bool) -> pl.DataFrame:
    """Read a file as it stands, all as text where it is CSV."""
    if path.suffix == ".parquet":
        return pl.read_parquet(path)
    return pl.read_csv(path, separator=separator, has_header=header, infer_schema=False)


def write(frame: pl.DataFrame, path: Path, separator: str, header: bool) -> None:
    """Write what `read` read, gzipped where the name says so."""
    if path.suffix == ".parquet":
        frame.write_parquet(path)
        return
    text = frame.write_csv(separator=separator, include_header=header).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)


def permuted(ids: pl.Series, rng: np.random.Generator) -> dict[str, str]:
    """Give each id another of them."""
    every = ids.drop_nulls().unique().sort()
    return dict(zip(every, every.gather(rng.permutation(len(every))), strict=True))


def renamed(
    frame: pl.DataFrame, columns: Mapping[str, str], to: Mapping[str, dict]
) -> pl.DataFrame:
    """Replace ids, also those within lists; ids keep the column's type."""

    def new(name: str) -> pl.Expr:
        kind, names = frame.schema[name], to[columns[name]]
        if isinstance(kind, pl.List):
            text = pl.element().cast(pl.String).replace_strict(names).cast(kind.inner)
            return pl.col(name).list.eval(text)
        return pl.col(name).cast(pl.String).replace_strict(names).cast(kind)

    return frame.with_columns(new(name) for name in columns)


def main(
    target: Annotated[Path, typer.Argument(help="Folder for the copy.")],
    params_file: Annotated[Path, typer.Option("--params")] = files.PARAMS,
    seed: Annotated[int, typer.Option(help="Decides who gets whose id.")] = 7,
) -> None:
    """Write the copy."""
    ingest = load_params(params_file).ingest
    log, folder = ingest.interactions, Path(ingest.folder)
    of_file = {folder / about.file: (about.separator, about.header) for about in log.items}
    columns = id_columns(folder, log)
    style = {path: of_file.get(path, (log.separator, log.header)) for path in columns}
    frames = {path: read(path, *style[path]) for path in columns}
    rng = np.random.default_rng(seed)
    to = {}
    for kind in ("user", "item"):
        ids = [
            frames[path].select(pl.col(name).explode().cast(pl.String)).to_series().alias("id")
            for path, kinds in columns.items()
            for name, own in kinds.items()
            if own == kind
        ]
        to[kind] = permuted(pl.concat(ids), rng)
    target.mkdir(parents=True)
    for path, frame in frames.items():
        write(renamed(frame, columns[path], to), target / path.name, *style[path])
        typer.echo(f"{target / path.name}: {frame.height:,} rows")


if __name__ == "__main__":
    typer.run(main)
