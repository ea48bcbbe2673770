"""What every ranker does, and how examples become matrices."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

import numpy as np
import polars as pl

from stages.core.log import UserError
from stages.core.tables import SCORES

EVAL_CUT = 5
"""NDCG at this cut on valid decides when training stops."""


class Ranker(Protocol):
    """Scores (query, item) examples; higher is better within a query."""

    def fit(self, examples: pl.DataFrame, valid: pl.DataFrame, features: list[str]) -> None:
        """Learn from examples; stop early on valid.

        Raises:
            UserError: no query of `examples` has a relevant candidate.
        """
        ...

    def score(self, examples: pl.DataFrame) -> np.ndarray:
        """Return a float32 score for each row, in the rows' order."""
        ...

    def importance(self) -> pl.DataFrame:
        """Return feature and gain (share of the total), largest first."""
        ...

    def save(self, folder: Path) -> None:
        """Write the model into an existing folder."""
        ...

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        ...


@dataclass(frozen=True)
class Grouped:
    """Examples as a ranker's library takes them.

    Attributes:
        features: float32, shape (n, features); NaN where unknown.
        labels: relevance, shape (n,).
        sizes: rows of each query, in order.
    """

    features: np.ndarray
    labels: np.ndarray
    sizes: np.ndarray


def matrix(examples: pl.DataFrame, features: list[str]) -> np.ndarray:
    """Return the feature matrix; a missing column is an error that names it."""
    missing = [name for name in features if name not in examples.columns]
    if missing:
        raise UserError(f"examples lack the features {missing}; run `dvc repro examples`")
    return examples.select(pl.col(name).cast(pl.Float32) for name in features).to_numpy()


def learnable(examples: pl.DataFrame, features: list[str], what: str) -> Grouped:
    """Group the queries that have a relevant candidate; without one there is no order to learn."""
    kept = examples.filter(pl.col("relevance").max().over("query_id") > 0)
    if kept.is_empty():
        raise UserError(
            f"no {what} query has its target among the candidates, so there is nothing to rank; "
            "raise candidates.top_k or use more data"
        )
    kept = kept.sort("query_id", "item_id")
    sizes = kept.group_by("query_id", maintain_order=True).len()["len"].to_numpy()
    return Grouped(matrix(kept, features), kept["relevance"].to_numpy(), sizes)


def importance_frame(features: list[str], gains: np.ndarray) -> pl.DataFrame:
    """Return features by their share of the total gain, largest first, ties by name."""
    total = float(gains.sum()) or 1.0
    frame = pl.DataFrame({"feature": features, "gain": np.asarray(gains, float) / total})
    return frame.sort(["gain", "feature"], descending=[True, False])


def scores_frame(examples: pl.DataFrame, scores: np.ndarray, name: str) -> pl.DataFrame:
    """Rank each query's items by score, ties by item id, as a scores table."""
    return (
        examples.select("query_id", "item_id")
        .with_columns(score=pl.Series(scores, dtype=pl.Float32), ranker=pl.lit(name))
        .sort(["query_id", "score", "item_id"], descending=[False, True, False])
        .with_columns(rank=pl.int_range(1, pl.len() + 1, dtype=pl.UInt32).over("query_id"))
        .select(*SCORES.columns)
    )
