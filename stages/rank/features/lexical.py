"""How much of a query's words an item's texts hold, and the other way round."""

from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl

from stages.core.stems import stems
from stages.rank.features.products import pair_products

_FIELDS = ("document", "title", "categories", "brand")


class LexicalOverlap:
    """Sets of stems of queries and items, weighted by inverse document frequency.

    The weight of a stem is log(1 + n / documents that hold it), so that a rare word counts more. A
    stem that no document holds counts as one that a single document holds.
    """

    def __init__(self) -> None:
        self._vocabulary: dict[str, int] = {}
        self._weights = np.empty(0, np.float32)
        self._unknown = 0.0
        self._fields: dict[str, Any] = {}

    def fit(self, texts: pl.DataFrame) -> Self:
        """Learn the words of items: columns title, categories, brand, text, one row an item."""
        columns = {
            "document": texts["text"].fill_null("").to_list(),
            "title": texts["title"].fill_null("").to_list(),
            "categories": texts["categories"].list.join(" ").fill_null("").to_list(),
            "brand": texts["brand"].fill_null("").to_list(),
        }
        words = {name: [set(row) for row in stems(column)] for name, column in columns.items()}
        every = sorted({stem for rows in words.values() for row in rows for stem in row})
        self._vocabulary = {stem: column for column, stem in enumerate(every)}
        self._fields = {
            name: self._matrix([sorted(row) for row in words[name]]) for name in _FIELDS
        }
        held = np.asarray(self._fields["document"].sum(axis=0)).ravel()
        self._weights = np.log1p(texts.height / np.maximum(held, 1)).astype(np.float32)
        self._unknown = float(np.log1p(texts.height))
        return self

    def overlap(
        self, queries: list[str | None], query_row: np.ndarray, item_row: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Features of pairs: shares in 0 to 1, NaN where the denominator has no words.

        Args:
            queries: texts; null counts as empty.
            query_row: row in `queries` of each pair.
            item_row: row of the item of each pair.
        """
        split = [sorted(set(row)) for row in stems([text or "" for text in queries])]
        asked = self._matrix(split)
        unknown = np.array([sum(stem not in self._vocabulary for stem in row) for row in split])
        total = asked @ self._weights + unknown * self._unknown
        weighted = asked.multiply(self._weights[None, :]).tocsr()
        found: dict[str, np.ndarray] = {}
        shared = {
            name: pair_products(weighted, self._fields[name], query_row, item_row)
            for name in _FIELDS
        }
        with np.errstate(invalid="ignore", divide="ignore"):
            found["overlap_document"] = shared["document"] / total[query_row]
            for name in ("title", "categories", "brand"):
                whole = (self._fields[name] @ self._weights)[item_row]
                found[f"overlap_{name}"] = shared[name] / whole
        found["query_words"] = np.array([len(row) for row in split], np.float32)[query_row]
        lengths = np.asarray(self._fields["document"].sum(axis=1)).ravel()
        found["document_words"] = lengths[item_row]
        return {name: values.astype(np.float32) for name, values in found.items()}

    def save(self, folder: Path) -> None:
        """Write vocabulary, weights and the items' words."""
        from scipy import sparse

        pl.DataFrame({"stem": list(self._vocabulary), "weight": self._weights}).write_parquet(
            folder / "vocabulary.parquet"
        )
        for name, matrix in self._fields.items():
            sparse.save_npz(folder / f"words_{name}.npz", matrix)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        from scipy import sparse

        made = cls()
        vocabulary = pl.read_parquet(folder / "vocabulary.parquet")
        made._vocabulary = {stem: column for column, stem in enumerate(vocabulary["stem"])}
        made._weights = vocabulary["weight"].to_numpy()
        made._fields = {name: sparse.load_npz(folder / f"words_{name}.npz") for name in _FIELDS}
        made._unknown = float(np.log1p(made._fields["document"].shape[0]))
        return made

    def _matrix(self, rows: list[list[str]]) -> Any:
        from scipy import sparse

        known = [[self._vocabulary[s] for s in row if s in self._vocabulary] for row in rows]
        columns = np.array([column for row in known for column in row], np.int32)
        ends = np.cumsum([0, *(len(row) for row in known)])
        ones = np.ones(len(columns), np.float32)
        return sparse.csr_matrix((ones, columns, ends), shape=(len(rows), len(self._vocabulary)))
