"""The gate by hand: ranks, gains, which queries count and what is sampled."""

import numpy as np

from stages.encode.tuning import gate
from tests.encode.test_finetune import documents, queries


def test_ranks_are_counted_from_one_and_ties_stand_before() -> None:
    asked = np.array([[1, 0], [0, 1], [1, 1]], np.float32)
    known = np.array([[1, 0], [0, 2], [0, 1]], np.float32)
    assert gate.target_ranks(asked, known, np.array([0, 2, 0])).tolist() == [1, 2, 3]
    gains = gate.reciprocal_gain(np.array([1, 3, 10, 11]))
    np.testing.assert_allclose(gains, [1, 0.5, 1 / np.log2(11), 0])


def test_ranks_are_the_same_over_blocks() -> None:
    """Queries are scored 512 at a time."""
    asked = np.tile(np.eye(3, dtype=np.float32), (400, 1))
    known = np.array([[3, 1, 1], [2, 2, 0], [1, 3, 2]], np.float32)
    ranks = gate.target_ranks(asked, known, np.tile([1, 1, 1], 400))
    assert ranks.tolist() == [2, 2, 3] * 400


def test_queries_without_a_document_are_left_out() -> None:
    known = documents().filter(window="train").head(4)
    found = gate.with_target_row(queries(), known)
    assert found["query_id"].to_list() == ["q0", "q1", "q2", "q3"]
    assert found["target"].to_list() == [0, 1, 2, 3]


def test_an_evaluation_draws_targets_and_as_many_others() -> None:
    known = documents().filter(window="train")
    all_queries = gate.with_target_row(queries(), known)
    drawn, corpus = gate.sample_for_evaluation(all_queries, known, 3, seed=1)
    assert (drawn.height, corpus.height) == (3, 6)
    assert (corpus["item_id"].gather(drawn["target"]) == drawn["item_id"]).all()
    again, _ = gate.sample_for_evaluation(all_queries, known, 3, seed=1)
    assert drawn.equals(again)
