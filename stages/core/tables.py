"""The tables: the contract between rooms, checked on every write and on every read."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from stages.core.log import UserError
from stages.core.storage import atomic_file

TIME = pl.Datetime("ms", "UTC")
DAY_MS = 86_400_000
"""Milliseconds of a day, the unit of times being one."""
HISTORY = pl.List(pl.Struct({"item_id": pl.String, "timestamp": TIME}))

WINDOWS = ("fit", "train")
"""`fit` ends where the `rank` slice begins; `train` is `fit` and `rank` together."""

WINDOW_OF_SPLIT = {"rank": "fit", "valid": "train", "test": "train"}
"""The window on which everything that answers a split's queries is fitted."""

PARTS_OF_WINDOW = {"fit": ("fit",), "train": ("fit", "rank")}
"""The parts of the events that a window holds."""

PARTS = ("fit", "rank", "valid", "test")
"""The parts of an event table, oldest first; train is the first two."""


@dataclass(frozen=True)
class Table:
    """A table's contract.

    Attributes:
        name: how errors call it.
        key: columns that together are unique and never null; rows are sorted by them.
        columns: every required column and its type.
        nullable: required columns that may hold nulls.
        extra: whether other columns (attributes of the source, features) may follow.
    """

    name: str
    key: tuple[str, ...]
    columns: dict[str, pl.DataType | type[pl.DataType]]
    nullable: frozenset[str] = field(default=frozenset())
    extra: bool = False


ITEMS = Table(
    "items",
    ("item_id",),
    {
        "item_id": pl.String,
        "title": pl.String,
        "description": pl.String,
        "features": pl.List(pl.String),
        "categories": pl.List(pl.String),
        "brand": pl.String,
        "price": pl.Float64,
        "image": pl.String,
    },
    nullable=frozenset({"title", "description", "brand", "price", "image"}),
    extra=True,
)
USERS = Table("users", ("user_id",), {"user_id": pl.String}, extra=True)
EVENTS = Table(
    "events",
    ("event_id",),
    {
        "event_id": pl.String,
        "user_id": pl.String,
        "item_id": pl.String,
        "timestamp": TIME,
        "event": pl.Enum(["view", "cart", "purchase", "rate"]),
        "value": pl.Float64,
        "title": pl.String,
        "text": pl.String,
    },
    nullable=frozenset({"title", "text"}),
    extra=True,
)
SPLIT_EVENTS = Table(
    "split events",
    EVENTS.key,
    EVENTS.columns | {"split": pl.Enum(PARTS)},
    nullable=EVENTS.nullable,
    extra=True,
)
IMPRESSIONS = Table(
    "impressions",
    ("impression_id",),
    {
        "impression_id": pl.String,
        "user_id": pl.String,
        "item_id": pl.String,
        "timestamp": TIME,
        "click": pl.Int8,
        "conversion": pl.Int8,
        "position": pl.Int32,
    },
    nullable=frozenset({"timestamp", "position"}),
    extra=True,
)
PROPERTIES = Table(
    "properties",
    ("item_id", "name", "timestamp"),
    {"item_id": pl.String, "timestamp": TIME, "name": pl.String, "value": pl.String},
)
"""What is true of an item from a time on, until it says otherwise; `value` as text."""
SPLIT_PROPERTIES = Table(
    "split properties",
    ("window", "item_id", "name"),
    {"window": pl.Enum(WINDOWS), "item_id": pl.String, "name": pl.String, "value": pl.String},
)
QUERIES = Table(
    "queries",
    ("query_id",),
    {
        "query_id": pl.String,
        "user_id": pl.String,
        "timestamp": TIME,
        "text": pl.String,
        "history": HISTORY,
        "targets": pl.List(pl.String),
        "split": pl.Enum(PARTS),
    },
    nullable=frozenset({"user_id", "text"}),
)
KEYWORDS = Table(
    "keywords",
    ("event_id",),
    {
        "event_id": pl.String,
        "item_id": pl.String,
        "keywords": pl.List(pl.String),
        "backend": pl.String,
        "prompt_hash": pl.String,
        "status": pl.Enum(["ok", "failed"]),
        "reason": pl.String,
    },
    nullable=frozenset({"reason"}),
)
SUMMARIES = Table(
    "summaries",
    ("item_id",),
    {
        "item_id": pl.String,
        "summary": pl.String,
        "backend": pl.String,
        "prompt_hash": pl.String,
        "status": pl.Enum(["ok", "failed"]),
        "reason": pl.String,
    },
    nullable=frozenset({"reason"}),
)
DOCUMENTS = Table(
    "documents",
    ("window", "item_id"),
    {"window": pl.Enum(WINDOWS), "item_id": pl.String, "text": pl.String},
)
PAIRS = Table(
    "pairs",
    ("pair_id",),
    {
        "pair_id": pl.String,
        "event_id": pl.String,
        "user_id": pl.String,
        "item_id": pl.String,
        "query": pl.String,
        "positive": pl.String,
        "negatives": pl.List(pl.String),
        "negative_ids": pl.List(pl.String),
    },
)
EMBEDDINGS = Table(
    "embeddings",
    ("window", "item_id"),
    {
        "window": pl.Enum(WINDOWS),
        "item_id": pl.String,
        "vector": pl.Array,
        "model_hash": pl.String,
    },
    extra=True,
)
PICTURE_VECTORS = Table(
    "picture vectors",
    ("item_id",),
    {"item_id": pl.String, "vector": pl.Array, "model_hash": pl.String},
)
CANDIDATES = Table(
    "candidates",
    ("query_id", "retriever", "item_id"),
    {
        "query_id": pl.String,
        "item_id": pl.String,
        "retriever": pl.String,
        "rank": pl.UInt32,
        "score": pl.Float32,
    },
)
EXAMPLES = Table(
    "examples",
    ("query_id", "item_id"),
    {
        "query_id": pl.String,
        "item_id": pl.String,
        "user_id": pl.String,
        "split": pl.Enum(PARTS),
        "relevance": pl.Int8,
    },
    nullable=frozenset({"user_id"}),
    extra=True,
)
SCORES = Table(
    "scores",
    ("query_id", "ranker", "item_id"),
    {
        "query_id": pl.String,
        "item_id": pl.String,
        "ranker": pl.String,
        "score": pl.Float32,
        "rank": pl.UInt32,
    },
)


