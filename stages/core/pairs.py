"""(query, item) pairs as numbers, for tables of millions of them."""

import numpy as np
import polars as pl

PAIR = ("query_id", "item_id")


class PairNumbers:
    """A number for each (query, item) pair, ascending as the ids do.

    Ids are looked up once and pairs are then sorted, joined and counted by one number each, which
    takes a tenth of what comparing two columns of strings does.

    Args:
        pairs: query_id and item_id of every pair that is to have a number.
    """

    def __init__(self, pairs: pl.DataFrame) -> None:
        self.query_ids, self.item_ids = (pairs[name].unique().sort() for name in PAIR)

    def of(self, pairs: pl.DataFrame) -> np.ndarray:
        """Return the number of each pair, int64 of shape (n,); -1 where an id is not known."""
        query = rows_of(pairs["query_id"], self.query_ids)
        item = rows_of(pairs["item_id"], self.item_ids)
        return np.where((query < 0) | (item < 0), -1, query * len(self.item_ids) + item)

    def rows(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return rows in `query_ids` and in `item_ids` of numbered pairs, each of shape (n,)."""
        query, item = np.divmod(numbers, max(len(self.item_ids), 1))
        return query, item

    def frame(self, numbers: np.ndarray) -> pl.DataFrame:
        """Return query_id and item_id of numbered pairs."""
        query, item = self.rows(numbers)
        return pl.DataFrame([self.query_ids.gather(query), self.item_ids.gather(item)])


def places(numbers: np.ndarray, ascending: np.ndarray) -> np.ndarray:
    """Return where each number stands in `ascending`, shape (n,); -1 for those that do not."""
    place = np.searchsorted(ascending, numbers)
    found = np.append(ascending, -2)[place] == numbers
    return np.where(found, place, -1)


def rows_of(ids: pl.Series, known: pl.Series) -> np.ndarray:
    """Return the row of each id in `known`, ids each once: int64 of shape (n,), -1 for others.

    Every id of both is looked at; see `sorted_rows_of` for a few among many.
    """
    rows = ids.cast(pl.Enum(known), strict=False).to_physical().cast(pl.Int64)
    return rows.fill_null(-1).to_numpy()


def sorted_rows_of(ids: pl.Series, known: pl.Series) -> np.ndarray:
    """Return what `rows_of` does, in a sorted `known` without nulls, by binary search."""
    rows = known.search_sorted(ids.fill_null(""))
    found = known.gather(rows, null_on_oob=True) == ids
    return np.where(found.fill_null(False), rows.cast(pl.Int64), -1)
