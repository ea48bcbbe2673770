"""Hot lists of segments: what those of an age, or in a category, choose now."""

from pathlib import Path
from typing import Self

import numpy as np
import polars as pl

from stages.core.log import UserError
from stages.core.params import Popular
from stages.retrieve.retrievers.history import past_items

CATEGORY = "category"
"""The segment that is no column of users: the first category of most of the history."""
_RECENCY = 0.7
"""Weight of a moment of the history relative to the one after it."""
_COUNTED = ("event_count", "impression_count", "ctr_mean", "score")
_LISTS = ("segment", "value", "item_id", *_COUNTED)


class Segments:
    """Counts by segment, backed off to those of the whole shop.

    A segment is a column of users and its value, or a category. In it an item scores what the
    segment's events count, plus the clicks that the segment's impressions lead one to expect, and
    as much again as its share of `back_off` events of the whole shop: a segment of many is heard,
    one of few says what all say. So does its click rate, which is smoothed towards the item's in
    the whole shop: (clicks + prior_impressions x that rate) over (impressions + prior_impressions).
    What was shown to somebody of whom nothing is known counts for the whole shop alone. In its
    category an item counts what it does in the whole shop. A query is of the first of the named
    segments of which anything is known.
    """

    def __init__(self, params: Popular) -> None:
        self._names, self._back_off = params.segments, params.back_off
        self._prior = params.prior_impressions

    def fit(
        self,
        counts: pl.DataFrame,
        hot: pl.DataFrame,
        users: pl.DataFrame | None,
        items: pl.DataFrame | None,
    ) -> Self:
        """Take the window's counts.

        Args:
            counts: user_id, item_id and what a row counts: event_count, seen and clicked.
            hot: the list of the whole shop.
            users: with the columns that are named.
            items: item_id and categories.

        Raises:
            UserError: users have no such column, or it is their id.
        """
        columns = [name for name in self._names if name != CATEGORY]
        users = pl.DataFrame({"user_id": []}, {"user_id": pl.String}) if users is None else users
        known = [name for name in users.columns if name != "user_id"]
        if wrong := [name for name in columns if name not in known]:
            raise UserError(
                f"fit.popular.segments names {', '.join(wrong)}, and users have "
                f"{', '.join(known) or 'no attributes'}; it may name "
                f"{', '.join([*known, CATEGORY])}: correct it in the params file"
            )
        of_user = users.select("user_id", pl.col(columns).cast(pl.String)).sort("user_id")
        category = pl.DataFrame(
            {"item_id": [], CATEGORY: []}, dict.fromkeys(("item_id", CATEGORY), pl.String)
        )
        if items is not None and CATEGORY in self._names:
            category = items.select("item_id", pl.col("categories").list.first().alias(CATEGORY))
        rows = counts.join(of_user, on="user_id", how="left")
        rate = (pl.col("clicked") + self._prior * pl.col("ctr_mean")) / (
            pl.col("seen") + self._prior
        )
        lists = [
            rows.filter(pl.col(name).is_not_null())
            .group_by(pl.col(name).alias("value"), "item_id")
            .agg(pl.col("event_count", "seen", "clicked").sum())
            .join(hot.select("item_id", "ctr_mean"), on="item_id")
            .with_columns(segment=pl.lit(name), impression_count="seen", ctr_mean=rate)
            .with_columns(score=pl.col("event_count") + pl.col("seen") * pl.col("ctr_mean"))
            .select(_LISTS)
            for name in columns
        ]
        within = hot.join(category.drop_nulls(), on="item_id").select(
            pl.lit(CATEGORY).alias("segment"),
            pl.col(CATEGORY).alias("value"),
            "item_id",
            *_COUNTED,
        )
        made = pl.concat([*lists, within.cast({"score": pl.Float64})])
        self._hold(made.sort("segment", "value", "item_id"), of_user, category.sort("item_id"))
        return self

    def of(self, queries: pl.DataFrame) -> pl.Series:
        """Return each query's row in `keys`, null where nothing is known of it."""
        known = queries.select("user_id").join(
            self._users, on="user_id", how="left", maintain_order="left"
        )
        if CATEGORY in self._names:
            known = known.with_columns(self._categories(queries))
        keys = self.keys.with_row_index("key")
        found = [
            known.select(value=name).join(
                keys.filter(segment=name), on="value", how="left", maintain_order="left"
            )["key"]
            for name in self._names
        ]
        return pl.select(pl.coalesce(found)).to_series()

    def scores(self, key: int, item_ids: pl.Series, shares: np.ndarray) -> np.ndarray:
        """Return the scores of items in one segment, shape (items,).

        Args:
            key: row in `keys`.
            item_ids: sorted; of the whole shop's hot list.
            shares: of the whole shop's score, in the same order.
        """
        own = self._lists[self._starts[key] : self._starts[key + 1]]
        scores = self._back_off * shares
        scores[item_ids.search_sorted(own["item_id"]).to_numpy()] += own["score"].to_numpy()
        return scores

    def save(self, folder: Path) -> None:
        """Write lists, users' segments and items' categories into an existing folder."""
        self._lists.write_parquet(folder / "segments.parquet")
        self._users.write_parquet(folder / "users.parquet")
        self._items.write_parquet(folder / "categories.parquet")

    def load(self, folder: Path) -> Self:
        """Read what `save` wrote."""
        named = ("segments", "users", "categories")
        self._hold(*(pl.read_parquet(folder / f"{name}.parquet") for name in named))
        return self

    def _hold(self, lists: pl.DataFrame, users: pl.DataFrame, items: pl.DataFrame) -> None:
        self._lists, self._users, self._items = lists, users, items
        counted = lists.group_by("segment", "value", maintain_order=True).len()
        self.keys = counted.drop("len")
        self._starts = [0, *counted["len"].cum_sum()]

    def _categories(self, queries: pl.DataFrame) -> pl.Series:
        """The category of most of each history, the newer the heavier; ties by name."""
        past = past_items(queries, self._items["item_id"])
        heaviest = (
            past.with_columns(
                self._items[CATEGORY].gather(past["item"]),
                weight=pl.lit(_RECENCY).pow(pl.col("steps").cast(pl.Float64)),
            )
            .drop_nulls(CATEGORY)
            .group_by("query", CATEGORY)
            .agg(pl.col("weight").sum().round(9))
            .sort(["query", "weight", CATEGORY], descending=[False, True, False])
            .unique("query", keep="first", maintain_order=True)
        )
        every = queries.select(query=pl.int_range(pl.len(), dtype=pl.UInt32))
        return every.join(heaviest, on="query", how="left", maintain_order="left")[CATEGORY]
