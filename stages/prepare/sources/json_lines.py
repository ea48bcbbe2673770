"""JSON lines, plain, .gz or .zst, read in blocks; a line that does not fit is named or left out.

Polars parses a block at a time and is strict: what is no JSON, or has another type, ends the parse.
Only a block that fails, or in which a check finds a row, is gone through again to find the line, so
good files pay nothing for it, and no more than a block of raw text is ever in memory.
"""

import gzip
import io
import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import polars as pl

from stages.core.log import UserError, get_logger

log = get_logger(__name__)

BLOCK_BYTES = 8 << 20
WORKERS = 2
"""Blocks that are parsed at once, while the next one is read and decompressed."""
SAMPLED_LINES = 1000
"""Lines at a file's head among which its shape is looked for."""
NAMED_BAD_ROWS = 20
"""Left-out lines that are logged one by one; the rest are only counted."""

GZIP_MAGIC, ZSTD_MAGIC, BOM = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Check:
    """A rule for a parsed row.

    Attributes:
        column: the raw column that is to blame.
        bad: true where the row breaks the rule; null counts as false.
        expected: what would have been right, for the message.
    """

    column: str
    bad: pl.Expr
    expected: str


@dataclass(frozen=True)
class Shape:
    """A published form of a file.

    Attributes:
        name: how messages call it.
        schema: raw columns that are read, with their types; others are skipped. A `String` takes
            any JSON value as its text.
        required: columns without which a row is bad.
        columns: what becomes of a block.
        checks: further rules.
    """

    name: str
    schema: dict[str, Any]
    required: tuple[str, ...]
    columns: Sequence[pl.Expr]
    checks: tuple[Check, ...] = ()


@dataclass
class BadRows:
    """Counts lines that do not fit, and ends the run when they are not wanted or too many."""

    action: Literal["fail", "skip"]
    limit: int
    count: int = field(default=0, init=False)

    def add(self, path: Path, line: int, reason: str) -> None:
        """Take note of a bad line.

        Raises:
            UserError: with action `fail`, or over the limit.
        """
        self.count += 1
        if self.action == "fail":
            raise UserError(
                f"{path}:{line}: {reason}; correct or remove the line, "
                "or set ingest.on_bad_row: skip"
            )
        if self.count > self.limit:
            raise UserError(
                f"{path}:{line}: {reason}; this is bad line {self.count} and "
                f"ingest.max_bad_rows is {self.limit}: correct the file or raise the limit"
            )
        if self.count <= NAMED_BAD_ROWS:
            log.warning("left out %s:%d: %s", path, line, reason)


