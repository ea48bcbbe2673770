"""How well an item goes with what the asker chose before."""

from pathlib import Path
from typing import Self

import numpy as np
import polars as pl

from stages.core.params import ItemKnn
from stages.retrieve.retrievers.similarity import similar_items

SIMILARITIES = {
    "follows": ItemKnn(neighbours=200),
    "follows_soon": ItemKnn(neighbours=200, window=5, damping=0.5),
    "together": ItemKnn(neighbours=200, similarity="cosine"),
    "together_rare": ItemKnn(neighbours=200, similarity="bm25"),
}
"""What follows what, at a distance or soon after; what the same users choose, all or of few."""
RECENCIES = {"": 0.7, "_last": 0.3, "_all": 1.0}
"""Weight of a moment of the history relative to the one after it: the newest, or all alike."""
_CHUNK = 1 << 22
"""Similarities looked up at once."""
_TABLE = 1 << 24
"""Pairs of items up to which a place is kept for each, and nothing is searched: 64 MB."""


class Neighbours:
    """Item-kNN scores of given pairs, by several similarities and several weights of the past.

    A retriever gives one of these scores, and to what it found; a ranker does with all of them,
    for every candidate, what one of them does not. Each pair of an item and one of the history is
    looked up once, for all similarities and weights.
    """

    def fit(self, events: pl.DataFrame, item_ids: pl.Series) -> Self:
        """Count what goes with what over a window's events.

        Args:
            events: user_id, item_id and timestamp of the window's events and no others.
            item_ids: sorted, of the whole catalogue.
        """
        pairs = pl.DataFrame(schema={"pair": pl.Int64})
        for name, params in SIMILARITIES.items():
            similar = similar_items(events, item_ids, params).tocoo()
            own = pl.DataFrame(
                {
                    "pair": similar.row.astype(np.int64) * len(item_ids) + similar.col,
                    name: similar.data.astype(np.float32),
                }
            )
            pairs = pairs.join(own, on="pair", how="full", coalesce=True)
        self._hold(
            pairs.with_columns(pl.col(list(SIMILARITIES)).fill_null(0.0)).sort("pair"), item_ids
        )
        return self

    def scores(
        self, past: pl.DataFrame, queries: int, query_row: np.ndarray, item_row: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Return `seen` (the item is in the history) and a column a similarity and recency.

        Args:
            past: what `past_items` returns, of the catalogue's items.
            queries: how many there are.
            query_row: row in `queries` of each pair, shape (n,).
            item_row: row of the item of each pair, shape (n,).
        """
        from scipy import sparse

        chosen, steps = past["item"].to_numpy().astype(np.int64), past["steps"].to_numpy()
        ends = np.searchsorted(past["query"].to_numpy(), np.arange(queries + 1))
        length = np.diff(ends)[query_row]
        names = [f"{name}{suffix}" for suffix in RECENCIES for name in SIMILARITIES]
        weights = [np.power(recency, steps, dtype=np.float32) for recency in RECENCIES.values()]
        sums = np.zeros((len(query_row), len(names)), np.float32)
        seen = np.zeros(len(query_row), np.float32)
        asked = np.flatnonzero(length)
        parts = np.cumsum(length[asked]) // _CHUNK
        for pairs in np.split(asked, np.flatnonzero(np.diff(parts)) + 1):
            if len(pairs) == 0:
                continue
            times = length[pairs]
            begin = np.append(0, np.cumsum(times))
            of_past = np.arange(begin[-1]) + np.repeat(ends[query_row[pairs]] - begin[:-1], times)
            first, second = chosen[of_past], np.repeat(item_row[pairs], times)
            place = self._places(first * len(self._item_ids) + second)
            seen[pairs] = np.maximum.reduceat(first == second, begin[:-1])
            for number, weight in enumerate(weights):
                weighed = (weight[of_past], place, begin)
                similar = sparse.csr_matrix(weighed, shape=(len(pairs), len(self._values)))
                columns = slice(number * len(SIMILARITIES), (number + 1) * len(SIMILARITIES))
                sums[pairs, columns] = similar @ self._values
        return {"seen": seen} | {name: sums[:, place] for place, name in enumerate(names)}

    def save(self, folder: Path) -> None:
        """Write the similarities into an existing folder."""
        columns = {name: self._values[:-1, n] for n, name in enumerate(SIMILARITIES)}
        pairs = pl.DataFrame({"pair": self._keys[:-1], **columns})
        pairs.write_parquet(folder / "similar.parquet", compression="lz4")

    def load(self, folder: Path, item_ids: pl.Series) -> Self:
        """Read what `save` wrote."""
        self._hold(pl.read_parquet(folder / "similar.parquet"), item_ids)
        return self

    def _hold(self, pairs: pl.DataFrame, item_ids: pl.Series) -> None:
        self._item_ids = item_ids
        self._keys = np.append(pairs["pair"].to_numpy(), -1)
        none = np.zeros((1, len(SIMILARITIES)), np.float32)
        values = np.concatenate([pairs.select(list(SIMILARITIES)).to_numpy(), none])
        # Row by row in memory, or each product would copy it whole.
        self._values = np.ascontiguousarray(values)
        self._table: np.ndarray | None = None
        if len(item_ids) ** 2 <= _TABLE:
            self._table = np.full(len(item_ids) ** 2, pairs.height, np.int32)
            self._table[self._keys[:-1]] = np.arange(pairs.height)

    def _places(self, keys: np.ndarray) -> np.ndarray:
        """Rows of pairs, numbered row x items + column, in the values; the last for others."""
        if self._table is not None:
            return self._table[keys]
        place = np.searchsorted(self._keys[:-1], keys)
        return np.where(self._keys[place] == keys, place, len(self._keys) - 1)
