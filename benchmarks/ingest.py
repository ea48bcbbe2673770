"""Ingest and split beside plain pandas on a generated file of 700,000 reviews, 2023 shape.

Each side runs in a process of its own, from its start to its end, and makes the same tables: their
equality is asserted. Rounds alternate; the table shows medians.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import astuple, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import polars as pl
import typer

ROOT = Path(__file__).resolve().parent.parent
PARAMS = "ingest:\n  source: amazon\n  folder: raw\n"
WINNOW = """
from pathlib import Path
from stages.prepare import ingest, split
ingest.main(Path("params.yaml"))
split.main(Path("params.yaml"))
"""


@dataclass(frozen=True)
class Cost:
    """Wall and processor seconds, and peak resident memory in MB."""

    wall: float
    cpu: float
    memory: float


def measure(command: list[str], folder: Path) -> Cost:
    """Run a command in `folder` to its end."""
    started = time.perf_counter()
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed: {errors.decode()}")
    wall = time.perf_counter() - started
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1000)


def write_raw(folder: Path, reviews: int) -> Path:
    """Generate the file: a reviewed item for six reviews, a writer for 1.2, one in 100 twice."""
    from stages.core.params import Sample
    from stages.prepare.sources.amazon_writer import write_amazon_jsonl
    from stages.prepare.sources.sample import generate

    scale = Sample(
        reviews=reviews,
        items=max(reviews * 4 // 25, 20),
        users=max(reviews * 5 // 6, 20),
        impressions=0,
        pictures=0,
    )
    path, metadata = write_amazon_jsonl(folder, generate(scale, seed=7))
    metadata.unlink()
    return path


def assert_same(ours: Path, theirs: Path) -> None:
    """Both sides must have made the same events and the same queries, value by value."""
    for mine, other in (
        ("data/split/events.parquet", "split.parquet"),
        ("data/split/queries.parquet", "queries.parquet"),
    ):
        left, right = pl.read_parquet(ours / mine), pl.read_parquet(theirs / other)
        right = right.select(left.columns).cast(left.schema)
        assert left.equals(right), f"{mine} differs from the peer's"


def main(
    reviews: Annotated[int, typer.Option(help="Reviews in the generated file.")] = 700_000,
    rounds: Annotated[int, typer.Option(help="Times that each side runs.")] = 5,
) -> None:
    """Print a table of medians and the ratios."""
    costs: dict[str, list[Cost]] = {"winnow": [], "pandas": []}
    with tempfile.TemporaryDirectory(prefix="winnow-bench-") as name:
        ours, theirs = Path(name) / "ours", Path(name) / "theirs"
        # In a process of its own: a child's peak counts from its parent's at the fork.
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            raw = pool.submit(write_raw, ours / "raw", reviews).result()
        theirs.mkdir()
        (ours / "params.yaml").write_text(PARAMS, encoding="utf-8")
        peer = Path(__file__).with_name("ingest_pandas.py")
        for _ in range(rounds):
            costs["winnow"].append(measure([sys.executable, "-c", WINNOW], ours))
            costs["pandas"].append(
                measure([sys.executable, str(peer), str(raw), str(theirs)], theirs)
            )
        assert_same(ours, theirs)
        size = raw.stat().st_size / 1e6
    print(f"{reviews:,} reviews, {size:.0f} MB of JSON lines; medians of {rounds} rounds\n")
    print(f"{'':8}{'seconds':>10}{'cpu s':>10}{'peak MB':>10}")
    medians = {
        side: Cost(*map(statistics.median, zip(*map(astuple, of), strict=True)))
        for side, of in costs.items()
    }
    for side, cost in medians.items():
        print(f"{side:8}{cost.wall:10.2f}{cost.cpu:10.2f}{cost.memory:10.0f}")
    a, b = medians["winnow"], medians["pandas"]
    print(
        f"\nwinnow is {b.wall / a.wall:.1f} times as fast as pandas (at least 8 wanted; "
        f"{b.cpu / a.cpu:.1f} by processor time)\n"
        f"and takes {a.memory / b.memory:.2f} of its peak memory (under 0.33 wanted)"
    )


if __name__ == "__main__":
    typer.run(main)
