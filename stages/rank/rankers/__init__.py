"""Rankers by name; each scores the same examples."""

from pathlib import Path

from stages.core.params import RankerName, Train
from stages.rank.rankers.base import Ranker

__all__ = ["Ranker", "load_ranker", "make_ranker"]


def make_ranker(name: RankerName, params: Train, seed: int) -> Ranker:
    """Return the unfitted ranker of that name."""
    if name == "lightgbm":
        from stages.rank.rankers.lightgbm import LightgbmRanker

        return LightgbmRanker(params.lightgbm, seed)
    from stages.rank.rankers.xgboost import XgboostRanker

    return XgboostRanker(params.xgboost, seed)


def load_ranker(name: RankerName, folder: Path) -> Ranker:
    """Load a fitted ranker from the folder to which `save` wrote it."""
    if name == "lightgbm":
        from stages.rank.rankers.lightgbm import LightgbmRanker

        return LightgbmRanker.load(folder)
    from stages.rank.rankers.xgboost import XgboostRanker

    return XgboostRanker.load(folder)
