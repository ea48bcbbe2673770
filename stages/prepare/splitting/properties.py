"""What was known of items at a window's end."""

import polars as pl

from stages.core import tables
from stages.core.parts import Parts
from stages.core.windows import end_of


def as_of_windows(
    properties: pl.DataFrame, marked: pl.DataFrame, parts: Parts | None = None
) -> pl.DataFrame:
    """Return, for each window, the last value that each property of an item had by its end.

    A window ends with its last event, and for an item of a part with the last of that part. What an
    item was not yet said to be has no row.

    Args:
        properties: table `PROPERTIES`.
        marked: table `SPLIT_EVENTS`.
        parts: of the shop; None where it is one.

    Returns:
        table `SPLIT_PROPERTIES`.
    """
    columns = tables.SPLIT_PROPERTIES.columns
    if properties.is_empty():
        return pl.DataFrame(schema=columns)
    in_time = properties.sort("item_id", "name", "timestamp")
    return pl.concat(
        in_time.filter(pl.col("timestamp") <= end_of(in_time, marked, window, parts))
        .unique(["item_id", "name"], keep="last", maintain_order=True)
        .select(pl.lit(window, columns["window"]).alias("window"), "item_id", "name", "value")
        for window in tables.WINDOWS
    )
