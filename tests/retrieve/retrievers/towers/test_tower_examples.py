"""Histories as stretches of events: what `split` gives its queries, without a loop."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
import torch

from stages.core import tables
from stages.prepare.splitting.histories import histories
from stages.retrieve.retrievers.towers.bags import Bags, compact, spread
from stages.retrieve.retrievers.towers.examples import Examples, recency_weights

START = datetime(2023, 1, 1, tzinfo=UTC)


def examples(rows: list[tuple[int, int, int]], max_history: int = 99) -> Examples:
    """(user, item, time) as examples."""
    user, item, time = (np.array(column) for column in zip(*rows, strict=True))
    return Examples.of(user, item, time, max_history)


ROWS = [(0, 7, 1), (0, 5, 2), (0, 4, 2), (0, 9, 3), (1, 5, 1)]


def test_a_history_is_what_precedes_the_moment() -> None:
    made = examples(ROWS)
    assert made.item.tolist() == [7, 4, 5, 9, 5]
    items, weights, offsets = made.histories(torch.tensor([0, 1, 2, 3, 4]), 0.5)
    assert offsets.tolist() == [0, 0, 1, 2, 5]
    assert items.tolist() == [7, 7, 7, 4, 5]
    # Of the three before the fourth, one lies a moment before the other two: 1/2 to 1 and 1.
    assert weights.tolist() == pytest.approx([1, 1, 0.2, 0.4, 0.4])


def test_only_the_newest_are_read() -> None:
    items, weights, _ = examples(ROWS, 2).histories(torch.tensor([3]), 0.5)
    assert items.tolist() == [4, 5]
    assert weights.tolist() == pytest.approx([0.5, 0.5])


def test_rows_may_come_in_any_order_and_twice() -> None:
    items, _, offsets = examples(ROWS).histories(torch.tensor([2, 4, 2]), 1.0)
    assert (items.tolist(), offsets.tolist()) == ([7, 7], [0, 1, 1])


def test_histories_are_those_of_queries() -> None:
    rng = np.random.default_rng(3)
    frame = pl.DataFrame(
        {
            "user_id": [f"u{n}" for n in rng.integers(9, size=300)],
            "item_id": [f"i{n:02d}" for n in rng.integers(30, size=300)],
            "timestamp": [START + timedelta(days=int(day)) for day in rng.integers(40, size=300)],
        },
        {name: tables.EVENTS.columns[name] for name in ("user_id", "item_id", "timestamp")},
    ).sort("user_id", "timestamp", "item_id")
    user = frame["user_id"].rank("dense").to_numpy() - 1
    item = frame["item_id"].str.tail(2).cast(pl.Int64).to_numpy()
    time = frame["timestamp"].dt.epoch("ms").to_numpy()
    made = Examples.of(user, item, time, 300)
    every = torch.arange(len(made))
    items, _, _ = made.histories(every, 0.9)
    expected = histories(frame, pl.Series(np.arange(300))).explode(empty_as_null=False)
    ids = expected.struct.field("item_id").str.tail(2).cast(pl.Int64)
    assert items.tolist() == ids.to_list()
    lengths = made.end - made.begin
    assert int(lengths.sum()) == len(ids) > 1000


def test_weights_of_a_history_sum_to_one() -> None:
    weights = recency_weights(torch.tensor([2, 1, 0, 0]), torch.tensor([3, 0, 1]), 0.5)
    assert weights.tolist() == pytest.approx([1 / 7, 2 / 7, 4 / 7, 1])


def test_what_users_chose_is_held_once() -> None:
    chosen = examples([(0, 7, 1), (0, 7, 2), (0, 3, 3), (2, 1, 1)]).chosen(4)
    entries, _, offsets = chosen.take(torch.tensor([0, 1, 2, 3]))
    assert entries.tolist() == [3, 7, 1]
    assert offsets.tolist() == [0, 2, 2, 3]


def test_stretches_are_written_out() -> None:
    place, row, offsets = spread(torch.tensor([4, 9, 0]), torch.tensor([6, 9, 3]))
    assert place.tolist() == [4, 5, 0, 1, 2]
    assert row.tolist() == [0, 0, 2, 2, 2]
    assert offsets.tolist() == [0, 2, 2]


def test_distinct_values_and_their_places() -> None:
    values, place = compact(torch.tensor([[5, 2], [2, 5]]), 7)
    assert values.tolist() == [2, 5]
    assert place.tolist() == [-1, -1, 0, -1, -1, 1, -1]


def test_an_entry_is_drawn_from_its_row() -> None:
    bags = Bags.of(np.array([0, 0, 2]), np.array([8, 9, 7]), 3)
    rows, uniform = torch.tensor([0, 0, 1, 2]), torch.tensor([0.49, 0.5, 0.9, 0.999999])
    entry, has = bags.draw(rows, uniform)
    assert has.tolist() == [True, True, False, True]
    assert entry[has].tolist() == [8, 9, 7]
    _, has = Bags.of(np.array([]), np.array([]), 3).draw(rows[:3], uniform[:3])
    assert not has.any()
