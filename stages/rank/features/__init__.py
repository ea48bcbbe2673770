"""One feature program, offline and online."""

from stages.rank.features.program import FeatureProgram

__all__ = ["FeatureProgram"]
