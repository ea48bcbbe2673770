"""Candidates to a ranked list: features, rankers, scores."""
