"""What was read of texts, kept in the store many rows an entry: found by one join, not one by one.

Looked up singly, what is known of a text costs a tenth of reading the text by `chunks`.
"""

import hashlib
from collections.abc import Iterable, Sequence
from io import BytesIO

import polars as pl

from stages.core.store import Store, content_hash

MANY = 32
"""Batches of fewer than `WHOLE` rows that may lie beside each other until they become one."""

WHOLE = 1 << 15
"""Rows of a batch that is not written anew."""

_ROWS = {"hash": pl.String, "keywords": pl.List(pl.String)}


def text_hashes(texts: pl.Series, *parts: object) -> pl.Series:
    """Return 32 hex digits of BLAKE2b over the hash of `parts` and each text in UTF-8."""
    start = hashlib.blake2b(content_hash(*parts).encode(), digest_size=16)
    hashes = []
    for text in texts.cast(pl.Binary).to_list():
        whole = start.copy()
        whole.update(text)
        hashes.append(whole.hexdigest())
    return pl.Series("hash", hashes, dtype=pl.String)


class Batches:
    """Keywords by the hash of their text, all of them read by the same code and numbers.

    Each `add` is one entry of the store, so a process that is killed loses what it had not added.
    Several processes may add at once: what two of them read is kept twice and found once.

    Args:
        store: where the batches are; None keeps them in memory alone.
        family: hash of all but the text that decides keywords; the keys of the batches begin so.
        kind: what they are; see `Store.put_many`.
    """

    def __init__(self, store: Store | None, family: str, kind: str) -> None:
        self._store, self._family, self._kind = store, family, kind
        kept = {} if store is None else store.get_family(family)
        self._batches = {key: pl.read_parquet(value) for key, value in kept.items()}

    def rows(self) -> pl.DataFrame:
        """Return hash and keywords, each hash once."""
        rows = pl.concat([pl.DataFrame(schema=_ROWS), *self._batches.values()])
        return rows if len(self._batches) == 1 else rows.filter(pl.col("hash").is_first_distinct())

    def add(self, rows: Sequence[tuple[str, list[str]]]) -> None:
        """Keep hashes of texts with their keywords."""
        hashes, keywords = zip(*rows, strict=True)
        self._put(pl.DataFrame({"hash": hashes, "keywords": keywords}, schema=_ROWS))

    def merge(self) -> None:
        """Make one batch of the small ones where there are many, for each takes time to open."""
        small = [key for key, batch in self._batches.items() if batch.height < WHOLE]
        if len(small) > MANY:
            batches = [self._batches.pop(key) for key in small]
            rows = pl.concat(batches).filter(pl.col("hash").is_first_distinct())
            self._put(rows, instead_of=small)

    def _put(self, rows: pl.DataFrame, instead_of: Iterable[str] = ()) -> None:
        file = BytesIO()
        rows.write_parquet(file, compression="zstd", compression_level=1, statistics=False)
        value = file.getvalue()
        key = f"{self._family}:{hashlib.blake2b(value, digest_size=16).hexdigest()}"
        self._batches[key] = rows
        if self._store is not None:
            self._store.put_many({key: value}, self._kind, instead_of)
