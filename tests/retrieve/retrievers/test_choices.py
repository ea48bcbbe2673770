"""Choices: sums by hand, and nothing that depends on the order of events."""

from random import Random

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from stages.core.params import EventWeights
from stages.core.tables import EVENTS
from stages.retrieve.retrievers.choices import choices

WEIGHTS = EventWeights().model_dump()
NAMES = ("user_id", "item_id", "event")
rows = st.lists(
    st.tuples(st.sampled_from("abcd"), st.sampled_from("wxyz"), st.sampled_from(list(WEIGHTS)))
)


def said(made: list[tuple[str, str, str]]) -> pl.DataFrame:
    return pl.DataFrame(made, {name: EVENTS.columns[name] for name in NAMES}, orient="row")


def test_weights_add_up_by_user_and_item() -> None:
    found = choices(
        said([("b", "y", "purchase"), ("a", "y", "view"), ("b", "y", "view"), ("b", "x", "cart")]),
        WEIGHTS | {"view": 0.5},
    )
    assert found.pairs.rows() == [(0, 1, 0.5), (1, 0, 3.0), (1, 1, 5.5)]
    assert found.user_ids.to_list() == ["a", "b"]
    assert found.item_ids.to_list() == ["x", "y"]
    assert found.mean_weight == (5 + 0.5 + 0.5 + 3) / 4
    assert found.confidences(2.0).toarray().tolist() == [[0, 2], [7, 12]]


def test_who_only_did_what_weighs_nothing_is_not_there() -> None:
    found = choices(said([("a", "x", "view"), ("b", "y", "cart")]), WEIGHTS | {"view": 0.0})
    assert (found.user_ids.to_list(), found.item_ids.to_list()) == (["b"], ["y"])


@given(rows, st.randoms(use_true_random=False))
def test_order_says_nothing_and_nothing_is_lost(
    made: list[tuple[str, str, str]], rng: Random
) -> None:
    found = choices(said(made), WEIGHTS)
    shuffled = rng.sample(made, len(made))
    again = choices(said(shuffled), WEIGHTS)
    assert found.pairs.equals(again.pairs)
    assert found.pairs["weight"].sum() == sum(WEIGHTS[event] for _, _, event in made)
    pairs = {
        (found.user_ids[user], found.item_ids[item]) for user, item, _ in found.pairs.iter_rows()
    }
    assert pairs == {(user, item) for user, item, _ in made}
    matrix = found.confidences(1.0)
    assert matrix.shape == found.shape
    assert np.isclose(matrix.sum(), found.pairs["weight"].sum() + found.pairs.height)
