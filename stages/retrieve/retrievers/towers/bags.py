"""Rows that each hold any number of entries, laid end to end, for batches without a loop."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Bags:
    """Row r holds the entries from `begin[r]` up to `end[r]`.

    Attributes:
        begin: int64, shape (rows,).
        end: of the same shape.
        entries: int64, of any length.
        weights: float32, of that length.
    """

    begin: Tensor
    end: Tensor
    entries: Tensor
    weights: Tensor

    @classmethod
    def of(
        cls, row: np.ndarray, entry: np.ndarray, rows: int, weight: np.ndarray | None = None
    ) -> Self:
        """Lay out entries whose `row` ascends; without weights each weighs one."""
        bounds = np.searchsorted(row, np.arange(rows + 1))
        weights = np.ones(len(row)) if weight is None else weight
        return cls(
            torch.from_numpy(bounds[:-1].astype(np.int64)),
            torch.from_numpy(bounds[1:].astype(np.int64)),
            torch.from_numpy(entry.astype(np.int64)),
            torch.from_numpy(weights.astype(np.float32)),
        )

    def to(self, device: str) -> "Bags":
        """Return the same on another device."""
        return Bags(*(part.to(device) for part in vars(self).values()))

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return entries, weights and the offsets of some rows, as `embedding_bag` wants them."""
        place, _, offsets = spread(self.begin[rows], self.end[rows])
        return self.entries[place], self.weights[place], offsets

    def draw(self, rows: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """Return an entry of each row, drawn by a number in [0, 1), and whether it has any.

        Args:
            rows: shape (n,).
            uniform: of the same shape.
        """
        begin, length = self.begin[rows], self.end[rows] - self.begin[rows]
        if not len(self.entries):
            return begin, length > 0
        place = begin + (uniform * length).long().clamp(max=length - 1)
        return self.entries[place.clamp(0, len(self.entries) - 1)], length > 0


def spread(begin: Tensor, end: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Write stretches out: every place, the stretch that it is of, and where each one starts."""
    length = end - begin
    offsets = length.cumsum(0) - length
    row = torch.repeat_interleave(length)
    place = torch.arange(len(row), device=begin.device) + (begin - offsets)[row]
    return place, row, offsets


def compact(rows: Tensor, total: int) -> tuple[Tensor, Tensor]:
    """Return the distinct values of `rows`, ascending, and each number's place there, or -1.

    `torch.unique` sorts; this marks.

    Args:
        rows: numbers in [0, total), any shape.
        total: how many there could be.
    """
    seen = torch.zeros(total, dtype=torch.bool, device=rows.device)
    seen[rows.flatten()] = True
    return seen.nonzero()[:, 0], torch.where(seen, seen.cumsum(0) - 1, -1)
