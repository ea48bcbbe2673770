"""Ingest and split beside plain pandas on a generated file of 700,000 reviews, 2023 shape.

Both sides run as two processes, ingest and split, and make the same tables; times add up, of the
two peaks of resident memory the larger counts. Rounds alternate; the table shows medians.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import polars as pl
import typer

ROOT = Path(__file__).resolve().parent.parent
PARAMS = "ingest:\n  source: amazon\n  folder: raw\n"


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
        right = right.select(left.columns).cast(dict(left.schema))
        assert left.equals(right), f"{mine} differs from the peer's"


def main(
    reviews: Annotated[int, typer.Option(help="Reviews in the generated file.")] = 700_000,
    rounds: Annotated[int, typer.Option(help="Times that each side runs.")] = 3,
) -> None:
    """Print a table of medians and the ratios."""
    stages = {
        "winnow": [
            [sys.executable, "-m", "stages.prepare.ingest"],
            [sys.executable, "-m", "stages.prepare.split"],
        ]
    }
    costs: dict[tuple[str, int], list[Cost]] = {}
    with tempfile.TemporaryDirectory(prefix="winnow-bench-") as name:
        ours, theirs = Path(name) / "ours", Path(name) / "theirs"
        # In a process of its own: a child's peak counts from its parent's at the fork.
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            raw = pool.submit(write_raw, ours / "raw", reviews).result()
        theirs.mkdir()
        (ours / "params.yaml").write_text(PARAMS, encoding="utf-8")
        script = str(Path(__file__).with_name("ingest_pandas.py"))
        stages["pandas"] = [
            [sys.executable, script, "ingest", str(raw), str(theirs)],
            [sys.executable, script, "split", str(raw), str(theirs)],
        ]
        for _ in range(rounds):
            for side, commands in stages.items():
                for place, command in enumerate(commands):
                    folder = ours if side == "winnow" else theirs
                    costs.setdefault((side, place), []).append(measure(command, folder))
        assert_same(ours, theirs)
        size = raw.stat().st_size / 1e6
    print(f"{reviews:,} reviews, {size:.0f} MB of JSON lines; medians of {rounds} rounds\n")
    print(f"{'':8}{'ingest s':>10}{'split s':>10}{'both s':>10}{'cpu s':>10}{'peak MB':>10}")
    total = {}
    for side in stages:
        ingest, split = costs[side, 0], costs[side, 1]
        both = statistics.median(a.wall + b.wall for a, b in zip(ingest, split, strict=True))
        cpu = statistics.median(a.cpu + b.cpu for a, b in zip(ingest, split, strict=True))
        peak = statistics.median(
            max(a.memory, b.memory) for a, b in zip(ingest, split, strict=True)
        )
        total[side] = Cost(both, cpu, peak)
        walls = [statistics.median(cost.wall for cost in of) for of in (ingest, split)]
        print(f"{side:8}{walls[0]:10.2f}{walls[1]:10.2f}{both:10.2f}{cpu:10.2f}{peak:10.0f}")
    a, b = total["winnow"], total["pandas"]
    print(
        f"\nwinnow is {b.wall / a.wall:.1f} times as fast as pandas (at least 8 wanted; "
        f"{b.cpu / a.cpu:.1f} by processor time) "
        f"and takes {a.memory / b.memory:.2f} of its peak memory (under 0.33 wanted)"
    )


if __name__ == "__main__":
    typer.run(main)
