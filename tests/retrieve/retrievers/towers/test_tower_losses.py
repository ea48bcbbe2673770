"""Losses by hand: the correction for popularity, and negatives that are none."""

import numpy as np
import pytest
import torch

from stages.retrieve.retrievers.towers.bags import Bags, compact
from stages.retrieve.retrievers.towers.losses import (
    chosen_among,
    in_batch_loss,
    pointwise_loss,
    was_chosen,
)

NONE = (torch.tensor([], dtype=torch.int64), torch.tensor([], dtype=torch.int64))
USERS = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
ITEMS = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
TARGET = torch.tensor([0, 1, 1])
COUNT = torch.tensor([1, 2])
SHARE = torch.tensor([0.1, 0.4])
COSINES = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])


def test_the_corrected_softmax_by_hand() -> None:
    loss = in_batch_loss(USERS, ITEMS, TARGET, COUNT, SHARE, NONE, temperature=0.5)
    corrected = np.exp(COSINES / 0.5) / np.array([0.1, 0.4])
    # The first user sees the second item twice; to those who chose it, it stands there once.
    right = np.array([corrected[0, 0], corrected[1, 1], corrected[2, 1]])
    others = np.array([2 * corrected[0, 1], corrected[1, 0], corrected[2, 0]])
    assert loss.item() == pytest.approx(-np.log(right / (right + others)).mean(), rel=1e-5)


def test_it_is_the_softmax_over_the_rows_of_the_batch() -> None:
    """As the paper writes it: every row's item a column, those of one's own item left out."""
    scores = torch.from_numpy(COSINES).float()[:, TARGET] / 0.5 - SHARE[TARGET].log()
    own = (TARGET[:, None] == TARGET) & ~torch.eye(3, dtype=torch.bool)
    scores = scores.masked_fill(own, -torch.inf)
    expected = torch.nn.functional.cross_entropy(scores, torch.arange(3))
    loss = in_batch_loss(USERS, ITEMS, TARGET, COUNT, SHARE, NONE, temperature=0.5)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_what_the_user_chose_elsewhere_is_no_negative() -> None:
    """Both the own target and another item of the third user are among what is masked."""
    chosen = (torch.tensor([2, 2]), torch.tensor([0, 1]))
    loss = in_batch_loss(USERS, ITEMS, TARGET, COUNT, SHARE, chosen, temperature=0.5)
    corrected = np.exp(COSINES / 0.5) / np.array([0.1, 0.4])
    first = corrected[0, 0] / (corrected[0, 0] + 2 * corrected[0, 1])
    second = corrected[1, 1] / corrected[1].sum()
    # The third is alone with its item, which costs nothing.
    assert loss.item() == pytest.approx(-np.log([first, second, 1]).mean(), rel=1e-5)


def test_nothing_is_learned_of_masked_negatives() -> None:
    items = ITEMS.clone().requires_grad_()
    chosen = (torch.tensor([0]), torch.tensor([1]))
    one = torch.tensor([0])
    in_batch_loss(USERS[:1], items, one, COUNT, SHARE, chosen, 0.5).backward()
    assert items.grad is not None
    assert items.grad.abs().sum() == 0


def test_pointwise_by_hand() -> None:
    wrong = torch.stack([ITEMS, ITEMS, ITEMS])
    chosen = torch.tensor([[True, False], [False, True], [False, True]])
    bias = torch.tensor(-1.0)
    loss = pointwise_loss(USERS, ITEMS[TARGET], wrong, chosen, 0.5, bias)
    right = np.array([1.0, 1.0, 0.8]) / 0.5 - 1
    left = np.array([0.0, 0.0, 0.6]) / 0.5 - 1
    expected = (np.log1p(np.exp(-right)).sum() + np.log1p(np.exp(left)).sum()) / 6
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_what_was_chosen_is_found_as_by_looking_it_up() -> None:
    rng = np.random.default_rng(4)
    pairs = np.unique(rng.integers(0, 20, size=(60, 2)), axis=0)
    chosen = Bags.of(pairs[:, 0], pairs[:, 1], 20)
    known = {tuple(pair) for pair in pairs.tolist()}
    users = torch.from_numpy(rng.integers(0, 20, size=12))
    items, place = compact(torch.from_numpy(rng.integers(0, 20, size=8)), 20)
    rows, columns = chosen_among(users, place, chosen)
    found = set(zip(rows.tolist(), columns.tolist(), strict=True))
    expected = {
        (row, column)
        for row, user in enumerate(users.tolist())
        for column, item in enumerate(items.tolist())
        if (user, item) in known
    }
    assert found == expected
    assert expected
    asked = items.expand(12, -1)
    keys = torch.from_numpy(pairs[:, 0] * 20 + pairs[:, 1])
    mask = was_chosen(users, asked, keys, 20)
    assert {tuple(at) for at in mask.nonzero().tolist()} == expected
    assert not was_chosen(users, asked, keys[:0], 20).any()
