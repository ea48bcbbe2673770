"""What training makes small, and the negatives in it that are none."""

import torch
from torch import Tensor
from torch.nn import functional

from stages.retrieve.retrievers.towers.bags import Bags, spread


def in_batch_loss(
    users: Tensor,
    items: Tensor,
    target: Tensor,
    count: Tensor,
    share: Tensor,
    chosen: tuple[Tensor, Tensor],
    temperature: float,
) -> Tensor:
    """Softmax over the items of a batch, corrected for how often each of them is in one.

    Yi et al., Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations,
    RecSys 2019, equations 3 to 5: log of an item's share is taken from its score. An item that
    stands in the batch several times is scored once and counts as often, but to who chose it.

    Args:
        users: vectors, shape (n, d).
        items: vectors of distinct items, shape (m, d).
        target: the item that each user chose, shape (n,).
        count: how often an item stands in the batch, shape (m,).
        share: of the window's events that are of an item, shape (m,).
        chosen: rows and items, two of a shape, that are no negatives; those of `target` may be
            among them.
        temperature: divides the cosines.
    """
    users = users / temperature
    scores = torch.addmm(count.log() - share.log(), users, items.T)
    scores[chosen] = -torch.inf
    right = (users * items[target]).sum(1) - share.log()[target]
    scores[torch.arange(len(users), device=users.device), target] = right
    return functional.cross_entropy(scores, target)


def pointwise_loss(
    users: Tensor,
    right: Tensor,
    wrong: Tensor,
    chosen: Tensor,
    temperature: float,
    bias: Tensor,
) -> Tensor:
    """Binary cross-entropy of what was chosen and of negatives, a mean over both.

    Args:
        users: vectors, shape (n, d).
        right: vectors of the items that they chose, shape (n, d).
        wrong: vectors of negatives, shape (n, m, d).
        chosen: negatives that the user chose in the window and that are left out, shape (n, m).
        temperature: divides the cosines.
        bias: added to them, for the share of negatives.
    """
    of_right = (users * right).sum(1) / temperature + bias
    of_wrong = torch.einsum("nd,nmd->nm", users, wrong) / temperature + bias
    loss = functional.softplus(-of_right).sum()
    loss = loss + functional.softplus(of_wrong).masked_fill(chosen, 0.0).sum()
    return loss / (of_right.numel() + chosen.logical_not().sum())


def chosen_among(users: Tensor, place: Tensor, chosen: Bags) -> tuple[Tensor, Tensor]:
    """Return what users chose in the window of the items of a batch: rows of `users`, columns.

    Args:
        users: rows of `chosen`, shape (n,).
        place: column of each item of the catalogue; -1 for those that are not in the batch.
        chosen: every user's items.
    """
    places, row, _ = spread(chosen.begin[users], chosen.end[users])
    column = place[chosen.entries[places]]
    inside = (column >= 0).nonzero()[:, 0]
    return row[inside], column[inside]


def was_chosen(users: Tensor, items: Tensor, keys: Tensor, total: int) -> Tensor:
    """Return whether users chose items in the window.

    Args:
        users: shape (n,).
        items: shape (n, m).
        keys: user x total + item of all that was chosen, ascending.
        total: items of the catalogue.
    """
    if not len(keys):
        return torch.zeros_like(items, dtype=torch.bool)
    asked = users[:, None] * total + items
    return keys[torch.searchsorted(keys, asked).clamp(max=len(keys) - 1)] == asked
