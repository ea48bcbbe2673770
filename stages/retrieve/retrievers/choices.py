"""Who chose what and how much that says: what a matrix is factored from."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl


@dataclass(frozen=True)
class Choices:
    """The weights of a window's events by user and item.

    Attributes:
        pairs: `user` and `item`, rows in the ids (Int32), and `weight` (Float64), the sum over the
            events of both; sorted by user, then item, each pair once.
        user_ids: those who chose something, sorted.
        item_ids: what somebody chose, sorted.
        mean_weight: of an event; 1 where there is none.
    """

    pairs: pl.DataFrame
    user_ids: pl.Series
    item_ids: pl.Series
    mean_weight: float

    @property
    def shape(self) -> tuple[int, int]:
        """Users and items."""
        return len(self.user_ids), len(self.item_ids)

    def confidences(self, alpha: float) -> Any:
        """1 + alpha x weight as CSR of float32, shape (users, items)."""
        from scipy import sparse

        user, item, weight = (self.pairs[name].to_numpy() for name in self.pairs.columns)
        held = (1 + alpha * weight).astype(np.float32)
        ends = np.cumsum(np.bincount(user, minlength=self.shape[0]))
        starts = np.concatenate([[0], ends]).astype(np.int32)
        # Copied, since `implicit` takes no arrays that may not be written to.
        return sparse.csr_matrix((held, item.copy(), starts), shape=self.shape)


def choices(events: pl.DataFrame, weights: dict[str, float]) -> Choices:
    """Sum the events' weights by user and item; an event of weight 0 is left out.

    Args:
        events: user_id, item_id and event.
        weights: of each kind of event.
    """
    weight = pl.col("event").cast(pl.String).replace_strict(weights, return_dtype=pl.Float64)
    said = events.select("user_id", "item_id", weight=weight).filter(pl.col("weight") > 0)
    user_ids, item_ids = (said[name].unique().sort() for name in ("user_id", "item_id"))
    pairs = (
        said.select(
            user_ids.search_sorted(said["user_id"]).cast(pl.Int32).alias("user"),
            item_ids.search_sorted(said["item_id"]).cast(pl.Int32).alias("item"),
            "weight",
        )
        .sort("user", "item", maintain_order=True)
        .group_by("user", "item", maintain_order=True)
        .agg(pl.col("weight").sum())
    )
    mean = float(said["weight"].to_numpy().mean()) if said.height else 1.0
    return Choices(pairs, user_ids, item_ids, mean)
