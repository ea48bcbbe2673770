"""What was read of texts, kept in the store many rows an entry: found by one join, not one by one.

Looked up singly, what is known of a text costs a tenth of reading the text by `chunks`.
"""

import hashlib
from collections.abc import Collection, Iterable
from io import BytesIO
from types import TracebackType
from typing import Self

import polars as pl
from xxhash import xxh3_128_hexdigest

from stages.core.store import Store, content_hash

ADDED = 512
"""Rows of a batch as reading goes on: what a process that is killed may lose."""

MANY = 32
"""Batches of fewer than `WHOLE` rows that may lie beside each other until they become one."""

WHOLE = 1 << 15
"""Rows of a batch that is not written anew."""

_ROWS = pl.Schema([("hash", pl.String()), ("keywords", pl.List(pl.String()))])


def text_hashes(texts: pl.Series, *parts: object) -> pl.Series:
    """Return 32 hex digits of XXH3 over each text in UTF-8, with a seed of the hash of `parts`."""
    seed = int(content_hash(*parts)[:16], 16)
    encoded = texts.cast(pl.Binary)
    hashes = (
        xxh3_128_hexdigest(text, seed)
        for part in encoded.to_frame().iter_slices(ADDED)
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
        small = [key for key, batch in self._batches.items() if batch.height < WHOLE]
        if error is None and len(small) > MANY:
            self._put(_together([self._batches.pop(key) for key in small]), instead_of=small)

    def _write(self) -> None:
        if self._waiting:
            hashes, keywords = zip(*self._waiting, strict=True)
            self._waiting = []
            rows = pl.DataFrame({"hash": hashes, "keywords": keywords}, schema=_ROWS)
            self._added.append(rows)
            self._put(rows)

    def _put(self, rows: pl.DataFrame, instead_of: Iterable[str] = ()) -> None:
        if self._store is None:
            return
        file = BytesIO()
        rows.write_parquet(file, compression="zstd", compression_level=1, statistics=False)
        value = file.getvalue()
        key = f"{self._family}:{hashlib.blake2b(value, digest_size=16).hexdigest()}"
        self._batches[key] = rows
        self._store.put_many({key: value}, self._kind, instead_of)


def _together(batches: Collection[pl.DataFrame]) -> pl.DataFrame:
    rows = pl.concat([_ROWS.to_frame(), *batches])
    return rows if len(batches) <= 1 else rows.filter(pl.col("hash").is_first_distinct())
