"""Events of a window in; who chose what, numbered, as CSV with the maps of numbers to ids, out."""

from pathlib import Path
from typing import Annotated, Literal

import polars as pl
import typer

from stages.core import files, tables
from stages.core.log import UserError, get_logger, run
from stages.core.params import load_params
from stages.core.storage import atomic_folder, write_json
from stages.retrieve.exchange.layout import Exchange
from stages.retrieve.retrievers import Parts
from stages.retrieve.retrievers.choices import choices

log = get_logger(__name__)


def of_part(events: pl.DataFrame, parts: Parts | None, part: str) -> pl.DataFrame:
    """Return the events whose items are of one part.

    Raises:
        UserError: the shop has no such part.
    """
    names = parts.names if parts else []
    if parts is None or part not in names:
        raise UserError(f"no item is of part {part!r}; the shop has {', '.join(names) or 'none'}")
    return events.filter(pl.col("item_id").is_in(parts.item_ids(part).implode()))


def main(
    folder: Annotated[Path, typer.Argument(help="Where the CSV files go.")],
    window: Annotated[Literal["fit", "train"], typer.Option(help="Whose events.")] = "train",
    params_file: Annotated[Path, typer.Option("--params")] = files.PARAMS,
    events_file: Path = files.SPLIT_EVENTS,
    items_file: Path = files.ITEMS,
    users_file: Path = files.USERS,
    part: Annotated[
        str | None, typer.Option(help="Of a shop of parts, whose: one, such as hm.")
    ] = None,
) -> None:
    """Write interactions.csv, users.csv and items.csv for a trainer of matrix factorisation.

    Weights are those of `fit.als.weights`. What is trained with the same `regularization` and
    `alpha` comes back by `stages.retrieve.exchange.import_factors`.
    """
    params = load_params(params_file)
    columns = ["user_id", "item_id", "event", "split"]
    events = tables.read(events_file, tables.SPLIT_EVENTS, columns)
    known = events.filter(pl.col("split").is_in(tables.PARTS_OF_WINDOW[window]))
    if part is not None:
        items = tables.read(items_file, tables.ITEMS)
        users = tables.read(users_file, tables.USERS)
        known = of_part(known, Parts.of(items, users), part)
    chosen = choices(known, params.fit.als.weights.model_dump())
    if chosen.pairs.is_empty():
        raise UserError(
            f"{events_file}: no event of window {window} has a weight; correct fit.als.weights"
        )
    with atomic_folder(folder) as made:
        to = Exchange(made)
        chosen.pairs.write_csv(to.interactions)
        for path, number, ids in (
            (to.users, "user", chosen.user_ids),
            (to.items, "item", chosen.item_ids),
        ):
            # In quotes, no reader takes an id of digits for a number.
            numbered = pl.DataFrame(ids).with_row_index(number)
            numbered.write_csv(path, quote_style="non_numeric")
        write_json(to.about, {"window": window, "part": part, "mean_weight": chosen.mean_weight})
    log.info(
        "window %s: %d events, %d interactions of %d users and %d items in %s",
        window,
        known.height,
        chosen.pairs.height,
        *chosen.shape,
        folder,
    )


if __name__ == "__main__":
    run(main)
