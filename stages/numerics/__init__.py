"""Computations on arrays that several rooms share: metrics with their intervals, exact search."""
