"""Exact batch search beside Chroma's own `query`, on vectors that lie in groups as texts' do.

Items are drawn from a mixture of 1,000 groups of uneven size in 48 dimensions, turned into the
width asked for and blurred a little; a query lies near one of the items. Vectors without such
structure, uniform on the sphere, would make approximate search look far worse than it is.

Chroma holds the collection as the stage `embed` writes it: inner product, its own defaults.
Building it is left out. It is asked in batches, once with what `query` returns by default (ids,
distances, texts of eighty words and titles of six, as long as documents are) and once for ids and
distances alone. Runs alternate, the table shows medians. Next to them stands the bare product of
the same matrices by `torch.mm`, block by block, and one of two square matrices: the rates that this
machine has to offer.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
import typer

from stages.core.determinism import torch_device
from stages.core.search import top_k
from stages.encode.encoders import chroma

GROUPS, LATENT, BLOCK, SQUARE = 1_000, 48, 512, 4096
WANTED = 4.0


@dataclass
class Side:
    """One way to do it, and what came of it.

    Attributes:
        title: how the table calls it.
        call: what runs.
        queries: answered in a run; 0 where none is.
        operations: floating point operations of its matrix products; 0 where there is none.
        recall: share of the exact answer that it found.
        seconds: of each run.
    """

    title: str
    call: Callable[[], Any]
    queries: int = 0
    operations: float = 0.0
    recall: float | None = None
    seconds: list[float] = field(default_factory=list)

    def run(self) -> Any:
        """Run once, on the clock, and return what came of it."""
        started = time.perf_counter()
        result = self.call()
        self.seconds.append(time.perf_counter() - started)
        return result

    @property
    def median(self) -> float:
        """Seconds of the run in the middle."""
        return statistics.median(self.seconds)

    @property
    def rate(self) -> float:
        """Floating point operations a second."""
        return self.operations / self.median


def vectors(
    items: int, queries: int, width: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw item and query vectors, float32 rows of length 1."""
    size = rng.pareto(1.5, GROUPS) + 0.1
    group = rng.choice(GROUPS, items, p=size / size.sum())
    centres = rng.standard_normal((GROUPS, LATENT))
    latent = centres[group] + 0.5 * rng.standard_normal((items, LATENT))
    near = latent[rng.integers(items, size=queries)]
    near = near + 0.4 * rng.standard_normal((queries, LATENT))
    turn = rng.standard_normal((LATENT, width)) / np.sqrt(width)
    return _unit(latent @ turn, rng), _unit(near @ turn, rng)


