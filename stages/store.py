"""What was paid for, told, pruned and moved: `python -m stages.store size`."""

import shutil
import time
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated

import typer

from stages.core import files
from stages.core.checkpoints import KINDS, Checkpoints, find_checkpoints, outdated
from stages.core.log import UserError, get_logger, run
from stages.core.store import Size, Store

log = get_logger(__name__)

NAMES = (files.LLM_STORE.name, files.VECTOR_STORE.name)
Folder = Annotated[Path, typer.Option(help="Folder of the stores.")]


def table(sizes: dict[str, list[Size]]) -> str:
    """Return a Markdown table of what each store holds, one row a kind."""
    lines = ["| store | kind | entries | MB | last used |", "|---|---|---|---|---|"]
    for name, kinds in sizes.items():
        lines += [
            f"| {name} | {size.kind or 'unknown'} | {size.entries:,} | {size.bytes / 1e6:,.1f} "
            f"| {_day(size.first_used)} to {_day(size.last_used)} |"
            for size in kinds
        ]
    return "\n".join(lines)


def checkpoint_sizes(found: list[Checkpoints]) -> list[Size]:
    """Return how much there is of each kind of training, a training an entry."""
    sizes = []
    for kind in KINDS:
        those = [one for one in found if one.folder.parent.name == kind]
        days = [int(one.changed // 86_400) for one in those]
        if those:
            total = sum(one.bytes for one in those)
            sizes.append(Size(kind, len(those), total, min(days), max(days)))
    return sizes


def _day(number: int) -> str:
    return (date(1970, 1, 1) + timedelta(days=number)).isoformat()


def _stores(folder: Path, besides: list[Checkpoints] | None = None) -> list[Path]:
    found = [folder / name for name in NAMES if (folder / name).is_file()]
    if not found and not besides:
        raise UserError(f"{folder}: holds no store ({' or '.join(NAMES)}); give the folder of one")
    return found


def size(folder: Folder = files.STORE) -> None:
    """Print entries and bytes of each store and of checkpoints, by what they are."""
    found = find_checkpoints(folder)
    sizes = {}
    for path in _stores(folder, found):
        with Store(path) as store:
            sizes[path.name] = store.sizes()
    typer.echo(table(sizes | {"checkpoints": checkpoint_sizes(found)}))


def prune(
    folder: Folder = files.STORE,
    unused_days: Annotated[
        int | None, typer.Option(min=0, help="Forget what was not used for more days than these.")
    ] = None,
    max_bytes: Annotated[
        int | None,
        typer.Option(min=0, help="Then forget the longest unused until a store holds no more."),
    ] = None,
) -> None:
    """Forget what is not used any more, and give its room back to the disk."""
    if unused_days is None and max_bytes is None:
        raise UserError("prune: say what to forget, by --unused-days or --max-bytes")
    found = find_checkpoints(folder)
    gone = outdated(found, time.time(), unused_days, max_bytes)
    stores = _stores(folder, found)
    for one in gone:
        shutil.rmtree(one.folder, ignore_errors=True)
    left = len(found) - len(gone)
    log.info("%s: checkpoints of %d trainings deleted, of %d left", folder, len(gone), left)
    for path in stores:
        with Store(path) as store:
            forgotten = store.prune(unused_days, max_bytes)
            log.info("%s: %d entries forgotten, %d left", path, forgotten, len(store))


def export(
    to: Annotated[Path, typer.Argument(help="Folder that gets a copy of each store.")],
    folder: Folder = files.STORE,
) -> None:
    """Write a copy of each store, one file each, while others may go on writing."""
    for path in _stores(folder):
        with Store(path) as store:
            store.export(to / path.name)
        log.info("%s written", to / path.name)


def merge(
    source: Annotated[Path, typer.Argument(help="Folder of stores from another machine.")],
    folder: Folder = files.STORE,
) -> None:
    """Take over what another folder's stores hold; what both hold stays as it is here."""
    for path in _stores(source):
        with Store(folder / path.name) as store:
            log.info("%s: %d entries taken over, %d now", path, store.merge(path), len(store))


if __name__ == "__main__":
    run(size, prune, export, merge)