class _ZstdStream(io.RawIOBase):
    """The text of all frames of a zstd file; unlike the library's reader it notices a cut end."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._frame: Any = None
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        import zstandard

        while not self._ready:
            rest = self._frame.unused_data if self._frame and self._frame.eof else b""
            chunk = rest or self._raw.read(1 << 18)
            if not chunk:
                if self._frame and not self._frame.eof:
                    raise EOFError
                return 0
            if self._frame is None or self._frame.eof:
                self._frame = zstandard.ZstdDecompressor(max_window_size=2**31).decompressobj()
            self._ready = memoryview(self._frame.decompress(chunk))
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size


def _whole_lines(stream: BinaryIO, plain: bool) -> bytes:
    """Read a block and on to the end of its line, of a plain file without copying the block."""
    if not plain:
        return stream.read(BLOCK_BYTES) + stream.readline()
    start = stream.tell()
    stream.seek(BLOCK_BYTES, os.SEEK_CUR)
    stream.readline()
    size = stream.tell() - start
    stream.seek(start)
    return stream.read(size)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, BinaryIO]]:
    """Yield the text of a file and the file itself, by what it holds and not by its name."""
    with path.open("rb") as raw:
        magic = raw.read(4)
        raw.seek(0)
        if magic.startswith(GZIP_MAGIC):
            with gzip.open(raw) as stream:
                yield stream, raw
        elif magic == ZSTD_MAGIC:
            yield io.BufferedReader(_ZstdStream(raw), 1 << 20), raw
        else:
            yield raw, raw


def blocks(path: Path, done: Callable[[int], object] | None = None) -> Iterator[tuple[int, bytes]]:
    """Yield whole lines, some megabytes at once, with the number of their first line, from 1.

    Args:
        path: a plain, gzip or zstd file.
        done: called with the bytes of the file that were consumed since the last call.

    Raises:
        UserError: compressed data end in the middle or are damaged.
    """
    import zlib

    import zstandard

    first, consumed = 1, 0
    with _opened(path) as (stream, raw):
        try:
            while block := _whole_lines(stream, plain=stream is raw):
                yield first, block.removeprefix(BOM) if first == 1 else block
                # At several times the speed of `bytes.count`.
                first += int(np.count_nonzero(np.frombuffer(block, np.uint8) == ord("\n")))
                if done:
                    done(raw.tell() - consumed)
                    consumed = raw.tell()
        except (EOFError, gzip.BadGzipFile, zlib.error, zstandard.ZstdError) as error:
            raise UserError(
                f"{path}: compressed data are damaged or end in the middle, after line "
                f"{first - 1}; get the file again"
            ) from error


def read(
    path: Path,
    shapes: Sequence[Shape],
    bad: BadRows,
    done: Callable[[int], object] | None = None,
) -> Iterator[pl.DataFrame]:
    """Yield the good rows of a file, block by block, as its shape's `columns` make them.

    Raises:
        UserError: no shape fits the file, or `bad` refuses a line; the message names both.
    """
    shape: Shape | None = None
    ahead: deque[tuple[int, bytes, Future[pl.DataFrame | None]]] = deque()
    with ThreadPoolExecutor(WORKERS) as pool:
        for first, block in blocks(path, done):
            if block.isspace():
                continue
            if shape is None:
                shape = _recognised(path, first, block, shapes)
                log.info("%s: shape %s", path.name, shape.name)
            ahead.append((first, block, pool.submit(_good, shape, block)))
            if len(ahead) > WORKERS:
                yield _done(shape, path, *ahead.popleft(), bad)
        while shape and ahead:
            yield _done(shape, path, *ahead.popleft(), bad)


def _good(shape: Shape, block: bytes) -> pl.DataFrame | None:
    """Return what becomes of a block, or nothing where a line in it is bad."""
    frame = _parsed(shape, block)
    if frame is None or frame.select(_is_bad(shape).any()).item():
        return None
    return frame.select(shape.columns)


def _done(
    shape: Shape,
    path: Path,
    first: int,
    block: bytes,
    parsing: Future[pl.DataFrame | None],
    bad: BadRows,
) -> pl.DataFrame:
    frame = parsing.result()
    if frame is None:
        frame = _sifted(shape, path, first, block, bad).select(shape.columns)
    return frame


def _parsed(shape: Shape, text: bytes) -> pl.DataFrame | None:
    try:
        return pl.read_ndjson(text, schema=shape.schema)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return None


def _is_bad(shape: Shape) -> pl.Expr:
    missing = [pl.col(name).is_null() for name in shape.required]
    return pl.any_horizontal(*missing, *(check.bad.fill_null(False) for check in shape.checks))


def _sifted(shape: Shape, path: Path, first: int, block: bytes, bad: BadRows) -> pl.DataFrame:
    """Parse a block of which a line is bad: halve it until the bad lines stand alone."""
    numbered = [
        (first + place, line) for place, line in enumerate(block.split(b"\n")) if line.strip()
    ]
    good: list[pl.DataFrame] = [pl.DataFrame(schema=shape.schema)]

    def sift(lines: list[tuple[int, bytes]]) -> None:
        frame = _parsed(shape, b"\n".join(line for _, line in lines))
        if frame is not None and frame.height == len(lines):
            wrong = frame.select(bad=_is_bad(shape))["bad"]
            for row in wrong.arg_true():
                bad.add(path, lines[row][0], _reason(shape, lines[row][1]))
            good.append(frame.filter(~wrong))
        elif len(lines) == 1:
            bad.add(path, lines[0][0], _reason(shape, lines[0][1]))
        else:
            sift(lines[: len(lines) // 2])
            sift(lines[len(lines) // 2 :])

    if numbered:
        sift(numbered)
    return pl.concat(good)


def _reason(shape: Shape, line: bytes) -> str:
    """Say what is wrong with a line, in words."""
    value, problem = _json_object(line)
    if value is None:
        return problem
    for name in shape.required:
        if value.get(name) is None:
            state = "is null" if name in value else "is missing"
            return f"column {name!r} {state}; a row of shape {shape.name} has {_names(shape)}"
    for name, kind in shape.schema.items():
        found = value.get(name)
        if found is not None and not _fits(found, kind):
            return f"column {name!r} is {_quoted(found)}, expected {_WORDS.get(kind, kind)}"
    frame = _parsed(shape, line)
    if frame is not None:
        for check in shape.checks:
            if frame.select(check.bad.fill_null(False)).item():
                return (
                    f"column {check.column!r} is {_quoted(value.get(check.column))}, "
                    f"expected {check.expected}"
                )
    return f"no row of shape {shape.name}: {_quoted(value)}"


def _json_object(line: bytes) -> tuple[dict[str, Any] | None, str]:
    try:
        value = json.loads(line.decode("utf-8"), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        return None, f"not UTF-8 at byte {error.start + 1}"
    except (ValueError, RecursionError) as error:
        if line.lstrip().startswith(b"{'"):
            return None, (
                "not JSON but a Python literal, as the 2014 metadata were published; "
                "write each line with json.dumps(ast.literal_eval(line)) first"
            )
        return None, f"not JSON ({error}), expected one JSON object on a line"
    if not isinstance(value, dict):
        return None, f"{_quoted(value)} is no JSON object, expected one on a line"
    return value, ""


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


_WORDS: dict[Any, str] = {pl.Float64: "a number", pl.Boolean: "true or false"}


def _fits(value: Any, kind: Any) -> bool:
    if kind == pl.Float64:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind == pl.Boolean:
        return isinstance(value, bool)
    return True


def _quoted(value: Any) -> str:
    """A value of JSON without what a terminal would obey, cut short."""
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= 60 else text[:57] + "..."


def _names(shape: Shape) -> str:
    return ", ".join(shape.required)


def _recognised(path: Path, first: int, block: bytes, shapes: Sequence[Shape]) -> Shape:
    """Return the shape of which the first readable line has the largest part of the columns."""
    reason, line_number = "", first
    lines = block.split(b"\n", SAMPLED_LINES)[:SAMPLED_LINES]
    for place, line in enumerate(lines):
        if not line.strip():
            continue
        value, problem = _json_object(line)
        if value is None:
            if not reason:
                reason, line_number = problem, first + place
            continue
        best = max(shapes, key=lambda shape: _share(shape, value))
        if _share(best, value) >= 0.5:
            return best
        expected = "; or ".join(f"{_names(shape)} (shape {shape.name})" for shape in shapes)
        raise UserError(
            f"{path}:{first + place}: columns {', '.join(value) or 'none'} are of no known shape, "
            f"expected {expected}; correct the globs of ingest.amazon or the file"
        )
    raise UserError(
        f"{path}:{line_number}: {reason}; no line at the head of the file is a JSON object: "
        "take the file out of the folder or write it as JSON lines"
    )


def _share(shape: Shape, row: dict[str, Any]) -> float:
    return sum(name in row for name in shape.required) / len(shape.required)
