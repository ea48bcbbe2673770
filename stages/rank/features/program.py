"""The feature program: fitted on one window, it gives (query, item) examples their features.

The stages `examples` and the service call the same `transform`, so that an example has the same
features offline and online. What the program knows ends at its window's cut; what a query brings is
its own text, time and history.
"""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl

from stages.core.params import Examples
from stages.core.storage import read_json, write_json
from stages.core.tables import feature_names
from stages.rank.features.lexical import LexicalOverlap

_DAY_MS = 86_400_000
_ITEM_COLUMNS = (
    "item_reviews",
    "item_reviews_recent",
    "item_rating",
    "item_rating_spread",
    "item_days_since_last",
    "item_days_known",
    "item_price",
)


class FeatureProgram:
    """Features of candidates, as of the end of one window and the query's own past.

    * `<retriever>_score`, `_rank`, `_gap` (to the query's best), and the same of the blend; null
      where that retriever did not find the item.
    * `item_*`: reviews in the window and in its last `recent_days`, rating smoothed towards the
      mean, its standard deviation, days from the last and first review to the cut, price.
    * `overlap_*`: share of the query's words, weighted by rarity, that the document, title,
      categories or brand hold, and of the title's words that the query holds.
    * `user_history`, `user_days_since_last`, `seen` (the item is in the history), `together`
      (cosine of the item with the history's items over the window's users; Sarwar et al., 2001).

    Args:
        params: what counts as recent, how ratings are smoothed, how long histories are.
        retrievers: those that have columns even where they found nothing for any query.
    """

    def __init__(self, params: Examples, retrievers: Sequence[str] = ()) -> None:
        self._params = params
        self._retrievers = sorted(retrievers)
        self._items = pl.DataFrame()
        self._lexical = LexicalOverlap()
        self._together: Any = None

    def fit(self, items: pl.DataFrame, documents: pl.DataFrame, events: pl.DataFrame) -> Self:
        """Learn from a window.

        Args:
            items: the items table.
            documents: item_id and text of the window.
            events: the events of the window and no others.
        """
        items = items.sort("item_id")
        self._items = item_statistics(items, events, self._params)
        texts = items.select("item_id", "title", "categories", "brand").join(
            documents.select("item_id", "text"), on="item_id", how="left", maintain_order="left"
        )
        self._lexical.fit(texts)
        self._together = item_cosine(self._items["item_id"], events)
        return self

    def transform(
        self, queries: pl.DataFrame, candidates: pl.DataFrame, blended: pl.DataFrame
    ) -> pl.DataFrame:
        """Return one row a blended candidate: query_id, item_id, user_id and Float32 features.

        Args:
            queries: query_id, user_id, timestamp, text and history of every query.
            candidates: each retriever's candidates, from which scores and ranks are taken.
            blended: the candidates to describe.
        """
        rows = blended.select("query_id", "item_id").sort("query_id", "item_id")
        frame = rows.join(
            _wide(candidates, blended, self._retrievers),
            on=["query_id", "item_id"],
            how="left",
            maintain_order="left",
        )
        frame = frame.join(self._items, on="item_id", how="left", maintain_order="left")
        frame = frame.join(
            queries.select(
                "query_id",
                "user_id",
                user_history=pl.col("history").list.len(),
                user_days_since_last=(
                    pl.col("timestamp") - pl.col("history").list.last().struct.field("timestamp")
                ).dt.total_milliseconds()
                / _DAY_MS,
            ),
            on="query_id",
            how="left",
            maintain_order="left",
        )
        query_row, item_row = self._rows(rows, queries)
        lexical = self._lexical.overlap(queries["text"].to_list(), query_row, item_row)
        seen, together = self._history(queries, query_row, item_row)
        frame = frame.with_columns(
            pl.Series("seen", seen),
            pl.Series("together", together),
            *(pl.Series(name, values) for name, values in lexical.items()),
        )
        features = feature_names(frame)
        return frame.select(
            "query_id", "item_id", "user_id", *(pl.col(name).cast(pl.Float32) for name in features)
        )

    def save(self, folder: Path) -> None:
        """Write the program into an existing folder."""
        from scipy import sparse

        self._items.write_parquet(folder / "items.parquet")
        sparse.save_npz(folder / "together.npz", self._together)
        self._lexical.save(folder)
        about = {"params": self._params.model_dump(), "retrievers": self._retrievers}
        write_json(folder / "program.json", about)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        from scipy import sparse

        about = read_json(folder / "program.json")
        program = cls(Examples.model_validate(about["params"]), about["retrievers"])
        program._items = pl.read_parquet(folder / "items.parquet")
        program._together = sparse.load_npz(folder / "together.npz")
        program._lexical = LexicalOverlap.load(folder)
        return program

    def _rows(self, rows: pl.DataFrame, queries: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        of_query = queries.select("query_id", query_row=pl.int_range(pl.len()))
        of_item = self._items.select("item_id", item_row=pl.int_range(pl.len()))
        placed = rows.join(of_query, on="query_id", how="left", maintain_order="left").join(
            of_item, on="item_id", how="left", maintain_order="left"
        )
        return placed["query_row"].to_numpy(), placed["item_row"].to_numpy()

    def _history(
        self, queries: pl.DataFrame, query_row: np.ndarray, item_row: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        from scipy import sparse

        past = (
            queries.select(
                query_row=pl.int_range(pl.len()),
                item_id=pl.col("history").list.tail(self._params.max_history),
            )
            .explode("item_id")
            .with_columns(pl.col("item_id").struct.field("item_id"))
            .join(self._items.select("item_id", item_row=pl.int_range(pl.len())), on="item_id")
            .unique(["query_row", "item_row"])
        )
        shape = (queries.height, self._items.height)
        ones = np.ones(past.height, np.float32)
        at = (past["query_row"].to_numpy(), past["item_row"].to_numpy())
        history = sparse.csr_matrix((ones, at), shape=shape)
        seen = np.zeros(len(query_row), np.float32)
        together = np.zeros(len(query_row), np.float32)
        order = np.argsort(query_row, kind="stable")
        bounds = np.searchsorted(query_row[order], np.arange(0, queries.height + _CHUNK, _CHUNK))
        for start, (low, high) in enumerate(itertools.pairwise(bounds)):
            chosen = order[low:high]
            part = history[start * _CHUNK : (start + 1) * _CHUNK]
            if part.nnz == 0 or len(chosen) == 0:
                continue
            q = query_row[chosen] - start * _CHUNK
            seen[chosen] = np.asarray(part[q, item_row[chosen]]).ravel()
            together[chosen] = np.asarray((part @ self._together)[q, item_row[chosen]]).ravel()
        return seen, together


_CHUNK = 2048
"""Queries whose history products are held at once."""


def item_statistics(items: pl.DataFrame, events: pl.DataFrame, params: Examples) -> pl.DataFrame:
    """Popularity and rating of each item over a window's events, and its price.

    The cut is the window's last event; an item without events has zero reviews, the mean rating and
    null days.
    """
    cut = events["timestamp"].max()
    mean = float(np.asarray(events["value"].mean() or 0.0))
    recent = pl.col("timestamp") > pl.lit(cut) - pl.duration(days=params.recent_days)
    by_item = (
        events.sort("event_id")
        .group_by("item_id", maintain_order=True)
        .agg(
            item_reviews=pl.len(),
            item_reviews_recent=recent.sum(),
            rating_sum=pl.col("value").sum(),
            item_rating_spread=pl.col("value").std(ddof=0),
            last=pl.col("timestamp").max(),
            first=pl.col("timestamp").min(),
        )
    )
    days = pl.duration(days=1)
    counted = pl.col("item_reviews").fill_null(0)
    return (
        items.sort("item_id")
        .join(by_item, on="item_id", how="left", maintain_order="left")
        .select(
            "item_id",
            item_reviews=counted,
            item_reviews_recent=pl.col("item_reviews_recent").fill_null(0),
            item_rating=(pl.col("rating_sum").fill_null(0.0) + params.rating_prior * mean)
            / (counted + params.rating_prior),
            item_rating_spread=pl.col("item_rating_spread"),
            item_days_since_last=(pl.lit(cut) - pl.col("last")) / days,
            item_days_known=(pl.lit(cut) - pl.col("first")) / days,
            item_price=pl.col("price"),
        )
        .with_columns(pl.col(_ITEM_COLUMNS).cast(pl.Float32))
    )


def item_cosine(item_ids: pl.Series, events: pl.DataFrame) -> Any:
    """Item-item cosine over the users of a window, as a CSR matrix with an empty diagonal."""
    from scipy import sparse

    rows = pl.DataFrame({"item_id": item_ids}).with_row_index("item")
    seen = (
        events.select("user_id", "item_id")
        .unique(maintain_order=True)
        .join(rows, on="item_id", how="inner", maintain_order="left")
        .with_columns(user=pl.col("user_id").rank("dense") - 1)
    )
    users = seen["user"].n_unique()
    matrix = sparse.csr_matrix(
        (np.ones(seen.height, np.float32), (seen["user"].to_numpy(), seen["item"].to_numpy())),
        shape=(users, len(item_ids)),
    )
    lengths = np.sqrt(np.asarray(matrix.sum(axis=0)).ravel())
    scaled = matrix @ sparse.diags(1 / np.maximum(lengths, 1.0)).astype(np.float32)
    cosine = (scaled.T @ scaled).tocsr()
    cosine.setdiag(0)
    cosine.eliminate_zeros()
    cosine.sort_indices()
    return cosine.astype(np.float32)


def _wide(
    candidates: pl.DataFrame, blended: pl.DataFrame, retrievers: Sequence[str]
) -> pl.DataFrame:
    """Spread score, rank and gap of each retriever and of the blend over columns."""
    wide = blended.select("query_id", "item_id")
    every = pl.concat([candidates, blended])
    for name in sorted({"blend", *retrievers, *every["retriever"].unique()}):
        one = every.filter(retriever=name).select(
            "query_id",
            "item_id",
            pl.col("score").alias(f"{name}_score"),
            pl.col("rank").alias(f"{name}_rank"),
            (pl.col("score").max().over("query_id") - pl.col("score")).alias(f"{name}_gap"),
        )
        wide = wide.join(one, on=["query_id", "item_id"], how="left", maintain_order="left")
    return wide
