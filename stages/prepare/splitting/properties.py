"""What was known of items at a window's end."""

import polars as pl

from stages.core import tables


def as_of_windows(properties: pl.DataFrame, marked: pl.DataFrame) -> pl.DataFrame:
    """Return, for each window, the last value that each property of an item had by its end.

    A window ends with its last event. What an item was not yet said to be has no row.

    Args:
        properties: table `PROPERTIES`.
        marked: table `SPLIT_EVENTS`.

    Returns:
        table `SPLIT_PROPERTIES`.
    """
    columns = tables.SPLIT_PROPERTIES.columns
    if properties.is_empty():
        return pl.DataFrame(schema=columns)
    in_time = properties.sort("item_id", "name", "timestamp")
    ends = {
        window: marked.filter(pl.col("split").is_in(parts))["timestamp"].max()
        for window, parts in tables.PARTS_OF_WINDOW.items()
    }
    return pl.concat(
        in_time.filter(pl.col("timestamp") <= end)
        .unique(["item_id", "name"], keep="last", maintain_order=True)
        .select(pl.lit(window, columns["window"]).alias("window"), "item_id", "name", "value")
        for window, end in ends.items()
    )
