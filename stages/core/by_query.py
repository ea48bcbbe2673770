"""Rows of long tables by their queries, for work that takes some queries at a time."""

from collections.abc import Iterator, Sequence

import polars as pl


class ByQuery:
    """Tables of a row a candidate, stacked, of which the rows of some queries are found quickly.

    Tables that are sorted by `query_id`, as files are, are cut by binary search.

    Args:
        frames: tables of the same columns, `query_id` among them.
    """

    def __init__(self, frames: Sequence[pl.DataFrame]) -> None:
        self._frames = [
            frame if frame["query_id"].is_sorted() else frame.sort("query_id") for frame in frames
        ]

    def of(self, queries: pl.DataFrame) -> pl.DataFrame:
        """Return the rows of these queries, table after table, as they stand in each.

        Args:
            queries: query_id; quickest where those that stand together have ids near each other.
        """
        ids = queries["query_id"]
        if ids.is_empty():
            return pl.concat(frame.clear() for frame in self._frames)
        first, last = str(ids.min()), str(ids.max())
        near = []
        for frame in self._frames:
            rows = frame["query_id"]
            begin, end = rows.search_sorted(first, "left"), rows.search_sorted(last, "right")
            near.append(frame.slice(begin, end - begin))
        return pl.concat(near).join(queries.select("query_id"), on="query_id", how="semi")


def pieces(queries: pl.DataFrame, size: int) -> Iterator[pl.DataFrame]:
    """Cut queries, by id, into pieces of so many rows; one at the least."""
    ordered = queries.sort("query_id")
    for start in range(0, max(ordered.height, 1), size):
        yield ordered.slice(start, size)
