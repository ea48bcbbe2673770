"""The slot map: what is known of items and users, in words, to rows of one embedding table."""

import itertools
from collections.abc import Collection

import polars as pl
from polars.datatypes import DataTypeClass

_PADDING = 0
"""The slot that holds nothing."""
_ROWS = {"row": pl.UInt32, "column": pl.String, "value": pl.String}


def attributes(
    frame: pl.DataFrame, key: str, of: str, leave_out: Collection[str], buckets: int
) -> pl.DataFrame:
    """Return what a table says of its rows, in long form.

    Text, whole numbers and truth values are taken as they are, lists by their entries, other
    numbers by quantile. What is missing says nothing and has no row.

    Args:
        frame: a table of items or users.
        key: the column of ids.
        of: put before a column's name, as in `item.brand`.
        leave_out: columns that are no attributes, `key` among them or not.
        buckets: quantiles of a column of numbers.

    Returns:
        row (of `frame`), column and value, no row twice.
    """
    parts = [pl.DataFrame(schema=_ROWS)]
    for name, kind in frame.schema.items():
        if name == key or name in leave_out:
            continue
        values = frame[name].alias("value")
        inner = kind.inner if isinstance(kind, pl.List) else kind
        if not _says_something(inner):
            continue
        rows = pl.DataFrame(values).with_row_index("row")
        if isinstance(kind, pl.List):
            rows = rows.explode("value", empty_as_null=False)
        rows = rows.drop_nulls()
        if inner.is_float():
            rows = rows.filter(pl.col("value").is_finite())
            rows = rows.with_columns(value=_bucketed(rows["value"], buckets))
        about = rows.select(
            "row", pl.lit(f"{of}.{name}").alias("column"), pl.col("value").cast(pl.String)
        )
        parts.append(about.unique(maintain_order=True))
    return pl.concat(parts)


def named(ids: pl.Series, column: str, known: pl.Series) -> pl.DataFrame:
    """Return those of the ids that are known as values of a column, in the form of `attributes`."""
    rows = pl.DataFrame({"value": ids}).with_row_index("row")
    rows = rows.filter(pl.col("value").is_in(known.implode()))
    return rows.select("row", pl.lit(column).alias("column"), "value")


def slot_map(rows: pl.DataFrame, min_count: int) -> pl.DataFrame:
    """Give a slot to every value that stands in `min_count` rows, and one a column to all others.

    Args:
        rows: column and value, a row for each time that a value counts.
        min_count: the fewest rows of a value that is known.

    Returns:
        column, value (null: unknown) and slot, from 1 in the order of column and value; 0 is
        padding.
    """
    known = rows.group_by("column", "value").len().filter(pl.col("len") >= min_count)
    unknown = rows.select(pl.col("column").unique()).with_columns(
        value=pl.lit(None, dtype=pl.String)
    )
    return (
        pl.concat([known.select("column", "value"), unknown.select("column", "value")])
        .sort("column", "value", nulls_last=False)
        .with_row_index("slot", offset=_PADDING + 1)
        .select("column", "value", "slot")
    )


def slots_of(rows: pl.DataFrame, slots: pl.DataFrame) -> pl.DataFrame:
    """Look values up; those that are not known have their column's slot of the unknown.

    Args:
        rows: row, column and value.
        slots: what `slot_map` returned, with every column of `rows`.

    Returns:
        row, slot and weight, sorted by row and slot: one over how many entries the row has in that
        column, so that every column counts once.
    """
    known = slots.filter(pl.col("value").is_not_null())
    unknown = slots.filter(pl.col("value").is_null()).select("column", unknown="slot")
    return (
        rows.join(known, on=["column", "value"], how="left", maintain_order="left")
        .join(unknown, on="column", how="inner", maintain_order="left")
        .select(
            "row",
            slot=pl.coalesce("slot", "unknown").cast(pl.Int64),
            weight=(1 / pl.len().over("row", "column")).cast(pl.Float32),
        )
        .sort("row", "slot")
    )


def unknown_slots(slots: pl.DataFrame, of: str = "") -> list[int]:
    """Return the slots of the unknown, of columns whose name starts with `of`."""
    of_unknown = pl.col("value").is_null() & pl.col("column").str.starts_with(of)
    return slots.filter(of_unknown)["slot"].to_list()


def _says_something(kind: pl.DataType | DataTypeClass) -> bool:
    if kind.is_numeric():
        return not kind.is_decimal()
    return kind in (pl.String, pl.Boolean, pl.Categorical) or isinstance(kind, pl.Enum)


def _bucketed(values: pl.Series, buckets: int) -> pl.Series:
    """Name each number by the bounds of its quantile, such as `4.99 to 9.5`."""
    cuts = [values.quantile(n / buckets, "nearest") for n in range(buckets + 1)]
    edges = pl.Series(sorted({cut for cut in cuts if cut is not None}), dtype=values.dtype)
    names = pl.Series(
        [f"{low} to {high}" for low, high in itertools.pairwise(edges)] or edges.cast(pl.String),
        dtype=pl.String,
    )
    place = edges.search_sorted(values, side="right").cast(pl.Int64) - 1
    return names.gather(place.clip(0, max(len(names) - 1, 0)))
