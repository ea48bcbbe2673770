"""Training rows a second of `two_tower` beside torch-rechub's DSSM, on the same rows.

A generated log: users of a few tastes choose among items of brands and categories, some items far
more often than others. A row is one pair of a user's moment and an item, chosen or drawn as a
negative; both sides learn from as many. Both know the same of them: user segment, item id, brand
and category, and the last items of the history by the same three. All
towers have layers of about 64, of 128 and of 64.

The peer is fed as its own trainer feeds it, rows in a `DataLoader`; and once more, its network
alone, with batches cut from tensors. Its negatives are drawn and its histories written out before
the clock starts; ours are drawn and looked up on it. Rounds alternate, and the ratio is the median
of the rounds' own ratios.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
import typer

BRANDS, CATEGORIES, SEGMENTS, TASTES = 300, 30, 8, 10
DIM, HIDDEN, HISTORY = 64, 128, 20
PEER_DIM = 16
"""Of each of the peer's four features of a user, and three of an item."""
WANTED = 2.0


def shop(
    users: int, items: int, events: int, rng: np.random.Generator
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Draw items, users and events, as the tables that a retriever reads."""
    category = rng.integers(CATEGORIES, size=items)
    stock = pl.DataFrame(
        {
            "item_id": [f"i{n:07d}" for n in range(items)],
            "brand": [f"b{n}" for n in rng.integers(BRANDS, size=items)],
            "categories": [[f"c{n}"] for n in category],
        }
    )
    people = pl.DataFrame(
        {
            "user_id": [f"u{n:07d}" for n in range(users)],
            "segment": [f"s{n}" for n in rng.integers(SEGMENTS, size=users)],
        }
    )
    weight = 1 / np.arange(1, items + 1) ** 0.8
    drawn = [
        rng.choice(items, events, p=near / near.sum())
        for near in (weight * np.where(category % TASTES == n, 9, 1) for n in range(TASTES))
    ]
    user = rng.integers(users, size=events)
    chosen = np.stack(drawn)[user % TASTES, np.arange(events)]
    log = pl.DataFrame(
        {
            "user_id": people["user_id"].gather(user),
            "item_id": stock["item_id"].gather(chosen),
            "timestamp": pl.Series(rng.permutation(events)).cast(pl.Datetime("ms", "UTC")),
        }
    )
    return stock, people, log


def peer_rows(known: Any, negatives: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Write out every row that the peer learns from: features from 1, 0 for padding, and label.

    Args:
        known: the `Known` of our side.
        negatives: rows of an item that was not chosen, for each event.
        rng: draws them, by a power of popularity as our side does.
    """
    import torch

    lesson = known.lesson
    events = lesson.examples
    # An item's slots ascend, and the slot map goes by column: brand, category and, where it has
    # events, its id.
    slots = lesson.items.entries.numpy()[lesson.items.begin.numpy()[:, None] + [0, 1]]
    brand, category = (slots - slots.min(axis=0) + 1).T
    columns = {"brand": brand, "category": category, "item_id": np.arange(1, len(slots) + 1)}
    history = np.zeros((len(events), HISTORY), np.int64)
    items, _, offsets = events.histories(torch.arange(len(events)), 1.0)
    lengths = (events.end - events.begin).numpy()
    row = np.repeat(np.arange(len(events)), lengths)
    history[row, np.arange(len(row)) - offsets.numpy()[row]] = items.numpy() + 1
    chosen = events.item.numpy()
    popularity = np.bincount(chosen, minlength=len(slots)) ** 0.75
    drawn = rng.choice(len(slots), (len(events), negatives), p=popularity / popularity.sum())
    item = np.concatenate([chosen[:, None], drawn], 1).ravel()
    event = np.repeat(np.arange(len(events)), 1 + negatives)
    segment = lesson.users.entries.numpy()[lesson.users.begin.numpy()[events.user.numpy()]]
    rows = {"segment": (segment - segment.min() + 1)[event]}
    for name, values in columns.items():
        rows[name] = values[item]
        rows[f"past_{name}"] = np.concatenate([[0], values])[history[event]]
    rows["label"] = (np.arange(len(item)) % (1 + negatives) == 0).astype(np.int64)
    return rows


def peer(rows: dict[str, np.ndarray]) -> tuple[Any, Any]:
    """Return the peer's network and trainer, for features as `peer_rows` gives them."""
    from torch_rechub.basic.features import SequenceFeature, SparseFeature
    from torch_rechub.models.matching import DSSM
    from torch_rechub.trainers import MatchTrainer

    def size(name: str) -> dict[str, int]:
        return {"vocab_size": int(rows[name].max()) + 1, "embed_dim": PEER_DIM}

    names = ("brand", "category", "item_id")
    of_items = [SparseFeature(name, **size(name)) for name in names]
    past = [
        SequenceFeature(f"past_{name}", pooling="mean", shared_with=name, **size(name))
        for name in names
    ]
    of_users = [SparseFeature("segment", **size("segment")), *past]
    layers = {"dims": [HIDDEN, DIM], "activation": "relu"}
    network = DSSM(of_users, of_items, layers, dict(layers))
    return network, MatchTrainer(network, mode=0)


def main(
    users: Annotated[int, typer.Option(help="Users of the log.")] = 1_000,
    items: Annotated[int, typer.Option(help="Items of the catalogue.")] = 5_000,
    events: Annotated[int, typer.Option(help="Events of the log.")] = 20_000,
    negatives: Annotated[int, typer.Option(help="Negatives of an event.")] = 4,
    batch: Annotated[int, typer.Option(help="Rows of a step.")] = 2_560,
    threads: Annotated[int, typer.Option(help="Threads of either side.")] = 2,
    rounds: Annotated[int, typer.Option(help="Times that each side runs.")] = 3,
    seed: Annotated[int, typer.Option(help="Decides the log.")] = 7,
) -> None:
    """Print a table of medians and the ratios."""
    os.environ["TQDM_DISABLE"] = "1"  # Read when tqdm is imported.
    import torch
    from torch_rechub.utils.data import MatchDataGenerator

    from stages.core.params import TwoTower
    from stages.retrieve.retrievers import TrainingData
    from stages.retrieve.retrievers.towers.lesson import lesson_of
    from stages.retrieve.retrievers.towers.training import train

    torch.set_num_threads(threads)
    rng = np.random.default_rng(seed)
    stock, people, log = shop(users, items, events, rng)
    params = TwoTower(
        training="pointwise",
        dim=DIM,
        hidden=[HIDDEN],
        item_ids=True,
        min_count=1,
        max_history=HISTORY,
        negatives=negatives,
        batch_size=batch // (1 + negatives),
        epochs=1,
        min_steps=0,
    )
    data = TrainingData(pl.DataFrame(), events=log, items=stock, users=people)
    known = lesson_of(data, log, params)
    rows = peer_rows(known, negatives, rng)
    label = rows.pop("label")
    network, trainer = peer(rows)
    loader, _, _ = MatchDataGenerator(rows, label).generate_dataloader(
        rows, rows, batch, num_workers=0
    )
    tensors = {name: torch.from_numpy(values) for name, values in rows.items()}
    labels = torch.from_numpy(label).float()

    def network_alone() -> None:
        for part in torch.randperm(len(labels)).split(batch):
            said = network({name: values[part] for name, values in tensors.items()})
            loss = torch.nn.functional.binary_cross_entropy(said, labels[part])
            network.zero_grad()
            loss.backward()
            trainer.optimizer.step()

    with tempfile.TemporaryDirectory(prefix="winnow-bench-") as folder:
        sides: dict[str, Callable[[], Any]] = {
            "`two_tower`": lambda: train(known.lesson, params, seed, "cpu", Path(folder)),
            "torch-rechub, its trainer": lambda: trainer.train_one_epoch(loader),
            "torch-rechub, its network on tensors": network_alone,
        }
        seconds: dict[str, list[float]] = {side: [] for side in sides}
        for place in range(rounds):
            for side in sorted(sides, reverse=place % 2 == 0):
                started = time.perf_counter()
                sides[side]()
                seconds[side].append(time.perf_counter() - started)
    typer.echo(
        f"{len(labels):,} rows of {events:,} events, {items:,} items; {threads} threads; "
        f"medians of {rounds} rounds\n"
    )
    typer.echo(report(seconds, len(labels)))


def report(seconds: dict[str, list[float]], rows: int) -> str:
    """Return the Markdown table and the verdict on our side and two of the peer's, in order."""
    lines = ["| | seconds | rows/s |", "|---|---|---|"]
    for side, taken in seconds.items():
        median = statistics.median(taken)
        lines.append(f"| {side} | {median:.2f} | {rows / median:,.0f} |")
    ours, *theirs = seconds.values()
    fed, alone = (statistics.median(b / a for a, b in zip(ours, of, strict=True)) for of in theirs)
    return "\n".join(lines) + (
        f"\n\ntwo_tower learns from {fed:.1f} times as many rows a second as torch-rechub's DSSM "
        f"by its trainer (at least {WANTED:g} wanted), {alone:.1f} times as its network alone."
    )


if __name__ == "__main__":
    typer.run(main)
