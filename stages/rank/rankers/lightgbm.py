"""LambdaMART by LightGBM (Burges, 2010; Ke et al., 2017)."""

from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl

from stages.core.params import Lightgbm
from stages.core.storage import read_json, write_json
from stages.rank.rankers.base import EVAL_CUT, importance_frame, learnable, matrix


class _Stop:
    """Ends training as `lightgbm.early_stopping` does, by a mean of the newest figures on valid.

    Tree by tree the figure of some thousand queries goes up and down by as much as hundreds of
    trees bring. The best of so many is then one that was lucky on valid, often early.
    """

    def __init__(self, patience: int, smoothing: int) -> None:
        self._patience, self._smoothing = patience, smoothing
        self._figures: list[float] = []
        self._best, self._best_at = -np.inf, 0

    def __call__(self, env: Any) -> None:
        """Look at the newest figure; see LightGBM's callbacks."""
        from lightgbm.callback import EarlyStopException

        self._figures.append(env.evaluation_result_list[0][2])
        newest = self._figures[-self._smoothing :]
        mean = float(np.mean(newest)) if len(newest) == self._smoothing else -np.inf
        if mean > self._best or not np.isfinite(self._best):
            self._best, self._best_at = mean, env.iteration
        is_last = env.iteration == env.end_iteration - 1
        if is_last or env.iteration - self._best_at >= self._patience:
            raise EarlyStopException(self._best_at, env.evaluation_result_list)


class LightgbmRanker:
    """Gradient boosted trees on the lambdarank objective."""

    def __init__(self, params: Lightgbm, seed: int) -> None:
        self._params = params
        self._seed = seed
        self._features: list[str] = []
        self._booster: Any = None

    def fit(self, examples: pl.DataFrame, valid: pl.DataFrame, features: list[str]) -> None:
        """Train on queries with a relevant candidate; stop on valid NDCG@5."""
        import lightgbm

        train = learnable(examples, features, "rank")
        held = learnable(valid, features, "valid")
        options: dict[str, Any] = {"free_raw_data": True, "feature_name": features}
        dataset = lightgbm.Dataset(train.features, train.labels, group=train.sizes, **options)
        reference = lightgbm.Dataset(
            held.features, held.labels, group=held.sizes, reference=dataset, **options
        )
        self._features = features
        self._booster = lightgbm.train(
            {
                "objective": "lambdarank",
                "metric": "ndcg",
                "eval_at": [EVAL_CUT],
                "learning_rate": self._params.learning_rate,
                "num_leaves": self._params.leaves,
                "min_data_in_leaf": self._params.min_leaf,
                "feature_fraction": self._params.feature_share,
                "lambdarank_truncation_level": self._params.truncation,
                "seed": self._seed,
                "deterministic": True,
                "force_row_wise": True,
                "verbosity": -1,
            },
            dataset,
            num_boost_round=self._params.trees,
            valid_sets=[reference],
            callbacks=[_Stop(self._params.early_stopping, self._params.smoothing)],
        )

    def score(self, examples: pl.DataFrame) -> np.ndarray:
        """Return a float32 score for each row."""
        if examples.is_empty():
            return np.empty(0, np.float32)
        rows = matrix(examples, self._features)
        return np.asarray(self._booster.predict(rows), dtype=np.float32)

    def importance(self) -> pl.DataFrame:
        """Gain of each feature."""
        return importance_frame(self._features, self._booster.feature_importance("gain"))

    def save(self, folder: Path) -> None:
        """Write the best iteration's trees and the features' order."""
        self._booster.save_model(folder / "model.txt", num_iteration=self._booster.best_iteration)
        about = {
            "features": self._features,
            "params": self._params.model_dump(),
            "seed": self._seed,
        }
        write_json(folder / "ranker.json", about)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        import lightgbm

        about = read_json(folder / "ranker.json")
        ranker = cls(Lightgbm.model_validate(about["params"]), about["seed"])
        ranker._features = about["features"]
        ranker._booster = lightgbm.Booster(model_file=folder / "model.txt")
        return ranker
