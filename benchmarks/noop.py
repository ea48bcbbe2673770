"""`dvc repro` with nothing to do, here and in an empty pipeline of as many stages.

The empty pipeline is a chain of stages that copy one small file, in a git repository of its own
with this checkout's DVC settings. It is what DVC itself costs; the rest is our dependencies. Both
run in turn, one first in one round and the other in the next; the ratio is the median of the
rounds' own ratios, for a machine may be slow a while.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
import yaml

UP_TO_DATE = "Data and pipelines are up to date"
WANTED = 1.5
ENVIRONMENT = {**os.environ, "DVC_NO_ANALYTICS": "1"}


def dvc(folder: Path, *arguments: str) -> str:
    """Run DVC in `folder` and return what it printed."""
    return _run(folder, sys.executable, "-m", "dvc", *arguments)


def _run(folder: Path, *command: str) -> str:
    done = subprocess.run(
        command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} in {folder} failed: {done.stdout}{done.stderr}")
    return done.stdout


def chain(stages: int) -> str:
    """Return the dvc.yaml of stages that each copy the file of the one before."""
    return yaml.safe_dump(
        {
            "stages": {
                f"copy{place}": {
                    "cmd": f"cp {place}.txt {place + 1}.txt",
                    "deps": [f"{place}.txt"],
                    "outs": [f"{place + 1}.txt"],
                }
                for place in range(stages)
            }
        }
    )


def make_empty(folder: Path, stages: int, settings: Path) -> None:
    """Make the empty pipeline and run it once."""
    _run(folder, "git", "init", "--quiet")
    dvc(folder, "init", "--quiet")
    shutil.copyfile(settings, folder / ".dvc" / "config")
    (folder / "0.txt").write_text("a line\n", encoding="utf-8")
    (folder / "dvc.yaml").write_text(chain(stages), encoding="utf-8")
    dvc(folder, "repro", "--quiet")
    _run(folder, "git", "add", "--all")
    who = ("-c", "user.name=benchmark", "-c", "user.email=benchmark@localhost")
    _run(folder, "git", *who, "commit", "--quiet", "--message", "empty pipeline")


def seconds(folder: Path) -> float:
    """Return how long a `dvc repro` takes that finds nothing to do.

    Raises:
        SystemExit: there was something to do.
    """
    started = time.perf_counter()
    said = dvc(folder, "repro")
    taken = time.perf_counter() - started
    if UP_TO_DATE not in said:
        raise SystemExit(f"{folder}: `dvc repro` had something to do: {said[-400:]}")
    return taken


def main(
    checkout: Annotated[Path, typer.Option(help="A checkout that is up to date.")] = Path("."),
    rounds: Annotated[int, typer.Option(help="Times that each side runs.")] = 30,
) -> None:
    """Print a table of medians and their ratio."""
    if UP_TO_DATE not in dvc(checkout, "status"):
        raise SystemExit(f"{checkout.resolve()} is not up to date; run `dvc repro` there first")
    stages = len(dvc(checkout, "stage", "list", "--name-only").split())
    costs: dict[str, list[float]] = {"winnow": [], "empty": []}
    with tempfile.TemporaryDirectory(prefix="winnow-bench-") as name:
        make_empty(Path(name), stages, checkout / ".dvc" / "config")
        folders = {"winnow": checkout, "empty": Path(name)}
        for folder in folders.values():
            seconds(folder)  # The first run reads modules and files from the disk.
        for place in range(rounds):
            for side in sorted(folders, reverse=place % 2 == 0):
                costs[side].append(seconds(folders[side]))
    ours, theirs = (statistics.median(costs[side]) for side in ("winnow", "empty"))
    typer.echo(f"`dvc repro` with nothing to do; medians of {rounds} rounds\n")
    typer.echo("| pipeline | stages | seconds |\n|---|---|---|")
    typer.echo(f"| winnow | {stages} | {ours:.2f} |")
    typer.echo(f"| empty | {stages} | {theirs:.2f} |")
    ratio = statistics.median(a / b for a, b in zip(costs["winnow"], costs["empty"], strict=True))
    typer.echo(f"\nThe ratio is {ratio:.2f} (at most {WANTED:g} wanted).")


if __name__ == "__main__":
    typer.run(main)
