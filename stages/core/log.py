"""Logging: one line a step with the counts in and out; progress bars, silent off a terminal."""

import logging
import os
import sys
from collections.abc import Iterable
from typing import Any

import typer


def get_logger(name: str) -> logging.Logger:
    """Return the logger of a stage, named by its module's last part, writing to standard error."""
    root = logging.getLogger("winnow")
    if not root.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s", "%H:%M:%S"))
        root.addHandler(handler)
        root.setLevel(logging.INFO)
        root.propagate = False
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if name == "__main__" and spec is not None:
        name = spec.name
    return root.getChild(name.rsplit(".", 1)[-1])


_line: dict[str, Any] = {}


def on_line(place: int, name: str) -> None:
    """Have this process show its bars on a line of its own, by a name; others have the others."""
    _line.update(position=place, postfix=name)


def progress(iterable: Iterable[Any] | None = None, **options: Any) -> Any:
    """Return a tqdm bar with rate and time left; silent when standard error is not a terminal.

    `WINNOW_PROGRESS=1` shows it anyway, one line per update interval. An iterable whose bar nobody
    sees is returned as it is.
    """
    shown = sys.stderr.isatty() or os.environ.get("WINNOW_PROGRESS") == "1"
    if not shown and iterable is not None:
        return iterable
    from tqdm import tqdm

    return tqdm(iterable, disable=not shown, dynamic_ncols=True, **options, **_line)


class UserError(Exception):
    """Bad input or parameters: the message names the file, the row or key, and what to do."""


def run(*commands: Any) -> None:
    """Run a Typer program, of one command or several named as their functions.

    A `UserError` is one sentence and exit status 1.
    """
    # Rich help and tracebacks cost a tenth of a second on every start.
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    for command in commands:
        app.command()(command)
    try:
        app()
    except UserError as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(1) from None
