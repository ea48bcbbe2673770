"""A key-value store on disk that survives a kill: what was paid for once is never paid for again.

LLM answers and text vectors are kept here under a hash of everything that decides them (the
model, the messages, the schema; the model and the text), so a store may be shared, merged or
deleted at any time.
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Self

from stages.core.log import UserError

_CHUNK = 500


def content_hash(*parts: Any) -> str:
    """Return 32 hex digits of BLAKE2b over the parts as canonical JSON."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


class Store:
    """Bytes under string keys in one SQLite file.

    A `put_many` that has returned outlives any kill of the process. A power cut may cost the last
    of them, but never the file. Several threads and processes may hold one store. Use as a context
    manager.

    Raises:
        UserError: the file cannot be opened, or is no store.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = Lock()
        try:
            self._connection = sqlite3.connect(path, timeout=60, check_same_thread=False)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
            with self._connection:
                self._connection.execute(
                    "CREATE TABLE IF NOT EXISTS entries"
                    " (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID"
                )
        except sqlite3.DatabaseError as error:
            remedy = (
                "make its folder writable and end other programs that hold it"
                if isinstance(error, sqlite3.OperationalError)
                else "delete or move it, and what it held is computed or asked again"
            )
            raise UserError(f"{path} cannot be used as a store ({error}); {remedy}") from error

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        """Return the values of those keys that are present."""
        wanted = list(dict.fromkeys(keys))
        found: dict[str, bytes] = {}
        for start in range(0, len(wanted), _CHUNK):
            chunk = wanted[start : start + _CHUNK]
            marks = ",".join("?" * len(chunk))
            with self._lock:
                found.update(
                    self._connection.execute(
                        f"SELECT key, value FROM entries WHERE key IN ({marks})", chunk
                    )
                )
        return found

    def put_many(self, entries: Mapping[str, bytes]) -> None:
        """Keep the entries in one transaction; an existing key is replaced."""
        with self._lock, self._connection:
            self._connection.executemany(
                "INSERT OR REPLACE INTO entries (key, value) VALUES (?, ?)", entries.items()
            )

    def delete_many(self, keys: Iterable[str]) -> None:
        """Forget those keys that are present, in one transaction."""
        with self._lock, self._connection:
            self._connection.executemany(
                "DELETE FROM entries WHERE key = ?", ((key,) for key in keys)
            )

    def __len__(self) -> int:
        with self._lock:
            return int(self._connection.execute("SELECT count(*) FROM entries").fetchone()[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._connection.close()
