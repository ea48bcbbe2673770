"""Training: negatives, stopping early, and a kill that costs nothing."""

import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages.core.determinism import torch_device
from stages.core.params import TwoTower
from stages.retrieve.retrievers.towers.bags import Bags
from stages.retrieve.retrievers.towers.examples import Examples
from stages.retrieve.retrievers.towers.lesson import Lesson
from stages.retrieve.retrievers.towers.model import Towers
from stages.retrieve.retrievers.towers.training import Teacher, _parts, encoded, train

ITEMS, USERS, EVENTS = 30, 20, 240
UNSEEN = 25
"""Items from this one on are in no event."""


def lesson() -> Lesson:
    """Random events over items that each have a slot of their own, and users who have none."""
    rng = np.random.default_rng(2)
    user, item = rng.integers(USERS, size=EVENTS), rng.integers(UNSEEN, size=EVENTS)
    every = np.arange(ITEMS)
    return Lesson(
        Examples.of(user, item, rng.permutation(EVENTS), 5),
        Bags.of(every, every + 1, ITEMS),
        Bags.of(every[:0], every[:0], USERS + 1),
        (),
        Bags.of(np.array([0, 0, 3]), np.array([27, 28, 29]), USERS + 1),
        ITEMS + 1,
        (),
        torch.arange(ITEMS + 1) > 0,
    )


def settings(**other: Any) -> TwoTower:
    quick = {"dim": 8, "hidden": [8], "batch_size": 64, "epochs": 12, "min_steps": 0}
    return TwoTower.model_validate(quick | other)


LONG = settings(epochs=120, patience=120)


def weights(towers: Towers) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in towers.state_dict().items()}


@pytest.fixture(params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest) -> str:
    if request.param == "cuda" and torch_device() != "cuda":
        pytest.skip("no GPU")
    return str(request.param)


@pytest.mark.parametrize("training", ["in_batch", "pointwise"])
def test_what_is_learned_is_the_same_again_and_less_wrong(
    device: str, training: str, tmp_path: Path
) -> None:
    params = settings(training=training, hard=0.2, shown=0.2)
    first, curve = train(lesson(), params, 1, device, tmp_path)
    again, same = train(lesson(), params, 1, device, tmp_path)
    assert curve == same
    np.testing.assert_equal(weights(first), weights(again))
    assert [row["epoch"] for row in curve] == list(range(1, 13))
    assert curve[-1]["loss"] < curve[0]["loss"]
    other, _ = train(lesson(), params, 2, device, tmp_path)
    assert (weights(other)["slots"] != weights(first)["slots"]).any()
    assert list(tmp_path.iterdir()) == []


KILLED = """
import sys
from pathlib import Path
import torch
from tests.retrieve.retrievers.towers.test_tower_training import LONG, lesson, train
torch.set_num_threads(1)
train(lesson(), LONG, 1, "cpu", Path(sys.argv[1]))
"""


def test_a_kill_costs_no_more_than_an_epoch(tmp_path: Path) -> None:
    store = tmp_path / "killed"
    file = store / lesson().identity(LONG, 1) / "epoch.pt"
    running = subprocess.Popen([sys.executable, "-c", KILLED, str(store)], stderr=subprocess.PIPE)
    until = time.monotonic() + 120
    while not file.exists() and running.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL, running.stderr and running.stderr.read()
    kept = torch.load(file, weights_only=True)
    done = len(kept["curve"])
    assert 0 < done < LONG.epochs
    # A mark in the file shows that it was taken up.
    kept["curve"][0]["note"] = 7.0
    torch.save(kept, file)
    resumed, curve = train(lesson(), LONG, 1, "cpu", store)
    assert curve[0].pop("note") == 7.0
    whole, expected = train(lesson(), LONG, 1, "cpu", tmp_path / "whole")
    assert curve == expected
    np.testing.assert_equal(weights(resumed), weights(whole))
    assert list(store.iterdir()) == []


def test_a_checkpoint_of_other_data_or_settings_is_not_taken_up() -> None:
    one = lesson()
    identity = one.identity(settings(), 1)
    assert lesson().identity(settings(), 1) == identity
    assert one.identity(settings(), 2) != identity
    assert one.identity(settings(lr=0.02), 1) != identity
    one.examples.item[3] += 1
    assert one.identity(settings(), 1) != identity


