"""Factors as CSV and the maps of an export in; a fitted `als` retriever out."""

from pathlib import Path
from typing import Annotated

import numpy as np
import polars as pl
import typer

from stages.core import files
from stages.core.log import UserError, get_logger, run
from stages.core.params import load_params
from stages.core.storage import atomic_folder, read_json
from stages.retrieve.exchange.layout import Exchange
from stages.retrieve.retrievers import folder_of
from stages.retrieve.retrievers.als import AlsRetriever

log = get_logger(__name__)

_ALIKE = 0.9
"""Mean cosine under which users that are folded in are not those that were trained."""


def read_ids(path: Path) -> pl.DataFrame:
    """Read a map of numbers to ids: `number` (Int64) and `id`, sorted by id.

    Raises:
        UserError: the file is missing, is no CSV or has other columns, or a number or an id stands
            twice.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file; export the interactions again")
    try:
        read = pl.read_csv(path, infer_schema=False)
    except (pl.exceptions.ComputeError, pl.exceptions.NoDataError) as error:
        raise UserError(
            f"{path} is no CSV of a number and an id a row ({str(error).splitlines()[0]}); export "
            "the interactions again"
        ) from None
    if read.width != 2:
        raise UserError(f"{path} has {read.width} columns, expected a number and an id")
    read.columns = ["number", "id"]
    numbered = read.with_columns(pl.col("number").cast(pl.Int64, strict=False))
    for name in numbered.columns:
        wrong = numbered[name].is_null() | numbered[name].is_duplicated()
        if wrong.any():
            row = int(wrong.arg_max() or 0)
            raise UserError(
                f"{path}, row {row + 2}: {name} {read[name][row]!r} is none or stands twice; "
                "export the interactions again"
            )
    return numbered.sort("id")


def read_factors(path: Path, ids: pl.DataFrame) -> tuple[pl.Series, np.ndarray]:
    """Read a number and its factors a row, as `id,f0,f1` or as Spark's `id,"[f0, f1]"`.

    Args:
        path: CSV, with a header or without.
        ids: what `read_ids` returns.

    Returns:
        ids, sorted, and float32 factors of shape (ids, factors).

    Raises:
        UserError: a number is not in the map or stands twice, a row has more or fewer factors than
            the first, a factor is no finite number, or there is none.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file; give the factors that were trained")
    try:
        raw = pl.read_csv(path, has_header=False, infer_schema=False)
    except (pl.exceptions.ComputeError, pl.exceptions.NoDataError) as error:
        raise UserError(f"{path} is no CSV of factors: {str(error).splitlines()[0]}") from None
    line = pl.concat_str(pl.all(), separator=" ", ignore_nulls=True)
    line = line.str.replace_all(r'[\[\]"\s,]+', " ")
    fields = raw.select(line.str.strip_chars().str.split(" ").alias("fields"))
    fields = fields.with_row_index("row", 1).select(
        "row",
        number=pl.col("fields").list.first(),
        factors=pl.col("fields").list.slice(1),
    )
    if fields.height and fields["number"].cast(pl.Int64, strict=False)[0] is None:
        fields = fields.slice(1)
    if fields.is_empty():
        raise UserError(f"{path} holds no factors; give the factors that were trained")
    read = fields.with_columns(
        pl.col("number").cast(pl.Int64, strict=False), length=pl.col("factors").list.len()
    ).join(ids, on="number", how="left", maintain_order="left")
    width = int(read["length"][0])

    def refuse(wrong: pl.Series, what: str) -> None:
        if wrong.any():
            at = fields.row(int(wrong.arg_max() or 0), named=True)
            raise UserError(f"{path}, row {at['row']}, id {at['number']}: {what}")

    refuse(read["id"].is_null(), "not in the map of ids; use that of the export it was trained on")
    refuse(read["number"].is_duplicated(), "stands twice; keep one row an id")
    refuse(
        (read["length"] != width) | (read["length"] == 0),
        f"expected {max(width, 1)} factors, as many as in the first row",
    )
    values = read["factors"].list.eval(pl.element().cast(pl.Float32, strict=False))
    finite = values.list.eval(pl.element().is_finite().fill_null(False)).list.all()
    refuse(~finite, "a factor is no finite number; train again with more regularisation")
    order = read["id"].arg_sort()
    return read["id"].gather(order), values.gather(order).cast(
        pl.Array(pl.Float32, width)
    ).to_numpy()


def likeness(retriever: AlsRetriever, exchange: Exchange, users: Path) -> float:
    """Return the mean cosine of trained users with those whose interactions are folded in.

    It is 1 where users were solved for last and by the same loss, and near it where items were.

    Raises:
        UserError: as `read_factors` does.
    """
    user_map, item_map = read_ids(exchange.users), read_ids(exchange.items)
    trained_ids, trained = read_factors(users, user_map)
    pairs = pl.read_csv(exchange.interactions)
    rows = [
        pl.DataFrame({"id": known}).with_row_index(side).join(of, on="id")
        for side, known, of in (
            ("row", trained_ids, user_map),
            ("place", retriever.item_ids, item_map),
        )
    ]
    chosen = (
        pairs.join(rows[0], left_on="user", right_on="number")
        .join(rows[1], left_on="item", right_on="number")
        .sort("row", "place")
    )
    folded = retriever.fold_in(*(chosen[name].to_numpy() for name in ("row", "place", "weight")))
    trained = trained[chosen["row"].unique().sort().to_numpy()]
    lengths = np.linalg.norm(trained, axis=1) * np.linalg.norm(folded, axis=1)
    cosines = (trained * folded).sum(axis=1) / np.maximum(lengths, np.finfo(np.float32).tiny)
    return float(cosines.mean()) if len(cosines) else 0.0


def main(
    folder: Annotated[Path, typer.Argument(help="What `export_interactions` wrote.")],
    item_factors: Annotated[Path, typer.Option(help="CSV of an item's number and factors.")],
    user_factors: Annotated[
        Path | None, typer.Option(help="CSV of users; compared with what folding in gives.")
    ] = None,
    params_file: Annotated[Path, typer.Option("--params")] = files.PARAMS,
    retrievers_folder: Path = files.RETRIEVERS,
) -> None:
    """Make the `als` retriever of the export's window from factors that were trained elsewhere.

    `fit.als` must say how: `backend` (spark for Spark MLlib, implicit for the loss of the paper),
    `regularization`, `alpha`. Histories are folded in by it, so no user's factors are kept.
    In a shop of parts it takes the place of that of the part that was exported.
    """
    params = load_params(params_file)
    exchange = Exchange(folder)
    if not exchange.about.exists():
        raise UserError(f"{exchange.about}: no such file; export the interactions again")
    about = read_json(exchange.about)
    item_map = read_ids(exchange.items)
    item_ids, factors = read_factors(item_factors, item_map)
    target = folder_of(retrievers_folder / "als" / about["window"], about.get("part"))
    settings = params.fit.als.model_copy(update={"factors": factors.shape[1]})
    made = AlsRetriever.of_factors(settings, item_ids, factors, about["mean_weight"])
    if user_factors is not None:
        cosine = likeness(made, exchange, user_factors)
        log.info("users folded in have a mean cosine of %.3f with those trained", cosine)
        if cosine < _ALIKE:
            log.warning(
                "%s: not what folding in gives; set fit.als to what they were trained with",
                user_factors,
            )
    with atomic_folder(target) as to:
        made.save(to)
    log.info(
        "als, window %s: factors of length %d for %d of %d items",
        about["window"],
        factors.shape[1],
        len(item_ids),
        item_map.height,
    )


if __name__ == "__main__":
    run(main)
