"""The networks by hand: what goes into them, and what is left out."""

import numpy as np
import pytest
import torch

from stages.retrieve.retrievers.towers.bags import Bags
from stages.retrieve.retrievers.towers.model import Towers, pooled

ROWS = torch.tensor([0, 1, 2])
BAGS = Bags.of(np.array([0, 0, 2]), np.array([1, 3, 2]), 3, np.array([1.0, 0.5, 1.0]))
TABLE = torch.tensor([[0.0, 0.0], [1.0, 2.0], [3.0, 4.0], [10.0, 20.0]])


def towers(**given: object) -> Towers:
    made = Towers(4, [1], 2, [], **given)  # type: ignore[arg-type]
    with torch.no_grad():
        made.slots.copy_(TABLE)
        made.vectors[0].copy_(torch.tensor([[1.0, -1.0]]))
    return made


def test_an_input_is_the_sum_of_slots_and_vectors() -> None:
    inputs = towers().item_inputs(ROWS, BAGS, [torch.tensor([[0.0], [0.0], [5.0]])])
    assert inputs.tolist() == [[6, 12], [0, 0], [8, -1]]


def test_bags_are_summed_by_weights() -> None:
    found = pooled(TABLE, torch.tensor([1, 2]), torch.tensor([2.0, 1.0]), torch.tensor([0, 2]))
    assert found.tolist() == [[5, 8], [0, 0]]


def test_vectors_are_of_length_one_for_who_has_nothing_too() -> None:
    made = towers()
    vectors = made.user_vectors(ROWS, BAGS, torch.zeros(3, 2))
    assert vectors.norm(dim=1).tolist() == pytest.approx([1, 1, 1])


def test_slots_are_left_out_in_training_alone() -> None:
    made = towers(dropout=torch.tensor([0.0, 0.0, 0.0, 1.0]))
    none = [torch.zeros(3, 1)]
    whole = made.item_inputs(ROWS, BAGS, none)
    assert whole.tolist() == [[6, 12], [0, 0], [3, 4]]
    thinned = made.item_inputs(ROWS, BAGS, none, torch.Generator().manual_seed(1))
    assert thinned.tolist() == [[1, 2], [0, 0], [3, 4]]


def test_the_unknown_says_nothing_at_first() -> None:
    made = Towers(4, [], 2, [8], unknown=[2])
    assert made.slots[[0, 2]].abs().sum() == 0
    assert (made.slots[[1, 3]] != 0).all()


def test_before_training_the_score_is_the_cosine_of_vectors() -> None:
    made = Towers(1, [3], 8, [16])
    given = torch.nn.functional.normalize(torch.randn(5, 3, generator=torch.Generator()), dim=1)
    nothing = Bags.of(np.array([], int), np.array([], int), 6)
    with torch.inference_mode():
        who = torch.arange(6)
        nobody = made.user_vectors(who, nothing, torch.zeros(6, 8))
        assert nobody.norm(dim=1).tolist() == pytest.approx([1] * 6)
        for layers in (made.user_layers, made.item_layers):
            layers[-1].bias.zero_()
        inputs = made.item_inputs(torch.arange(5), nothing, [given])
        asked = made.user_vectors(who[:5], nothing, inputs)
        scores = asked @ made.item_vectors(inputs).T
    torch.testing.assert_close(scores, given @ given.T)


def test_the_seed_decides_and_nothing_else_is_drawn() -> None:
    torch.manual_seed(4)
    first = Towers(4, [3], 2, [8], seed=1)
    after = torch.rand(1)
    torch.manual_seed(4)
    assert torch.rand(1) == after
    second, third = Towers(4, [3], 2, [8], seed=1), Towers(4, [3], 2, [8], seed=2)
    assert torch.equal(first.user_layers[0].weight, second.user_layers[0].weight)
    assert not torch.equal(first.slots, third.slots)
