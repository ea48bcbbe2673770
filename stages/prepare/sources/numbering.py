"""Ids of rows that have none, from what they say."""

from collections.abc import Sequence

import polars as pl


def numbered(rows: pl.DataFrame, key: Sequence[str], name: str) -> pl.DataFrame:
    """Return the rows behind a new id column, sorted by it.

    An id is the key's parts, times in milliseconds, with colons between them, and behind it `:{n}`
    for the n-th further row of the key, in the order of the other columns.
    """
    others = [column for column in rows.columns if column not in key]
    ordered = rows.sort(*key, *others, nulls_last=True)
    parts = [
        pl.col(column).dt.epoch("ms") if kind.is_temporal() else pl.col(column).cast(pl.String)
        for column, kind in ordered.select(key).schema.items()
    ]
    new = pl.any_horizontal(pl.col(column) != pl.col(column).shift() for column in key)
    place = pl.int_range(pl.len())
    again = place - pl.when(new.fill_null(True)).then(place).forward_fill()
    plain = pl.concat_str(*parts, separator=":")
    return ordered.select(
        pl.when(again > 0).then(pl.format("{}:{}", plain, again)).otherwise(plain).alias(name),
        *key,
        *others,
    ).sort(name)


def number_events(rows: pl.DataFrame) -> pl.DataFrame:
    """Return events without words, sorted by id, which is `{user}:{item}:{ms}:{event}[:{n}]`.

    Args:
        rows: user_id, item_id, timestamp, event, value and, maybe, attributes.
    """
    events = numbered(rows, ["user_id", "item_id", "timestamp", "event"], "event_id")
    words = {"title": pl.lit(None, pl.String), "text": pl.lit(None, pl.String)}
    return events.with_columns(**words)
