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
    chosen: Tensor,
    temperature: float,
) -> Tensor:
    """Softmax over the items of a batch, corrected for how often each of them is in one.

    Yi et al., Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations,
    RecSys 2019, equations 3 to 5: log of an item's share is taken from its score. An item that
    stands in the batch several times is scored once and counts as often.

    Args:
        users: vectors, shape (n, d).
        items: vectors of distinct items, shape (m, d).
        target: the item that each user chose, shape (n,).
        count: how often an item stands in the batch, shape (m,).
        share: of the window's events that are of an item, shape (m,).
        chosen: what a user chose in the window and is no negative, shape (n, m).
        temperature: divides the cosines.
    """
    corrected = users @ items.T / temperature - share.log()
    right = corrected.gather(1, target[:, None])
    others = (corrected + count.log()).masked_fill(chosen, -torch.inf)
    return (others.scatter(1, target[:, None], right).logsumexp(1) - right[:, 0]).mean()


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


def chosen_among(users: Tensor, place: Tensor, columns: int, chosen: Bags) -> Tensor:
    """Return which of a batch's items each user chose in the window, shape (n, columns).

    Args:
        users: rows of `chosen`, shape (n,).
        place: column of each item of the catalogue; -1 for those that are not in the batch.
        columns: how many there are.
        chosen: every user's items.
    """
    places, row, _ = spread(chosen.begin[users], chosen.end[users])
    column = place[chosen.entries[places]]
    inside = column >= 0
    found = torch.zeros((len(users), columns), dtype=torch.bool, device=users.device)
    found[row[inside], column[inside]] = True
    return found


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
