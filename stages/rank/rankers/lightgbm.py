"""LambdaMART by LightGBM (Burges, 2010; Ke et al., 2017)."""

from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl

from stages.core.params import Lightgbm
from stages.core.storage import read_json, write_json
from stages.rank.rankers.base import EVAL_CUT, importance_frame, learnable, matrix


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
            callbacks=[lightgbm.early_stopping(self._params.early_stopping, verbose=False)],
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