def check(frame: pl.DataFrame, table: Table, where: str = "frame") -> pl.DataFrame:
    """Return `frame` with its columns in the table's order, or refuse it.

    Raises:
        UserError: a column is missing, has another type, holds a null that it may not, is not of
            the table; or a key stands twice. The message names `where`, the column and a row.
    """
    ordered = _shaped(frame, table, where)
    if _ascends(ordered, table.key):
        return ordered
    twice = ordered.select(table.key).is_duplicated()
    if twice.any():
        example = ordered.filter(twice).select(table.key).row(0)
        raise UserError(
            f"{where}: {int(twice.sum())} rows of {table.name} share a key {table.key}, "
            f"such as {example}"
        )
    return ordered


def _shaped(frame: pl.DataFrame, table: Table, where: str) -> pl.DataFrame:
    """Check all but the key, and put columns in order; see `check`."""
    problems = _schema_problems(frame, table)
    if problems:
        raise UserError(f"{where} is no {table.name} table: " + "; ".join(problems))
    for name in table.columns:
        if name not in table.nullable and frame[name].null_count():
            row = int(frame[name].is_null().arg_max() or 0)
            raise UserError(f"{where}: column {name!r} of {table.name} is null at row {row}")
    rest = [name for name in frame.columns if name not in table.columns]
    return frame.select(*table.columns, *rest)


def write(frame: pl.DataFrame, path: Path, table: Table) -> None:
    """Check `frame`, sort it by the table's key and write it as parquet, whole or not at all."""
    ordered = _shaped(frame, table, str(path))
    if not _ascends(ordered, table.key):
        ordered = check(ordered.sort(table.key), table, str(path))
    # Row groups are read in parallel, and each has codes of its own for what repeats: the fewer
    # there are, the less there is to bring together.
    groups = min(max(ordered.height // 500_000, 1), 4)
    size = min(max(-(-ordered.height // groups), 1), 4_000_000)
    with atomic_file(path) as temporary:
        ordered.write_parquet(
            temporary, compression="zstd", compression_level=1, row_group_size=size
        )


def read(path: Path, table: Table, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """Read and check a table; with `columns`, read and check only those.

    Raises:
        UserError: the file is missing or is not what the contract says.
    """
    if columns is None:
        _find(path, table)
        return check(pl.read_parquet(path), table, str(path))
    check_types(path, table, columns)
    return pl.read_parquet(path, columns=list(columns))


def check_types(path: Path, table: Table, columns: Sequence[str]) -> None:
    """Check the types of some columns of a table by what its file says of them.

    Raises:
        UserError: the file is missing or a column is of another type.
    """
    _find(path, table)
    schema = pl.read_parquet_schema(path)
    wrong = [
        f"column {name!r} is {schema[name]}, expected {kind}"
        for name, kind in table.columns.items()
        if name in columns and name in schema and not _is_a(schema[name], kind)
    ]
    if wrong:
        raise UserError(f"{path} is no {table.name} table: " + "; ".join(wrong))


def columns_of(path: Path, table: Table) -> list[str]:
    """Return the names of a table's columns, those that the contract does not name too.

    Raises:
        UserError: the file is missing.
    """
    _find(path, table)
    return list(pl.read_parquet_schema(path))


def read_folder(folder: Path, names: Sequence[str], table: Table) -> pl.DataFrame:
    """Read `<folder>/<name>.parquet` for each name and stack them in that order."""
    return pl.concat([read(folder / f"{name}.parquet", table) for name in names])


def feature_names(examples: pl.DataFrame) -> list[str]:
    """Return the feature columns of an examples table, sorted.

    What the schema names, ids, split and label, no ranker may see.
    """
    return sorted(name for name in examples.columns if name not in EXAMPLES.columns)


def _find(path: Path, table: Table) -> None:
    if not path.exists():
        raise UserError(f"{path}: no such file; run `dvc repro` to make the {table.name} table")


def _ascends(frame: pl.DataFrame, key: Sequence[str]) -> bool:
    """Whether each key is greater than the one before it: sorted, and none stands twice.

    A tenth of the time that looking for duplicates takes.
    """
    greater = pl.lit(value=False)
    for column in map(pl.col, reversed(key)):
        last = column.shift()
        greater = (column > last) | ((column == last) & greater)
    return bool(frame.select(greater.slice(1).all()).item())


def _schema_problems(frame: pl.DataFrame, table: Table) -> list[str]:
    problems = []
    for name, kind in table.columns.items():
        if name not in frame.columns:
            problems.append(f"column {name!r} is missing")
        elif not _is_a(frame.schema[name], kind):
            problems.append(f"column {name!r} is {frame.schema[name]}, expected {kind}")
    if not table.extra:
        unknown = [name for name in frame.columns if name not in table.columns]
        problems += [f"column {name!r} is unknown" for name in unknown]
    return problems


def _is_a(found: pl.DataType, expected: pl.DataType | type[pl.DataType]) -> bool:
    return found == expected
