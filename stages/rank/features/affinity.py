"""How an item's brand, categories and price stand to those of what the asker chose before."""

from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl

from stages.rank.features.products import pair_products

_RECENCY = 0.9
"""Weight of a moment of the history relative to the one after it: a taste outlasts a visit."""


class Affinity:
    """Shares of a history, the newer the heavier, that are of an item's brand or categories."""

    def fit(self, items: pl.DataFrame) -> Self:
        """Take the catalogue: item_id, brand, categories, price, sorted by item_id."""
        price = pl.when(pl.col("price") > 0).then(pl.col("price")).log()
        self._hold(items.select("item_id", "brand", "categories", log_price=price))
        return self

    def of(
        self, past: pl.DataFrame, queries: int, query_row: np.ndarray, item_row: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Describe pairs.

        Args:
            past: what `past_items` returns, of the catalogue's items.
            queries: how many there are.
            query_row: row in `queries` of each pair, shape (n,).
            item_row: row of the item of each pair, shape (n,).

        Returns:
            `same_brand`, and `same_categories`, the mean over the item's categories: shares in 0
            to 1; `price_over_past`: the logarithm of the price over the history's geometric mean.
            NaN where the item or the history has nothing to compare.
        """
        from scipy import sparse

        query, item = (past[name].to_numpy().astype(np.int64) for name in ("query", "item"))
        weight = _RECENCY ** past["steps"].to_numpy().astype(np.float64)
        history = sparse.csr_matrix((weight, (query, item)), shape=(queries, self._items.height))
        found = {
            name: self._share(history, names, query_row, item_row)
            for name, names in (("same_brand", self._brand), ("same_categories", self._category))
        }
        priced = np.isfinite(self._price)
        with np.errstate(invalid="ignore", divide="ignore"):
            usual = (history @ np.where(priced, self._price, 0.0)) / (history @ priced)
        found["price_over_past"] = self._price[item_row] - usual[query_row]
        return found

    def save(self, folder: Path) -> None:
        """Write the catalogue into an existing folder."""
        self._items.write_parquet(folder / "catalogue.parquet")

    def load(self, folder: Path) -> Self:
        """Read what `save` wrote."""
        self._hold(pl.read_parquet(folder / "catalogue.parquet"))
        return self

    def _hold(self, items: pl.DataFrame) -> None:
        self._items = items
        self._price = items["log_price"].cast(pl.Float64).to_numpy()
        self._brand = self._named(items.select("item_id", name="brand"))
        categories = items.select("item_id", name="categories")
        self._category = self._named(categories.explode("name", empty_as_null=False).unique())

    def _named(self, rows: pl.DataFrame) -> Any:
        """Which item has which name: CSR of shape (items, names)."""
        from scipy import sparse

        rows = rows.filter(pl.col("name").is_not_null())
        item = self._items["item_id"].search_sorted(rows["item_id"]).to_numpy()
        name = rows["name"].rank("dense").to_numpy().astype(np.int64) - 1
        shape = (self._items.height, int(name.max(initial=-1)) + 1)
        return sparse.csr_matrix((np.ones(len(name)), (item, name)), shape=shape)

    def _share(
        self, history: Any, names: Any, query_row: np.ndarray, item_row: np.ndarray
    ) -> np.ndarray:
        """The mean, over an item's names, of the share of the named history that has it."""
        of_item = np.asarray(names.sum(axis=1)).ravel()
        named = history @ (of_item > 0)
        shared = pair_products(history @ names, names, query_row, item_row)
        with np.errstate(invalid="ignore", divide="ignore"):
            return shared / named[query_row] / of_item[item_row]
