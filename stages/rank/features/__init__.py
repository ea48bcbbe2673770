"""One feature program, offline and online."""

from stages.rank.features.program import NOT_FEATURES, FeatureProgram, feature_names

__all__ = ["NOT_FEATURES", "FeatureProgram", "feature_names"]
