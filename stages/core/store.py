"""A key-value store on disk that survives a kill: what was paid for once is never paid for again.

LLM answers, vectors and batches of keywords are kept here under a hash of everything that decides
them (the model, the messages, the schema; the model and the text), so a store may be shared, merged
or deleted at any time.
"""

import contextlib
import hashlib
import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Self, TypeVar

from stages.core.log import UserError, get_logger
from stages.core.storage import atomic_file

log = get_logger(__name__)

Done = TypeVar("Done")

_CHUNK = 500
_PATIENCE_S = 1200
_TRIES = 20
_LAYOUT = 1
_BYTES = "length(CAST(key AS BLOB)) + length(value)"
_canonical = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode


def content_hash(*parts: Any) -> str:
    """Return 32 hex digits of BLAKE2b over the parts as canonical JSON."""
    return hashlib.blake2b(_canonical(parts).encode(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class Size:
    """How much of one kind a store holds.

    Attributes:
        kind: what `put_many` was told; empty where it was told nothing.
        entries: how many.
        bytes: of keys and values.
        first_used: earliest of the days of last use, in days since 1970.
        last_used: latest of them.
    """

    kind: str
    entries: int
    bytes: int
    first_used: int
    last_used: int


class Store:
    """Bytes under string keys in one SQLite file, each with its kind and the day of its last use.

    A `put_many` that has returned outlives any kill of the process. A power cut may cost the last
    of them, but never the file. Several threads and processes may hold one store. Use as a context
    manager. A store of an earlier layout is brought to the present one when it is opened.

    Whatever writes waits where another process does so, up to `patience_s`, as that may be giving
    gigabytes back to the disk.

    Raises:
        UserError: the file cannot be opened, is no store, is damaged, or is one of a later version;
            or it cannot be written to, as its disk is full or another process does not end.
    """

    def __init__(self, path: Path, patience_s: float = _PATIENCE_S) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._patience_s = patience_s
        self._lock = Lock()
        try:
            self._connection = sqlite3.connect(
                path, timeout=patience_s / _TRIES, check_same_thread=False
            )
            self._log_ahead()
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._lay_out()
        except sqlite3.DatabaseError as error:
            raise self._unusable(error) from error

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        """Return the values of those keys that are present, and note that they were used today."""
        wanted = sorted(set(keys))
        found: dict[str, bytes] = {}
        stale: list[str] = []
        today = _today()
        for start in range(0, len(wanted), _CHUNK):
            chunk = wanted[start : start + _CHUNK]
            marks = ",".join("?" * len(chunk))
            rows = self._read(f"SELECT key, value, used FROM entries WHERE key IN ({marks})", chunk)
            found.update((key, value) for key, value, _ in rows)
            stale += [key for key, _, used in rows if used < today]
        self._note_use(stale)
        return found

    def get_family(self, family: str) -> dict[str, bytes]:
        """Return the entries whose keys begin with `family` and a colon, the oldest first.

        That they were used today is noted.
        """
        rows = self._read(
            "SELECT key, value, used FROM entries WHERE key > ? AND key < ? ORDER BY id",
            (f"{family}:", f"{family};"),
        )
        self._note_use([key for key, _, used in rows if used < _today()])
        return {key: value for key, value, _ in rows}

    def put_many(
        self, entries: Mapping[str, bytes], kind: str = "", instead_of: Iterable[str] = ()
    ) -> None:
        """Keep the entries in one transaction; an existing key is replaced.

        Args:
            entries: values by key.
            kind: what they are, such as the model's name; sizes are told by it.
            instead_of: keys to forget in the same transaction, unless they are put.
        """
        today = _today()

        def put() -> None:
            self._connection.executemany(
                "DELETE FROM entries WHERE key = ?", ((key,) for key in instead_of)
            )
            self._connection.executemany(
                "INSERT INTO entries (key, value, kind, used) VALUES (?, ?, ?, ?) ON CONFLICT (key)"
                " DO UPDATE SET value = excluded.value, kind = excluded.kind, used = excluded.used",
                ((key, value, kind, today) for key, value in entries.items()),
            )

        self._write(put)

    def sizes(self) -> list[Size]:
        """Return how much of each kind there is, sorted by kind."""
        rows = self._read(
            f"SELECT kind, count(*), sum({_BYTES}), min(used), max(used) FROM entries"
            " GROUP BY kind ORDER BY kind"
        )
        return [Size(*row) for row in rows]

    def latest(self, kind: str, limit: int) -> list[bytes]:
        """Return up to `limit` values of a kind, from the one that was put in last backwards."""
        rows = self._read(
            "SELECT value FROM entries WHERE kind = ? ORDER BY id DESC LIMIT ?", (kind, limit)
        )
        return [value for (value,) in rows]

    def prune(self, unused_days: int | None = None, max_bytes: int | None = None) -> int:
        """Forget entries, give their room back to the disk, and return how many they were.

        Args:
            unused_days: those that nobody read or wrote for more days than these.
            max_bytes: of what is left, the longest unused, until keys and values are no more.
        """

        def forget() -> int:
            before = self._connection.total_changes
            if unused_days is not None:
                self._connection.execute(
                    "DELETE FROM entries WHERE used < ?", (_today() - unused_days,)
                )
            if max_bytes is not None:
                self._connection.execute(
                    "DELETE FROM entries WHERE id IN (SELECT id FROM (SELECT id,"
                    f" sum({_BYTES}) OVER (ORDER BY used DESC, id DESC) AS upto FROM entries)"
                    " WHERE upto > ?)",
                    (max_bytes,),
                )
            return self._connection.total_changes - before

        forgotten = self._write(forget)
        self._write(lambda: self._connection.execute("VACUUM"))
        self._write(lambda: self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)"))
        return forgotten

    def export(self, path: Path) -> None:
        """Write what is here now as one file that another machine can open or merge.

        Raises:
            UserError: the file is there already.
        """
        if path.exists():
            raise UserError(f"{path} is there already; delete it, or merge into it")
        with atomic_file(path) as temporary:
            self._write(lambda: self._connection.execute("VACUUM INTO ?", (str(temporary),)), path)

    def merge(self, path: Path) -> int:
        """Take over the entries of another store whose keys are not here; return how many.

        Of a key that both have, the value here stays and the later day of use counts, so that
        merging twice is merging once, but for what was forgotten between.

        Raises:
            UserError: there is no such store.
        """
        if not path.is_file():
            raise UserError(f"{path}: no such store; make it by `python -m stages.store export`")
        with Store(path):  # Brings an earlier layout to the present one.
            pass

        def take_over() -> int:
            self._connection.execute("BEGIN IMMEDIATE")
            before = self._count()
            self._connection.execute(
                "INSERT INTO entries (key, value, kind, used)"
                " SELECT key, value, kind, used FROM other.entries WHERE true"
                " ON CONFLICT (key) DO UPDATE SET used = excluded.used"
                " WHERE excluded.used > used"
            )
            return self._count() - before

        with self._lock:
            self._connection.execute("ATTACH DATABASE ? AS other", (str(path),))
        try:
            return self._write(take_over)
        finally:
            with self._lock:
                self._connection.execute("DETACH DATABASE other")

    def __len__(self) -> int:
        with self._lock:
            return self._count()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._connection.close()

    def _read(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        """Return the rows of a query.

        Raises:
            UserError: the file is damaged, or cannot be read.
        """
        try:
            with self._lock:
                return self._connection.execute(query, values).fetchall()
        except sqlite3.DatabaseError as error:
            raise self._unusable(error) from error

    def _unusable(self, error: sqlite3.DatabaseError) -> UserError:
        """Say what to do where a store cannot be opened or read, or is damaged."""
        remedy = (
            "make its folder writable and end other programs that hold it"
            if isinstance(error, sqlite3.OperationalError)
            else "delete or move it, and what it held is computed or asked again"
        )
        return UserError(f"{self._path} cannot be used as a store ({error}); {remedy}")

    def _write(self, change: Callable[[], Done], path: Path | None = None) -> Done:
        """Return what `change` does in one transaction, tried again while others hold the file.

        Raises:
            UserError: the file, or `path` if it is that which is written, cannot be written to, or
                the store is damaged.
        """
        path = path or self._path
        until = time.monotonic() + self._patience_s
        while True:
            try:
                with self._lock, self._connection:
                    return change()
            except sqlite3.OperationalError as error:
                if not _is_busy(error):
                    full = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_FULL
                    remedy = "make room there" if full else "see that it is whole and writable"
                    raise UserError(
                        f"{path} cannot be written to ({error}); {remedy} and start again: what "
                        "was stored stays"
                    ) from error
                if time.monotonic() > until:
                    raise UserError(
                        f"{path}: another process has held the store for {self._patience_s:g} s; "
                        "wait for it or end it, and start again: what was stored stays"
                    ) from error
                log.warning("%s: another process holds the store; waiting for it", path)
            except sqlite3.IntegrityError:
                raise
            except sqlite3.DatabaseError as error:
                raise self._unusable(error) from error

    def _note_use(self, keys: Sequence[str]) -> None:
        """Note that entries were used today; at most once a day and entry."""
        if keys:
            # A reader who cannot write reads all the same.
            with contextlib.suppress(sqlite3.OperationalError), self._lock, self._connection:
                self._connection.executemany(
                    "UPDATE entries SET used = ? WHERE key = ?", ((_today(), key) for key in keys)
                )

    def _count(self) -> int:
        return int(self._connection.execute("SELECT count(*) FROM main.entries").fetchone()[0])

    def _log_ahead(self) -> None:
        """Switch to a write-ahead log, for which SQLite itself does not wait where others open."""
        until = time.monotonic() + self._patience_s / _TRIES
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                if not _is_busy(error) or time.monotonic() > until:
                    raise
                time.sleep(0.02)

    def _lay_out(self) -> None:
        """Make the table, or make it of that of an earlier layout: in one transaction, once."""
        if self._layout() == _LAYOUT:
            return
        with self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            found = self._layout()
            if found > _LAYOUT:
                raise UserError(f"{self._path} is a store of a later version; upgrade, or move it")
            if found == _LAYOUT:
                return
            earlier = self._connection.execute(
                "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'entries'"
            ).fetchone()
            if earlier:
                self._connection.execute("ALTER TABLE entries RENAME TO earlier")
            # Values stand in a table by row number: in an index they would be cut into pages.
            self._connection.execute(
                "CREATE TABLE entries (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE,"
                " value BLOB NOT NULL, kind TEXT NOT NULL DEFAULT '',"
                " used INTEGER NOT NULL DEFAULT 0)"
            )
            if earlier:
                self._connection.execute(
                    "INSERT INTO entries (key, value, used) SELECT key, value, ? FROM earlier",
                    (_today(),),
                )
                self._connection.execute("DROP TABLE earlier")
            self._connection.execute(f"PRAGMA user_version = {_LAYOUT}")

    def _layout(self) -> int:
        return int(self._connection.execute("PRAGMA user_version").fetchone()[0])


def _is_busy(error: sqlite3.OperationalError) -> bool:
    return error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY


def _today() -> int:
    return int(time.time() // 86_400)
