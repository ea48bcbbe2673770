"""Figures of the evaluation: means, differences, slices and losses, each with its interval."""
