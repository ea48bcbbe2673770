"""Contrastive training of a sentence-transformers model, with batches free of false negatives."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from stages.core.determinism import cpu_has_bf16, torch_device
from stages.core.log import get_logger, progress
from stages.core.params import Finetune
from stages.encode.encoders.sentence_transformers import read_at_most

log = get_logger(__name__)


def distinct_batches(
    items: np.ndarray, users: np.ndarray, size: int, order: np.ndarray
) -> Iterator[list[int]]:
    """Yield batches of row numbers in which no item and no user stands twice.

    In-batch negatives are other rows' documents: a second row of the item would be the right answer
    called wrong, and so may be an item that the same user chose. Rows that do not fit wait for the
    next batch; those that fit no full batch any more are left out of this epoch.

    Args:
        items: item code of each row.
        users: user code of each row.
        size: rows in a batch.
        order: the permutation in which rows are offered.
    """
    waiting = order.tolist()
    while len(waiting) >= size:
        batch: list[int] = []
        seen_items: set[int] = set()
        seen_users: set[int] = set()
        late: list[int] = []
        for position, row in enumerate(waiting):
            if items[row] in seen_items or users[row] in seen_users:
                late.append(row)
                continue
            seen_items.add(items[row])
            seen_users.add(users[row])
            batch.append(row)
            if len(batch) == size:
                late += waiting[position + 1 :]
                break
        if len(batch) < size:
            return
        yield batch
        waiting = late


def cut_tokens(tokenizer: Any, texts: Sequence[str], limit: int) -> list[str]:
    """Cut each text behind its first `limit` tokens, special tokens counted in where it has any."""
    if hasattr(tokenizer, "encode_batch"):  # a static model's, of the library tokenizers
        encodings = tokenizer.encode_batch(list(texts), add_special_tokens=False)
        spans = [encoding.offsets[:limit] for encoding in encodings]
    else:
        options = {"truncation": True, "max_length": limit, "return_offsets_mapping": True}
        spans = tokenizer(list(texts), **options)["offset_mapping"]
    return [
        text[: max((end for _, end in offsets), default=0)]
        for text, offsets in zip(texts, spans, strict=True)
    ]


def last_checkpoint(folder: Path) -> Path | None:
    """Return the newest whole checkpoint: a trainer's state is the last that is written of one."""
    whole = [path.parent for path in folder.glob("checkpoint-*/trainer_state.json")]
    return max(whole, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def train(
    model: Any,
    pairs: pl.DataFrame,
    params: Finetune,
    seed: int,
    recall: Callable[[Any], float],
    checkpoints: Path,
) -> list[dict[str, float]]:
    """Train `model` in place and return the curve; the best checkpoint on `recall` is what stays.

    MultipleNegativesRankingLoss (Henderson et al., 2017), or its cached form (Gao et al., 2021)
    when `mini_batch_size` is set. A folder `checkpoints` that holds any is resumed from. Batches
    are at the most half as large as there are distinct items or users.

    Args:
        model: a `SentenceTransformer`.
        pairs: the pairs table.
        params: the parameters of fine-tuning.
        seed: decides the order of rows and the dropout.
        recall: measures the model on valid; called every `eval_steps`, higher is better.
        checkpoints: folder for checkpoints of a run, kept until the caller deletes it.

    Returns:
        rows of step, loss and recall, each where it was measured; none, and an untouched model,
        where no two pairs differ in item and user.
    """
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.base.evaluation import BaseEvaluator
    from sentence_transformers.base.sampler import DefaultBatchSampler
    from sentence_transformers.sentence_transformer import losses
    from transformers import PrinterCallback, TrainerCallback

    items = pairs["item_id"].rank("dense").to_numpy()
    users = pairs["user_id"].rank("dense").to_numpy()
    distinct = min(pairs["item_id"].n_unique(), pairs["user_id"].n_unique())
    batch_size = min(params.batch_size, max(2, distinct // 2))

    def batches(size: int, epoch: int = 0) -> Iterator[list[int]]:
        order = np.random.default_rng([seed, epoch]).permutation(len(items))
        return distinct_batches(items, users, size, order)

    if next(batches(batch_size), None) is None:
        return []

    class DistinctSampler(DefaultBatchSampler):
        def __iter__(self) -> Iterator[list[int]]:
            return batches(self.batch_size, int(getattr(self, "epoch", 0) or 0))

        def __len__(self) -> int:
            return sum(1 for _ in batches(self.batch_size))

    class Trainer(SentenceTransformerTrainer):
        def get_batch_sampler(self, dataset: Any, batch_size: int, *_: Any, **__: Any) -> Any:
            return DistinctSampler(dataset, batch_size, drop_last=True)

    class Recall(BaseEvaluator):
        primary_metric = "recall"

        def __call__(self, model: Any, *_: Any, **__: Any) -> dict[str, float]:
            return {"recall": recall(model)}

    class Progress(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            here = state.is_world_process_zero
            self._bar = progress(
                total=state.max_steps if here else 0, initial=state.global_step, desc="finetune"
            )

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self._bar.update(state.global_step - self._bar.n)

        def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            measured = curve(state.log_history)[-1]
            if state.is_world_process_zero:
                log.info("step %d: recall on valid %.4f", state.global_step, measured["recall"])

        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self._bar.close()

    columns = {
        "anchor": cut_tokens(model.tokenizer, pairs["query"].to_list(), params.max_query_length),
        "positive": cut_tokens(model.tokenizer, pairs["positive"].to_list(), params.max_doc_length),
    }
    for place in range(int(pairs["negatives"].list.len().to_numpy().max(initial=0))):
        texts = pairs["negatives"].list.get(place).to_list()
        columns[f"negative_{place}"] = cut_tokens(model.tokenizer, texts, params.max_doc_length)

    if params.mini_batch_size:
        loss: Any = losses.CachedMultipleNegativesRankingLoss(
            model, scale=params.scale, mini_batch_size=params.mini_batch_size
        )
    else:
        loss = losses.MultipleNegativesRankingLoss(model, scale=params.scale)
    on_cuda = torch_device() == "cuda"
    half = params.precision
    if half == "auto":
        half = "bf16" if on_cuda or cpu_has_bf16() else "fp32"
    read_at_most(model, max(params.max_query_length, params.max_doc_length))
    trainer = Trainer(
        model=model,
        args=SentenceTransformerTrainingArguments(
            output_dir=str(checkpoints),
            num_train_epochs=params.epochs,
            per_device_train_batch_size=batch_size,
            learning_rate=params.lr,
            warmup_steps=params.warmup,
            bf16=half == "bf16",
            fp16=half == "fp16",
            use_cpu=not on_cuda,
            eval_strategy="steps",
            eval_steps=params.eval_steps,
            save_steps=params.eval_steps,
            save_total_limit=2,
            load_best_model_at_end=True,
            metric_for_best_model="eval_recall",
            greater_is_better=True,
            logging_steps=max(1, min(10, params.eval_steps)),
            seed=seed,
            data_seed=seed,
            report_to=[],
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_dict(columns),
        loss=loss,
        evaluator=Recall(),
        callbacks=[Progress()],
    )
    trainer.remove_callback(PrinterCallback)
    newest = last_checkpoint(checkpoints)
    trainer.train(resume_from_checkpoint=None if newest is None else str(newest))
    return curve(trainer.state.log_history)


def curve(history: Sequence[dict[str, float]]) -> list[dict[str, float]]:
    """Pick step, loss and recall out of a trainer's log, one row a step."""
    rows: dict[int, dict[str, float]] = {}
    for entry in history:
        step = int(entry["step"])
        row = rows.setdefault(step, {"step": step})
        if "loss" in entry:
            row["loss"] = float(entry["loss"])
        if "eval_recall" in entry:
            row["recall"] = float(entry["eval_recall"])
    return [row for _, row in sorted(rows.items()) if len(row) > 1]
