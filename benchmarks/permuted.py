"""Copy a log and what is said of its items with every id given to another, at random.

Nothing but ids changes, so that figures of the copy must be those of the log, but for ties and for
what ALS and the two towers start from. With `ingest.source: interactions` in `params.yaml`:

    python -m benchmarks.permuted /tmp/permuted
    dvc exp run -S ingest.folder=/tmp/permuted
"""

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import polars as pl
import typer

from stages.core import files
from stages.core.params import Interactions, load_params
from stages.prepare.sources.found import found_files, required_files


@dataclass(frozen=True)
class Form:
    """How a file is written, and which of its columns hold ids: {column: "user" or "item"}."""

    columns: dict[str, str]
    separator: str
    header: bool


def forms(folder: Path, log: Interactions) -> dict[Path, Form]:
    """Return the form of each file of a log."""
    made = {
        path: Form({about.columns["item_id"]: "item"}, about.separator, about.header)
        for about in log.items
        for path in required_files(folder, [about.file], "ingest.interactions.items")
    }
    of_log = Form({log.columns.user: "user", log.columns.item: "item"}, log.separator, log.header)
    for path in found_files(folder, log.events, "ingest.interactions"):
        made.setdefault(path, of_log)
    return made


def read(path: Path, form: Form) -> pl.DataFrame:
    """Read a file as it stands, all as text where it is CSV."""
    if path.suffix == ".parquet":
        return pl.read_parquet(path)
    return pl.read_csv(path, separator=form.separator, has_header=form.header, infer_schema=False)


def write(frame: pl.DataFrame, path: Path, form: Form) -> None:
    """Write what `read` read, gzipped where the name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        frame.write_parquet(path)
        return
    text = frame.write_csv(separator=form.separator, include_header=form.header).encode()
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
    form_of = forms(folder, log)
    frames = {path: read(path, form) for path, form in form_of.items()}
    rng = np.random.default_rng(seed)
    to = {}
    for kind in ("user", "item"):
        ids = [
            frames[path].select(pl.col(name).explode().cast(pl.String)).to_series().alias("id")
            for path, form in form_of.items()
            for name, own in form.columns.items()
            if own == kind
        ]
        to[kind] = permuted(pl.concat(ids), rng)
    target.mkdir(parents=True)
    for path, frame in frames.items():
        copy, form = target / path.relative_to(folder), form_of[path]
        write(renamed(frame, form.columns, to), copy, form)
        typer.echo(f"{copy}: {frame.height:,} rows")


if __name__ == "__main__":
    typer.run(main)
