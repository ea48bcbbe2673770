"""What was read of texts, kept in the store many rows an entry: found by one join, not one by one.

Looked up singly, what is known of a text costs a sixth of reading the text by `chunks`.
"""

import hashlib
from collections.abc import Collection
from io import BytesIO
from types import TracebackType
from typing import Self

import polars as pl
from xxhash import xxh3_128_hexdigest

from stages.core.log import UserError, get_logger
from stages.core.store import Store, content_hash

log = get_logger(__name__)

ADDED = 512
"""Rows of a batch as reading goes on: what a process that is killed may lose."""

MANY = 32
"""Batches of fewer than `WHOLE` rows that may lie beside each other until they are joined."""

WHOLE = 1 << 15
"""Rows of a batch that is not written anew."""

_MOST = 1 << 20
"""Rows of a batch: of a few hundred megabytes at the most, where SQLite takes a gigabyte."""

_AT_ONCE = 1 << 12
"""Texts that are held as bytes beside what they are in the column."""

_ROWS = pl.Schema([("hash", pl.String()), ("keywords", pl.List(pl.String()))])


def text_hashes(texts: pl.Series, *parts: object) -> pl.Series:
    """Return 32 hex digits of XXH3 over each text in UTF-8, with a seed of the hash of `parts`.

    Args:
        texts: n of them, none null.
        parts: what decides beside the text.

    Returns:
        strings of shape (n,).
    """
    seed = int(content_hash(*parts)[:16], 16)
    encoded = texts.cast(pl.Binary)
    hashes = (
        xxh3_128_hexdigest(text, seed)
        for part in encoded.to_frame().iter_slices(_AT_ONCE)
        for text in part.to_series().to_list()
    )
    return pl.Series("hash", hashes, dtype=pl.String)


class Batches:
    """Keywords by the hash of their text, all of them read by the same code and numbers.

    What is added is in the store when the block ends, also by an error. Several processes may add
    at once: what two of them read is kept twice and found once.

    Args:
        store: where the batches are; None keeps nothing.
        family: hash of all but the text that decides keywords; the keys of the batches begin so.
        kind: what they are; see `Store.put_many`.

    Attributes:
        known: hash and keywords of what was there at the start, each hash once.
    """

    def __init__(self, store: Store | None, family: str, kind: str) -> None:
        self._store, self._family, self._kind = store, family, kind
        kept = {} if store is None else store.get_family(family)
        self._batches = {key: pl.read_parquet(value) for key, value in kept.items()}
        self._added: list[pl.DataFrame] = []
        self._waiting: list[tuple[str, list[str]]] = []
        self.known = _together(self._batches.values())

    def added(self) -> pl.DataFrame:
        """Return hash and keywords of what was added."""
        self._write()
        return pl.concat([_ROWS.to_frame(), *self._added])

    def add(self, text_hash: str, keywords: list[str]) -> None:
        """Keep the keywords of a text that is not known."""
        self._waiting.append((text_hash, keywords))
        if len(self._waiting) == ADDED:
            self._write()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._write()
        if error is None:
            self._join()

    def _write(self) -> None:
        if self._waiting:
            hashes, keywords = zip(*self._waiting, strict=True)
            self._waiting = []
            rows = pl.DataFrame({"hash": hashes, "keywords": keywords}, schema=_ROWS)
            self._added.append(rows)
            if self._store is not None:
                key, value = self._entry(rows)
                self._batches[key] = rows
                self._store.put_many({key: value}, self._kind)

    def _join(self) -> None:
        """Make many small batches one, less what a whole one holds, if the store has room."""
        small = {key: rows for key, rows in self._batches.items() if rows.height < WHOLE}
        if self._store is None or len(small) <= MANY:
            return
        whole = _together([rows for key, rows in self._batches.items() if key not in small])
        rows = _together(small.values()).join(whole, on="hash", how="anti", maintain_order="left")
        entries = dict(self._entry(part) for part in rows.iter_slices(_MOST))
        try:
            self._store.put_many(entries, self._kind, instead_of=small)
        except UserError as error:  # All that was read is kept as it was.
            log.warning("%d batches of %s stay apart: %s", len(small), self._kind, error)

    def _entry(self, rows: pl.DataFrame) -> tuple[str, bytes]:
        file = BytesIO()
        rows.write_parquet(file, compression="zstd", compression_level=1, statistics=False)
        value = file.getvalue()
        return f"{self._family}:{hashlib.blake2b(value, digest_size=16).hexdigest()}", value


def _together(batches: Collection[pl.DataFrame]) -> pl.DataFrame:
    """Return the rows of batches, each hash once."""
    rows = pl.concat([_ROWS.to_frame(), *batches])
    return rows if len(batches) <= 1 else rows.filter(pl.col("hash").is_first_distinct())
