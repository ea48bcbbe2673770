"""Sparse products of which only some entries are wanted."""

from typing import Any

import numpy as np

_CHUNK = 65_536
"""Pairs whose sparse rows are gathered at once."""


def pair_products(left: Any, right: Any, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Inner products of row `rows[i]` of `left` with row `columns[i]` of `right`, float32."""
    products = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), _CHUNK):
        span = slice(start, start + _CHUNK)
        products[span] = np.asarray(
            left[rows[span]].multiply(right[columns[span]]).sum(axis=1)
        ).ravel()
    return products
