"""LambdaMART by XGBoost, objective rank:ndcg (Chen and Guestrin, 2016)."""

from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl

from stages.core.params import Xgboost
from stages.core.storage import read_json, write_json
from stages.rank.rankers.base import EVAL_CUT, Grouped, importance_frame, learnable, matrix


class XgboostRanker:
    """Gradient boosted trees on the rank:ndcg objective."""

    def __init__(self, params: Xgboost, seed: int) -> None:
        self._params = params
        self._seed = seed
        self._features: list[str] = []
        self._booster: Any = None

    def fit(self, examples: pl.DataFrame, valid: pl.DataFrame, features: list[str]) -> None:
        """Train on queries with a relevant candidate; stop on valid NDCG@5."""
        import xgboost

        self._features = features
        booster = xgboost.train(
            {
                "objective": "rank:ndcg",
                "eval_metric": f"ndcg@{EVAL_CUT}",
                "eta": self._params.learning_rate,
                "max_depth": self._params.depth,
                "min_child_weight": self._params.min_leaf,
                "colsample_bytree": self._params.feature_share,
                "tree_method": "hist",
                "seed": self._seed,
                "verbosity": 0,
            },
            self._matrix(learnable(examples, features, "rank")),
            num_boost_round=self._params.trees,
            evals=[(self._matrix(learnable(valid, features, "valid")), "valid")],
            early_stopping_rounds=self._params.early_stopping,
            verbose_eval=False,
        )
        self._booster = booster[: booster.best_iteration + 1]

    def score(self, examples: pl.DataFrame) -> np.ndarray:
        """Return a float32 score for each row."""
        import xgboost

        if examples.is_empty():
            return np.empty(0, np.float32)
        rows = matrix(examples, self._features)
        data = xgboost.DMatrix(rows, feature_names=self._features)
        return np.asarray(self._booster.predict(data), dtype=np.float32)

    def importance(self) -> pl.DataFrame:
        """Gain of each feature."""
        gains = self._booster.get_score(importance_type="total_gain")
        return importance_frame(
            self._features, np.array([gains.get(n, 0.0) for n in self._features])
        )

    def save(self, folder: Path) -> None:
        """Write the best iteration's trees and the features' order."""
        self._booster.save_model(folder / "model.json")
        about = {
            "features": self._features,
            "params": self._params.model_dump(),
            "seed": self._seed,
        }
        write_json(folder / "ranker.json", about)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        import xgboost

        about = read_json(folder / "ranker.json")
        ranker = cls(Xgboost.model_validate(about["params"]), about["seed"])
        ranker._features = about["features"]
        ranker._booster = xgboost.Booster(model_file=folder / "model.json")
        return ranker

    def _matrix(self, grouped: Grouped) -> Any:
        import xgboost

        queries = np.repeat(np.arange(len(grouped.sizes)), grouped.sizes)
        return xgboost.DMatrix(
            grouped.features, grouped.labels, qid=queries, feature_names=self._features
        )
