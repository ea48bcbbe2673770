"""Matrix factorisation for implicit feedback by alternating least squares: `implicit` or Spark.

Hu, Koren and Volinsky, Collaborative Filtering for Implicit Feedback Datasets, ICDM 2008.
"""

from pathlib import Path
from typing import Self

import numpy as np
import polars as pl

from stages.core.log import UserError
from stages.core.params import Als
from stages.core.search import FlatIndex
from stages.core.storage import read_json, write_json
from stages.retrieve.retrievers.base import TrainingData, candidates_frame
from stages.retrieve.retrievers.choices import Choices, choices
from stages.retrieve.retrievers.history import (
    KnowsItems,
    in_chunks,
    past_items,
    search_without_past,
)

_CHUNK = 4096
"""Queries that are answered at once."""
_SOLVED = 256
"""Histories that are folded in at once, each with a matrix of its own."""


class AlsRetriever(KnowsItems):
    """Inner products of an item's factors with those that a query's history is folded into.

    The confidence in a choice is 1 + alpha x the sum of its events' weights (section 4
    of the paper). No user is kept: at query time everybody's factors are what one more step of the
    training would make of their history (equation 4), so that who was not there in training is
    answered as well, and serving needs neither `implicit` nor Spark. A choice of a history weighs
    as much as a mean event.
    """

    def __init__(self, params: Als, seed: int = 0) -> None:
        self._params = params
        self._seed = seed
        self._item_ids = pl.Series("item_id", [], dtype=pl.String)
        self._weight = 1.0
        self._hold(np.empty((0, 0), np.float32))

    def fit(self, data: TrainingData) -> None:
        """Factor the window's events, with as many threads as there are or the Spark master has."""
        if data.events is None:
            raise UserError("retriever als needs events")
        chosen = choices(data.events, self._params.weights.model_dump())
        train = _spark if self._params.backend == "spark" else implicit_factors
        factors = min(self._params.factors, max(min(chosen.shape) - 1, 1))
        self._item_ids = chosen.item_ids
        self._weight = chosen.mean_weight
        if len(chosen.item_ids):
            self._hold(train(chosen, self._params, factors, self._seed))
        else:
            self._hold(np.empty((0, factors), np.float32))

    @property
    def item_ids(self) -> pl.Series:
        """Ids of the items that have factors, sorted."""
        return self._item_ids

    def fold_in(self, user: np.ndarray, item: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Solve for users' factors as the backend does in the last half of a round.

        They are the minimum of the loss with the items' factors held: by equation 4 of the paper,
        where the weight of a user's length is `regularization`, for Spark times their items.

        Args:
            user: any numbers, ascending.
            item: rows of the items, each once a user.
            weight: of the events behind each choice.

        Returns:
            float32, shape (distinct users, factors), in their order.
        """
        own = self._factors[item].astype(np.float64)
        sure = self._params.alpha * weight
        begins = np.flatnonzero(np.diff(user.astype(np.int64), prepend=-1))
        lengths = np.diff(begins, append=len(item))
        by_items = self._params.backend == "spark"
        identity = self._params.regularization * np.eye(own.shape[1])
        users = np.empty((len(begins), own.shape[1]), np.float32)
        # Those of a length together, unpadded: what each gets does not depend on the others.
        for length in np.unique(lengths):
            alike = np.flatnonzero(lengths == length)
            held = self._gram + (length if by_items else 1) * identity
            for start in range(0, len(alike), _SOLVED):
                rows = alike[start : start + _SOLVED]
                at = begins[rows, None] + np.arange(length)
                mine, weights = own[at], sure[at][:, None, :]
                left = held + (mine.transpose(0, 2, 1) * weights) @ mine
                right = (1 + weights) @ mine
                users[rows] = np.linalg.solve(left, right.transpose(0, 2, 1))[:, :, 0]
        return users

    def retrieve(self, queries: pl.DataFrame, k: int) -> pl.DataFrame:
        """Fold each history in and search; see `Retriever`."""
        return pl.concat(self._answer(part, k) for part in in_chunks(queries, _CHUNK))

    def save(self, folder: Path) -> None:
        """Write factors, items and parameters."""
        np.save(folder / "factors.npy", self._factors)
        pl.DataFrame(self._item_ids).write_parquet(folder / "items.parquet")
        about = {"params": self._params.model_dump(), "weight": self._weight}
        write_json(folder / "retriever.json", about)

    @classmethod
    def of_factors(
        cls, params: Als, item_ids: pl.Series, factors: np.ndarray, mean_weight: float
    ) -> Self:
        """Take factors that were learned elsewhere.

        Args:
            params: those of the training, whose `backend` says which problem was solved.
            item_ids: sorted.
            factors: float32, a row an item.
            mean_weight: of an event, which is what a choice of a history counts.
        """
        made = cls(params)
        made._item_ids = item_ids.rename("item_id")
        made._weight = mean_weight
        made._hold(factors)
        return made

    @classmethod
    def load(cls, folder: Path, store: Path | None = None) -> Self:
        """Read a fitted retriever; it needs no encoder, nor what trained it."""
        about = read_json(folder / "retriever.json")
        item_ids = pl.read_parquet(folder / "items.parquet")["item_id"]
        params = Als.model_validate(about["params"])
        return cls.of_factors(params, item_ids, np.load(folder / "factors.npy"), about["weight"])

    def _hold(self, factors: np.ndarray) -> None:
        self._factors = factors
        wide = factors.astype(np.float64)
        self._gram = wide.T @ wide
        self._index = FlatIndex(factors)

    def _answer(self, queries: pl.DataFrame, k: int) -> pl.DataFrame:
        past = past_items(queries, self._item_ids)
        read = past.filter(pl.col("steps") < self._params.max_history)
        asked = read["query"].unique().sort()
        often = read.group_by("query", "item").len().sort("query", "item")
        users = self.fold_in(
            often["query"].to_numpy(),
            often["item"].to_numpy(),
            self._weight * often["len"].to_numpy(),
        )
        own = past if not self._params.repeat else past.clear()
        own = own.unique(["query", "item"]).filter(pl.col("query").is_in(asked.implode()))
        own = own.with_columns(query=asked.search_sorted(own["query"]).cast(pl.UInt32))
        items, scores, keep = search_without_past(self._index.search, users, own, k)
        return candidates_frame(
            "als", queries["query_id"].gather(asked), items, scores, self._item_ids, keep
        )


def implicit_factors(chosen: Choices, params: Als, factors: int, seed: int) -> np.ndarray:
    """Return the factors of items by `implicit`: float32, shape (items, factors)."""
    from implicit.cpu.als import AlternatingLeastSquares
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, "blas"):  # Its own threads call BLAS.
        model = AlternatingLeastSquares(
            factors=factors,
            regularization=params.regularization,
            alpha=1.0,
            iterations=params.iterations,
            random_state=seed,
            use_cg=False,  # Exact, so that equal items have equal factors.
        )
        model.fit(chosen.confidences(params.alpha), show_progress=False)
    return np.asarray(model.item_factors, np.float32)


def _spark(chosen: Choices, params: Als, factors: int, seed: int) -> np.ndarray:
    """Return the factors of items by Spark MLlib: float32, shape (items, factors)."""
    from stages.retrieve.retrievers.als_spark import spark_factors

    return spark_factors(chosen, params, factors, seed)[1]
