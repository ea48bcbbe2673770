"""The towers: one network for who asks, one for an item, whose vectors' cosine is the score."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from stages.retrieve.retrievers.towers.bags import Bags

_SMALL = 0.1
"""Length that slots, and what the layers add, have at first; texts and pictures have about one."""


class Towers(torch.nn.Module):
    """A two-tower network (Huang et al., 2013) that knows ids only where they are given slots.

    An item's input is the sum of its slots' embeddings and of its text and picture vectors, each
    turned into `dim` numbers. A user's is the sum of theirs and of the weighted mean of the inputs
    of their history. Either input goes through layers of its own, which it bypasses too, and to
    length one. Slots of the unknown start at zero: until something rare has trained them, they say
    nothing. Ids may be left out at random in training, so that what else is known of an item learns
    to speak for it, as it must where the id is new.

    Before training the score is all but the cosine of an item's text and picture with the mean of
    the history's: vectors are only turned, slots are short, and the layers add next to nothing (a
    residual branch that starts at zero: Goyal et al., Accurate, Large Minibatch SGD, 2017, section
    5.1). What is learned is learned beside that, and new items keep it.
    """

    def __init__(
        self,
        slots: int,
        widths: Sequence[int],
        dim: int,
        hidden: Sequence[int],
        unknown: Sequence[int] = (),
        dropout: Tensor | None = None,
        seed: int = 0,
    ) -> None:
        """Draw the weights.

        Args:
            slots: rows of the embedding table, padding included.
            widths: lengths of the vectors that items have, none above `dim`.
            dim: of inputs and outputs.
            hidden: widths of the layers between.
            unknown: slots that start at zero.
            dropout: how often a slot is left out in training, shape (slots,); None leaves none out.
            seed: decides the weights.
        """
        super().__init__()
        self._dropout = dropout
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            table = torch.randn(slots, dim) * (_SMALL / dim**0.5)
            table[[0, *unknown]] = 0
            self.slots = torch.nn.Parameter(table)
            self.vectors = torch.nn.ParameterList(
                [torch.nn.init.orthogonal_(torch.empty(width, dim)) for width in widths]
            )
            self.item_layers = _layers(dim, hidden)
            self.user_layers = _layers(dim, hidden)
            self.bias = torch.nn.Parameter(torch.zeros(()))

    def item_inputs(
        self,
        rows: Tensor,
        bags: Bags,
        vectors: Sequence[Tensor],
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return the inputs of items, shape (rows, dim); a generator leaves slots out."""
        inputs = self._pooled(bags, rows, generator)
        for weights, of_items in zip(self.vectors, vectors, strict=True):
            inputs = inputs + of_items[rows].to(weights.dtype) @ weights
        return inputs

    def item_vectors(self, inputs: Tensor) -> Tensor:
        """Return vectors of length one, shape (rows, dim)."""
        return functional.normalize(inputs + self.item_layers(inputs))

    def user_vectors(
        self,
        rows: Tensor,
        bags: Bags,
        history: Tensor,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return vectors of length one, shape (rows, dim).

        Args:
            rows: of `bags`.
            bags: users' slots.
            history: the mean inputs of what they chose before, shape (rows, dim).
            generator: leaves slots out.
        """
        inputs = history
        if len(bags.entries):
            inputs = history + self._pooled(bags, rows, generator)
        return functional.normalize(inputs + self.user_layers(inputs))

    def _pooled(self, bags: Bags, rows: Tensor, generator: torch.Generator | None) -> Tensor:
        entries, weights, offsets = bags.take(rows)
        if generator is not None and self._dropout is not None:
            drawn = torch.rand(len(entries), generator=generator, device=entries.device)
            weights = weights * (drawn >= self._dropout[entries])
        return pooled(self.slots, entries, weights, offsets)


def pooled(table: Tensor, entries: Tensor, weights: Tensor, offsets: Tensor) -> Tensor:
    """Sum rows of a table by their weights, bag by bag; an empty bag is zero."""
    return functional.embedding_bag(
        entries, table, offsets, mode="sum", per_sample_weights=weights.to(table.dtype)
    )


def _layers(dim: int, hidden: Sequence[int]) -> torch.nn.Sequential:
    layers: list[torch.nn.Module] = []
    widths = [dim, *hidden]
    for width, following in itertools.pairwise(widths):
        layers += [torch.nn.Linear(width, following), torch.nn.ReLU()]
    last = torch.nn.Linear(widths[-1], dim)
    torch.nn.init.zeros_(last.weight)
    # Not zero, for who has neither attributes nor a history has a direction by this alone.
    torch.nn.init.normal_(last.bias, std=_SMALL / dim**0.5)
    return torch.nn.Sequential(*layers, last)