def test_it_stops_where_held_out_users_gain_no_more(tmp_path: Path) -> None:
    params = settings(epochs=500, patience=3, lr=0.05)
    towers, curve = train(lesson(), params, 1, "cpu", tmp_path)
    figures = [row["mrr"] for row in curve]
    best = int(np.argmax(figures))
    assert len(curve) == best + 1 + 3 < 500
    _, held_out = _parts(lesson().examples, params, 1)
    assert held_out.numel() == (lesson().examples.user == lesson().examples.user[held_out[0]]).sum()
    judge = Teacher(lesson(), towers, params)
    assert judge.mean_reciprocal_rank(held_out) == pytest.approx(figures[best], abs=1e-6)
    assert figures[best] > figures[-1]


def test_the_rank_of_held_out_items_by_hand() -> None:
    """One user chose 0, then 1; another 2, then 3; a fifth item is of neither."""
    made = lesson()
    user, item, time = np.array([0, 0, 1, 1, 2]), np.array([0, 1, 2, 3, 4]), np.arange(5)
    towers = Towers(made.slots, [], 2, [])
    with torch.no_grad():
        towers.slots[1:6] = torch.tensor([[1, 0], [0.6, 0.8], [0.8, 0.6], [0, 1.0], [0.6, 0.8]])
        for layers in (towers.user_layers, towers.item_layers):
            for weight in layers.parameters():
                weight.zero_()
    asked = replace(made, examples=Examples.of(user, item, time, 5))
    taught = Teacher(asked, towers, settings())
    # By the first item, which it has: the third scores 0.8, its own 0.6, as the fifth does.
    assert taught.mean_reciprocal_rank(torch.tensor([1])) == pytest.approx(1 / 2.5)
    # By the third: 0.96 and 0.96 before its own 0.6, and the first 0.8 as well.
    assert taught.mean_reciprocal_rank(torch.tensor([3])) == pytest.approx(1 / 4)
    both = taught.mean_reciprocal_rank(torch.tensor([1, 3]))
    assert both == pytest.approx((1 / 2.5 + 1 / 4) / 2)


def test_few_events_are_passed_over_more_often(tmp_path: Path) -> None:
    _, curve = train(lesson(), settings(epochs=2, min_steps=30), 1, "cpu", tmp_path)
    assert [row["step"] for row in curve] == list(range(4, 33, 4))


def teacher(**params: Any) -> Teacher:
    made = lesson()
    towers = Towers(made.slots, [], 8, [8])
    taught = Teacher(made, towers, settings(**params))
    taught.begin_epoch()
    return taught


def drawn(taught: Teacher, users: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    return taught._negatives(users, right, torch.Generator().manual_seed(5))


def test_negatives_are_of_the_window_by_a_power_of_their_popularity() -> None:
    users = torch.zeros(50_000, dtype=torch.int64)
    found = drawn(teacher(training="pointwise", popularity_power=0.5, negatives=2), users, users)
    assert found.shape == (50_000, 2)
    count = lesson().examples.item.bincount(minlength=ITEMS) ** 0.5
    share = found.flatten().bincount(minlength=ITEMS) / found.numel()
    assert share[UNSEEN:].sum() == 0
    np.testing.assert_allclose(share, count / count.sum(), atol=0.005)


def test_what_was_shown_is_drawn_for_whom_it_was_shown_to() -> None:
    users = torch.tensor([0, 1, 3] * 1000)
    found = drawn(teacher(training="pointwise", shown=1.0, negatives=2), users, users)
    assert set(found[users == 0].flatten().tolist()) == {27, 28}
    assert set(found[users == 3].flatten().tolist()) == {29}
    assert found[users == 1].max() < UNSEEN
    in_batch = drawn(teacher(shown=1.0), users, users)
    assert in_batch.bincount(minlength=ITEMS)[27:].sum() == len(in_batch) == 2000


def test_hard_negatives_are_near_what_was_chosen() -> None:
    taught = teacher(training="pointwise", hard=1.0, negatives=1)
    assert taught._near is not None
    _, vectors = encoded(taught._towers, lesson(), torch.arange(UNSEEN))
    cosines = vectors @ vectors.T
    rows = torch.arange(UNSEEN)
    nearest = taught._near[:UNSEEN]
    np.testing.assert_array_equal(nearest[:, 0], rows)
    near = cosines.gather(1, nearest)
    assert (near.diff(dim=1) <= 1e-6).all()
    found = drawn(taught, rows * 0, rows)
    assert found.max() < UNSEEN
    share = drawn(teacher(hard=0.3), rows.repeat(100) * 0, rows.repeat(100))
    assert len(share) == pytest.approx(0.3 * 2500, rel=0.15)


def test_in_batches_nothing_is_drawn_that_is_not_asked_for() -> None:
    rows = torch.arange(9)
    assert len(drawn(teacher(), rows, rows)) == 0
