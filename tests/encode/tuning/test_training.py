"""Training: batches without false negatives, a task learned, a run interrupted and resumed."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.core import tables
from stages.core.determinism import seed_everything
from stages.core.params import Finetune
from stages.encode.encoders.sentence_transformers import load_model
from stages.encode.tuning.training import curve, cut_tokens, distinct_batches, train
from tests.encode import tiny_models
from tests.encode.tiny_models import WORDS, settings

ASKED, FOUND = WORDS[:10], WORDS[10:20]


def finetune(**changes: Any) -> Finetune:
    fast = {
        "batch_size": 5,
        "epochs": 3.0,
        "lr": 1e-2,
        "precision": "fp32",
        "max_query_length": 8,
        "max_doc_length": 8,
        "eval_steps": 4,
    }
    return Finetune.model_validate({**fast, **changes})


def pairs(rows: int = 40, negatives: bool = False, users: int = 40) -> pl.DataFrame:
    """Each word of one list asks for its partner in the other: known only by learning it."""
    numbers = range(rows)
    return pl.DataFrame(
        [
            {
                "pair_id": f"e{n:02d}#review_text",
                "event_id": f"e{n:02d}",
                "user_id": f"u{n % users}",
                "item_id": f"i{n % 10}",
                "query": ASKED[n % 10],
                "positive": FOUND[n % 10],
                "negatives": [FOUND[(n + 1) % 10]] if negatives else [],
                "negative_ids": [f"i{(n + 1) % 10}"] if negatives else [],
            }
            for n in numbers
        ],
        tables.PAIRS.columns,
    )


def share_found(model: Any) -> float:
    """Recall@1 of the ten queries over the ten passages."""
    vectors = model.encode([*ASKED, *FOUND], normalize_embeddings=True, show_progress_bar=False)
    return float((np.argmax(vectors[:10] @ vectors[10:].T, axis=1) == np.arange(10)).mean())


def weights(model: Any) -> np.ndarray:
    return np.concatenate([tensor.cpu().numpy().ravel() for tensor in model.state_dict().values()])


def trained(model: Path, folder: Path, recall: Any = share_found, **changes: Any) -> Any:
    seed_everything(5)
    made = load_model(settings(model))
    rows = train(made, pairs(), finetune(**changes), 5, recall, folder)
    return made, rows


# Batches -----------------------------------------------------------------------------------------

codes = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=40)


@given(codes, st.integers(2, 5), st.integers(0, 2**32 - 1))
def test_no_item_and_no_user_stands_twice_in_a_batch(
    rows: list[tuple[int, int]], size: int, seed: int
) -> None:
    items, users = np.array([r[0] for r in rows], int), np.array([r[1] for r in rows], int)
    order = np.random.default_rng(seed).permutation(len(rows))
    batches = list(distinct_batches(items, users, size, order))
    for batch in batches:
        assert len(batch) == size
        assert len(set(items[batch])) == len(set(users[batch])) == size
    drawn = [row for batch in batches for row in batch]
    assert len(drawn) == len(set(drawn))
    assert batches == list(distinct_batches(items, users, size, order))


def test_rows_that_do_not_fit_wait_for_the_next_batch() -> None:
    items, users = np.array([0, 0, 1, 2]), np.array([0, 1, 1, 0])
    # Row 1 has the item of row 0; row 3 has its user.
    assert list(distinct_batches(items, users, 2, np.arange(4))) == [[0, 2], [1, 3]]


def test_without_repeats_every_row_is_drawn() -> None:
    batches = list(distinct_batches(np.arange(12), np.arange(12), 4, np.arange(12)[::-1]))
    assert batches == [[11, 10, 9, 8], [7, 6, 5, 4], [3, 2, 1, 0]]


def test_texts_are_cut_behind_their_first_tokens() -> None:
    texts = ["Guitar, violin drum", "harp", ""]
    # [CLS] guitar , violin [SEP]
    assert cut_tokens(tiny_models.tokenizer(), texts, 5) == ["Guitar, violin", "harp", ""]
    static = tiny_models.tokenizer().backend_tokenizer
    assert cut_tokens(static, texts, 3) == ["Guitar, violin", "harp", ""]


# Learning ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes", [{}, {"mini_batch_size": 2}], ids=["in-batch loss", "cached loss"]
)
def test_a_task_is_learned(bert: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    before = share_found(load_model(settings(bert)))
    model, rows = trained(bert, tmp_path / "run", **changes)
    losses = [row["loss"] for row in rows if "loss" in row]
    assert losses[-1] < losses[0] / 2
    assert before < 0.5 < 0.9 <= share_found(model)
    assert [row["step"] for row in rows] == sorted({row["step"] for row in rows})
    assert rows[-1]["recall"] >= 0.9


def test_hard_negatives_and_static_models_are_trained(static: Path, tmp_path: Path) -> None:
    model = load_model(settings(static))
    before = share_found(model)
    train(model, pairs(negatives=True), finetune(epochs=2.0), 5, share_found, tmp_path / "run")
    assert share_found(model) > before + 0.5


def test_equal_seeds_give_equal_weights(bert: Path, tmp_path: Path) -> None:
    first, rows = trained(bert, tmp_path / "a", epochs=1.0)
    again, rows_again = trained(bert, tmp_path / "b", epochs=1.0)
    assert weights(first).tobytes() == weights(again).tobytes()
    assert rows == rows_again


def test_the_best_checkpoint_is_what_stays(bert: Path, tmp_path: Path) -> None:
    seen: list[np.ndarray] = []

    def worse_every_time(model: Any) -> float:
        seen.append(weights(model))
        return 1.0 / len(seen)

    model, rows = trained(bert, tmp_path / "run", worse_every_time)
    assert len(seen) > 2
    np.testing.assert_array_equal(weights(model), seen[0])
    assert [row["recall"] for row in rows if "recall" in row][:2] == [1.0, 0.5]


def test_few_items_or_users_train_in_small_batches(bert: Path, tmp_path: Path) -> None:
    model = load_model(settings(bert))
    few = pairs(users=4)
    rows = train(model, few, finetune(batch_size=64), 5, share_found, tmp_path / "few")
    assert rows[-1]["step"] > 4


def test_pairs_that_fill_no_batch_train_nothing(bert: Path, tmp_path: Path) -> None:
    model = load_model(settings(bert))
    before = weights(model)
    assert train(model, pairs(users=1), finetune(), 5, share_found, tmp_path / "one") == []
    np.testing.assert_array_equal(weights(model), before)


# Interrupted -------------------------------------------------------------------------------------


class Killed(Exception):
    """What ends a run before its time."""


def test_an_interrupted_run_goes_on_where_it_was(bert: Path, tmp_path: Path) -> None:
    whole, rows = trained(bert, tmp_path / "whole")
    measured = 0

    def killed_at_the_third(model: Any) -> float:
        nonlocal measured
        measured += 1
        if measured == 3:
            raise Killed
        return share_found(model)

    with pytest.raises(Killed):
        trained(bert, tmp_path / "run", killed_at_the_third)
    saved = sorted(path.name for path in (tmp_path / "run").glob("checkpoint-*"))
    assert saved == ["checkpoint-4", "checkpoint-8"]
    # The kill came while a checkpoint was written.
    half = tmp_path / "run" / "checkpoint-12"
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"")

    model, resumed = trained(bert, tmp_path / "run", killed_at_the_third)
    assert measured == 3 + sum("recall" in row for row in rows if row["step"] > 8)
    assert [row["step"] for row in resumed] == [row["step"] for row in rows]
    np.testing.assert_allclose(weights(model), weights(whole), atol=1e-6)
    assert resumed == rows


def test_a_log_becomes_one_row_a_step() -> None:
    history = [
        {"step": 2, "loss": 1.5, "epoch": 0.1},
        {"step": 2, "eval_recall": 0.5},
        {"step": 3, "train_runtime": 1.0},
        {"step": 1, "loss": 2.0},
    ]
    assert curve(history) == [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.5, "recall": 0.5}]
