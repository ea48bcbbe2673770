"""What the towers learn from: a window's events, each with what its user did before."""

from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from torch import Tensor

from stages.retrieve.retrievers.towers.bags import Bags, spread


@dataclass(frozen=True)
class Examples:
    """Events by user and time; a history is a stretch of them.

    Attributes:
        user: row of each event's user, int64, shape (events,), ascending.
        item: row of its item.
        moment: counts the moments of all users; events of one user and time share one.
        begin: where the event's history begins among the events, no more than `max_history` before
            its end.
        end: the first event of the same moment, where the history ends.
    """

    user: Tensor
    item: Tensor
    moment: Tensor
    begin: Tensor
    end: Tensor

    @classmethod
    def of(
        cls, user: np.ndarray, item: np.ndarray, time: np.ndarray, max_history: int
    ) -> "Examples":
        """Order events by user, time and item, and find what precedes each."""
        events = pl.DataFrame({"user": user, "time": time, "item": item})
        events = events.sort("user", "time", "item")
        user, item, time = (events[name].to_numpy() for name in ("user", "item", "time"))
        new_user = np.ones(len(user), bool)
        new_user[1:] = user[1:] != user[:-1]
        new_moment = new_user.copy()
        new_moment[1:] |= time[1:] != time[:-1]
        place = np.arange(len(user))
        first = np.maximum.accumulate(np.where(new_user, place, 0))
        end = np.maximum.accumulate(np.where(new_moment, place, 0))
        begin = np.maximum(first, end - max_history)
        columns = (user, item, np.cumsum(new_moment) - 1, begin, end)
        return cls(*(torch.from_numpy(column.astype(np.int64)) for column in columns))

    def __len__(self) -> int:
        return len(self.user)

    def to(self, device: str) -> "Examples":
        """Return the same on another device."""
        return Examples(*(part.to(device) for part in vars(self).values()))

    def histories(self, rows: Tensor, recency: float) -> tuple[Tensor, Tensor, Tensor]:
        """Return items, weights and offsets of what preceded events, for `embedding_bag`.

        Weights are those of `recency_weights`.
        """
        begin, end = self.begin[rows], self.end[rows]
        place, row, offsets = spread(begin, end)
        steps = self.moment[(end - 1)[row]] - self.moment[place]
        return self.item[place], recency_weights(steps, end - begin, recency), offsets

    def chosen(self, users: int) -> Bags:
        """Return every user's items, once each, ascending."""
        pairs = pl.DataFrame({"user": self.user.numpy(), "item": self.item.numpy()})
        pairs = pairs.unique().sort("user", "item")
        return Bags.of(pairs["user"].to_numpy(), pairs["item"].to_numpy(), users)


def recency_weights(steps: Tensor, lengths: Tensor, recency: float) -> Tensor:
    """Weigh the entries of histories: `recency` to the power of the steps, each history in sum one.

    Args:
        steps: moments between an entry and the newest of its history, shape (entries,).
        lengths: entries of each history, shape (histories,), in sum as many.
        recency: weight of a moment relative to the one after it.
    """
    weights = torch.pow(recency, steps.float())
    if not len(weights):
        return weights
    total = torch.segment_reduce(weights, "sum", lengths=lengths)
    return weights / total.repeat_interleave(lengths)
