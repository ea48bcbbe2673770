"""What files say of items and users, one row for each."""

from collections.abc import Sequence

import polars as pl

from stages.core import tables


def item_table(said: Sequence[pl.DataFrame], chosen: pl.Series) -> pl.DataFrame:
    """Return a row for every item of the log or of the files about items.

    Args:
        said: frames with item_id first, then columns of the items table and attributes.
        chosen: item ids of the log.
    """
    ids = pl.concat([*(frame["item_id"] for frame in said), chosen]).unique().sort()
    items = described(ids.to_frame("item_id"), said)
    kinds = tables.ITEMS.columns
    missing = [pl.lit(None, kind).alias(n) for n, kind in kinds.items() if n not in items.columns]
    return items.with_columns(missing).select(
        *(
            pl.col(name).fill_null([]) if isinstance(kind, pl.List) else pl.col(name)
            for name, kind in kinds.items()
        ),
        pl.exclude(*kinds),
    )


def described(ids: pl.DataFrame, said: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Put what is said of them beside the ids.

    Of what stands in several rows of an id the first counts, but for lists, which are joined, each
    part once; of what several frames say, that of the first frame that says it.
    """
    for frame in said:
        about = _one_row_each(frame)
        again = [name for name in about.columns[1:] if name in ids.columns]
        ids = ids.join(about, on=ids.columns[0], how="left", maintain_order="left").select(
            pl.coalesce(name, f"{name}_right").alias(name) if name in again else name
            for name in dict.fromkeys([*ids.columns, *about.columns])
        )
    return ids


def _one_row_each(frame: pl.DataFrame) -> pl.DataFrame:
    key = frame.columns[0]
    lists = [name for name, kind in frame.schema.items() if isinstance(kind, pl.List)]
    if frame[key].is_unique().all():  # As files mostly are; grouping would cost more than the rest.
        return frame.with_columns(pl.col(lists).list.unique(maintain_order=True))
    return frame.group_by(key, maintain_order=True).agg(
        pl.col(name).explode(empty_as_null=False).unique(maintain_order=True)
        if name in lists
        else pl.col(name).drop_nulls().first()
        for name in frame.columns[1:]
    )
