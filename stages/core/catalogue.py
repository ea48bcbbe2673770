"""The catalogue as it stood at a window's end."""

import polars as pl

JOINT = " > "
"""Between the parts of a property that is a list, such as a path of categories from the root."""


def of_window(items: pl.DataFrame, properties: pl.DataFrame, window: str) -> pl.DataFrame:
    """Lay the properties that a window knows over the items, a column for each name.

    A property that has the name of a column of lists is split at `JOINT`, and one that has the name
    of another column takes its type; any other is text. Where nothing was known at the window's
    end, what the items say stands. Every window has the same columns.

    Args:
        items: table `ITEMS`.
        properties: table `SPLIT_PROPERTIES`, of all windows.
        window: one of `WINDOWS`.

    Returns:
        the items in their order.
    """
    if properties.is_empty():
        return items
    names = properties["name"].unique().sort().to_list()
    known = properties.filter(window=window).pivot(
        "name", on_columns=names, index="item_id", values="value", aggregate_function="first"
    )
    said = known.select("item_id", *(_typed(name, items.schema.get(name)) for name in names))
    joined = items.join(said, on="item_id", how="left", maintain_order="left", suffix=" known")
    return joined.with_columns(
        pl.coalesce(f"{name} known", name).alias(name) for name in names if name in items.columns
    ).drop(f"{name} known" for name in names if name in items.columns)


def _typed(name: str, kind: pl.DataType | None) -> pl.Expr:
    if isinstance(kind, pl.List):
        return pl.col(name).str.split(JOINT)
    return pl.col(name) if kind is None else pl.col(name).cast(kind, strict=False)