def _unit(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    blurred = rows + 0.05 * rng.standard_normal(rows.shape)
    unit = blurred / np.linalg.norm(blurred, axis=1, keepdims=True)
    return np.asarray(unit, np.float32)


def prose(count: int, words: int, seed: int) -> list[str]:
    """Draw `count` texts of so many words from a vocabulary of 5,000 of four to nine letters."""
    rng = np.random.default_rng(seed)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    vocabulary = ["".join(rng.choice(letters, length)) for length in rng.integers(4, 10, 5_000)]
    drawn = rng.integers(len(vocabulary), size=(count, words))
    return [" ".join(vocabulary[word] for word in row) for row in drawn.tolist()]


def recall(found: np.ndarray, exact: np.ndarray) -> float:
    """Mean share of each query's exact answer that was found.

    Args:
        found: rows of items, shape (queries, any); negative where there is none.
        exact: rows of items, shape (queries, k).
    """
    hits = [len(np.intersect1d(a, b)) for a, b in zip(found, exact, strict=True)]
    return float(np.mean(hits) / exact.shape[1])


def products(queries: np.ndarray, items: np.ndarray, block: int) -> Callable[[], None]:
    """Return a call that multiplies all queries with all items, as `top_k` has to.

    What is multiplied lies on the device before, and what comes of it stays there.
    """
    import torch

    device = torch_device()
    left, right = torch.from_numpy(queries).to(device), torch.from_numpy(items).to(device).T
    out = torch.empty((min(block, len(queries)), len(items)), device=device)

    def multiply() -> None:
        with torch.inference_mode():
            for part in left.split(block):
                torch.mm(part, right, out=out[: len(part)])
        if device == "cuda":
            torch.cuda.synchronize()

    return multiply


def square_product() -> Callable[[], None]:
    """Return a call that multiplies two square matrices of SQUARE rows."""
    ones = np.ones((SQUARE, SQUARE), np.float32)
    return products(ones, ones, SQUARE)


def ask_chroma(
    collection: Any, queries: np.ndarray, k: int, batch: int, include: Sequence[str] | None = None
) -> np.ndarray:
    """Return the rows that Chroma answers with, -1 behind an answer that is short.

    Args:
        collection: its ids are the rows' numbers.
        queries: float32, shape (n, d).
        k: results a query.
        batch: queries in one call.
        include: what is asked for beside ids; None for Chroma's default.
    """
    found = np.full((len(queries), k), -1, np.int64)
    options = {} if include is None else {"include": list(include)}
    for start in range(0, len(queries), batch):
        part = queries[start : start + batch]
        answer = collection.query(query_embeddings=part, n_results=k, **options)
        for row, ids in enumerate(answer["ids"], start):
            found[row, : len(ids)] = np.array(ids, dtype=np.int64)
    return found


def report(sides: dict[str, Side]) -> str:
    """Return the Markdown table and the verdict on sides that have run."""
    lines = ["| | seconds | queries/s | Gflop/s | recall |", "|---|---|---|---|---|"]
    for side in sides.values():
        speed = f"{side.queries / side.median:,.0f}" if side.queries else ""
        rate = f"{side.rate / 1e9:,.1f}" if side.operations else ""
        share = f"{side.recall:.3f}" if side.recall is not None else ""
        lines.append(f"| {side.title} | {side.median:.3f} | {speed} | {rate} | {share} |")
    exact = sides["exact"]
    ratios = {name: sides[name].median / exact.median for name in ("chroma", "lean")}
    shares = {name: exact.rate / sides[name].rate for name in ("mm", "square")}
    return "\n".join(lines) + (
        f"\n\nExact search is {ratios['chroma']:.1f} times as fast as Chroma's `query` (at least "
        f"{WANTED:g} wanted), {ratios['lean']:.1f} times where that returns ids and distances "
        f"alone, and reaches {shares['mm']:.0%} of the float32 rate of the bare product of the "
        f"same shape, {shares['square']:.0%} of the square one's."
    )


def main(
    items: Annotated[int, typer.Option(help="Vectors searched.")] = 112_000,
    queries: Annotated[int, typer.Option(help="Vectors to search for.")] = 5_000,
    width: Annotated[int, typer.Option(help="Length of a vector.")] = 384,
    k: Annotated[int, typer.Option(help="Results a query.")] = 100,
    batch: Annotated[
        int, typer.Option(help="Queries in one call of Chroma; times k at most 32766.")
    ] = 256,
    rounds: Annotated[int, typer.Option(help="Times that each side runs.")] = 5,
    seed: Annotated[int, typer.Option(help="Decides the vectors.")] = 7,
) -> None:
    """Print a table of medians, the ratio, and the share of the machine's rate."""
    import torch

    stock, asked = vectors(items, queries, width, np.random.default_rng(seed))
    names = [str(row) for row in range(items)]
    documents = pl.DataFrame(
        {
            "item_id": names,
            "text": prose(items, 80, seed),
            "title": prose(items, 6, seed + 1),
            "vector": pl.Series(stock),
        }
    )
    with tempfile.TemporaryDirectory(prefix="winnow-bench-") as folder:
        chroma.write_folder(Path(folder) / "chroma", "items", documents)
        with chroma.open_copy(Path(folder) / "chroma") as client:
            collection = client.get_collection("items", embedding_function=None)
            work = 2.0 * queries * items * width
            sides = {
                "exact": Side(
                    "`stages.core.search.top_k`",
                    lambda: top_k(asked, stock, k, BLOCK)[0],
                    queries,
                    work,
                ),
                "chroma": Side(
                    "Chroma `query`", lambda: ask_chroma(collection, asked, k, batch), queries
                ),
                "lean": Side(
                    "Chroma `query`, ids and distances",
                    lambda: ask_chroma(collection, asked, k, batch, ["distances"]),
                    queries,
                ),
                "mm": Side("`torch.mm`, same shape", products(asked, stock, BLOCK), 0, work),
                "square": Side(
                    f"`torch.mm`, {SQUARE} x {SQUARE}", square_product(), 0, 2.0 * SQUARE**3
                ),
            }
            ask_chroma(collection, asked[:1], k, 1)  # Reads the index into memory.
            top_k(asked[:BLOCK], stock, k, BLOCK)
            for _ in range(rounds):
                found = {name: side.run() for name, side in sides.items()}
    for name in ("exact", "chroma", "lean"):
        sides[name].recall = recall(found[name], found["exact"])
    typer.echo(
        f"{queries:,} queries, top {k}, over {items:,} x {width}; {torch_device()}, "
        f"{torch.get_num_threads()} threads; medians of {rounds} rounds\n"
    )
    typer.echo(report(sides))


if __name__ == "__main__":
    typer.run(main)
