"""Matrix factorisation for implicit feedback by alternating least squares, through `implicit`.

Hu, Koren and Volinsky, Collaborative Filtering for Implicit Feedback Datasets, ICDM 2008.
"""

import itertools
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl

from stages.core.log import UserError
from stages.core.params import Als
from stages.core.search import FlatIndex
from stages.core.storage import read_json, write_json
from stages.retrieve.retrievers.base import TrainingData, candidates_frame
from stages.retrieve.retrievers.history import past_items, without_past

_CHUNK = 4096
"""Queries that are answered at once."""


class AlsRetriever:
    """Inner products of an item's factors with those that a query's history is folded into.

    The confidence in a choice is 1 + alpha x the sum of its events' weights (section 4
    of the paper). No user is kept: at query time everybody's factors are what one more step of the
    training would make of their history (equation 4), so that who was not there in training is
    answered as well, and serving needs no `implicit`. A choice of a history weighs as much as a
    mean event.
    """

    def __init__(self, params: Als, seed: int = 0) -> None:
        self._params = params
        self._seed = seed
        self._item_ids = pl.Series("item_id", [], dtype=pl.String)
        self._weight = 1.0
        self._hold(np.empty((0, 0), np.float32))

    def fit(self, data: TrainingData) -> None:
        """Factor the window's events, with as many threads as there are."""
        if data.events is None:
            raise UserError("retriever als needs events")
        from implicit.cpu.als import AlternatingLeastSquares
        from scipy import sparse
        from threadpoolctl import threadpool_limits

        weights = self._params.weights.model_dump()
        events = data.events.with_columns(
            weight=pl.col("event").cast(pl.String).replace_strict(weights, return_dtype=pl.Float64)
        ).filter(pl.col("weight") > 0)
        self._item_ids = events["item_id"].unique().sort()
        self._weight = float(events["weight"].to_numpy().mean()) if events.height else 1.0
        item = self._item_ids.search_sorted(events["item_id"]).to_numpy()
        user = events["user_id"].rank("dense").to_numpy().astype(np.int64) - 1
        shape = (int(user.max(initial=-1)) + 1, len(self._item_ids))
        chosen = sparse.csr_matrix((events["weight"].to_numpy(), (user, item)), shape=shape)
        chosen.sum_duplicates()
        chosen.data = (1 + self._params.alpha * chosen.data).astype(np.float32)
        with threadpool_limits(1, "blas"):  # Its own threads call BLAS.
            model = AlternatingLeastSquares(
                factors=min(self._params.factors, max(min(shape) - 1, 1)),
                regularization=self._params.regularization,
                alpha=1.0,
                iterations=self._params.iterations,
                random_state=self._seed,
                use_cg=False,  # Exact, so that equal items have equal factors.
            )
            model.fit(chosen, show_progress=False)
        self._hold(np.asarray(model.item_factors, np.float32))

    def retrieve(self, queries: pl.DataFrame, k: int) -> pl.DataFrame:
        """Fold each history in and search; see `Retriever`."""
        found = [
            self._answer(queries.slice(start, _CHUNK), k)
            for start in range(0, queries.height, _CHUNK)
        ]
        return pl.concat(found) if found else self._answer(queries, k)

    def save(self, folder: Path) -> None:
        """Write factors, items and parameters."""
        np.save(folder / "factors.npy", self._factors)
        pl.DataFrame(self._item_ids).write_parquet(folder / "items.parquet")
        about = {"params": self._params.model_dump(), "weight": self._weight}
        write_json(folder / "retriever.json", about)

    @classmethod
    def load(cls, folder: Path, store: Path | None = None) -> Self:
        """Read a fitted retriever; it needs no encoder, nor `implicit`."""
        about = read_json(folder / "retriever.json")
        made = cls(Als.model_validate(about["params"]))
        made._weight = about["weight"]
        made._item_ids = pl.read_parquet(folder / "items.parquet")["item_id"]
        made._hold(np.load(folder / "factors.npy"))
        return made

    def _hold(self, factors: np.ndarray) -> None:
        self._factors = factors
        wide = factors.astype(np.float64)
        self._gram = wide.T @ wide
        self._index = FlatIndex(factors)

    def _answer(self, queries: pl.DataFrame, k: int) -> pl.DataFrame:
        past = past_items(queries, self._item_ids)
        read = past.filter(pl.col("steps") < self._params.max_history)
        asked = read["query"].unique().sort()
        users = self._folded_in(read.group_by("query", "item").len().sort("query", "item"))
        own = past if not self._params.repeat else past.clear()
        own = own.with_columns(query=asked.search_sorted(own["query"]).cast(pl.UInt32))
        longest = int(own.group_by("query").len()["len"].to_numpy().max(initial=0))
        items, scores = self._index.search(users, k + longest)
        items, scores, keep = without_past(items, scores, own, k)
        return candidates_frame(
            "als", queries["query_id"].gather(asked), items, scores, self._item_ids, keep
        )

    def _folded_in(self, read: pl.DataFrame) -> Any:
        """Solve for the factors of each query with a history, in their order: float32."""
        factors = self._factors.astype(np.float64)
        item = read["item"].to_numpy()
        confidence = 1 + self._params.alpha * self._weight * read["len"].to_numpy()
        begins = np.diff(read["query"].to_numpy().astype(np.int64), prepend=-1) != 0
        bounds = [*np.flatnonzero(begins), len(item)]
        penalty = self._gram + self._params.regularization * np.eye(factors.shape[1])
        users = np.empty((len(bounds) - 1, factors.shape[1]))
        for row, (low, high) in enumerate(itertools.pairwise(bounds)):
            own, sure = factors[item[low:high]], confidence[low:high]
            left = penalty + (own * (sure - 1)[:, None]).T @ own
            users[row] = np.linalg.solve(left, sure @ own)
        return users.astype(np.float32)
