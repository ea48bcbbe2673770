"""The feature program: fitted on one window, it gives (query, item) examples their features.

The stages `examples` and the service call the same `transform`, so that an example has the same
features offline and online. What the program knows ends at its window's cut; what a query brings is
its own text, time and history.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import polars as pl

from stages.core.params import Examples
from stages.core.storage import read_json, write_json
from stages.core.tables import feature_names
from stages.rank.features.affinity import Affinity
from stages.rank.features.lexical import LexicalOverlap
from stages.rank.features.neighbours import Neighbours
from stages.rank.features.popularity import DAY_MS, Popularity


class FeatureProgram:
    """Features of candidates, of what one window knew before the query, and of its own past.

    * `<retriever>_score`, `_rank`, `_gap` (to the query's best), and the same of the blend; null
      where that retriever did not find the item.
    * `item_*`: events, ratings and days of the window before the query (`Popularity`), price.
    * `overlap_*`: share of the query's words, weighted by rarity, that the document, title,
      categories or brand hold, and of the title's words that the query holds (`LexicalOverlap`).
    * `user_history`, `user_days_since_last`; `seen`, and what goes with the history
      (`Neighbours`); its share of the item's brand and categories, its prices (`Affinity`).

    Args:
        params: what counts as recent, how ratings are smoothed, how long histories are.
        retrievers: those that have columns even where they found nothing for any query.
    """

    def __init__(self, params: Examples, retrievers: Sequence[str] = ()) -> None:
        self._params = params
        self._retrievers = sorted(retrievers)
        self._items = pl.DataFrame()
        self._lexical = LexicalOverlap()
        self._popularity = Popularity(params.recent_days, params.rating_prior)
        self._neighbours = Neighbours(params.max_history)
        self._affinity = Affinity(params.max_history)

    def fit(self, items: pl.DataFrame, documents: pl.DataFrame, events: pl.DataFrame) -> Self:
        """Learn from a window.

        Args:
            items: the items table.
            documents: item_id and text of the window.
            events: the events of the window and no others.
        """
        items = items.sort("item_id")
        self._items = items.select("item_id", item_price="price")
        texts = items.select("item_id", "title", "categories", "brand").join(
            documents.select("item_id", "text"), on="item_id", how="left", maintain_order="left"
        )
        self._lexical.fit(texts)
        self._popularity.fit(events, items["item_id"])
        self._neighbours.fit(events, items["item_id"])
        self._affinity.fit(items)
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
                user_history=pl.col("history")
                .list.len()
                .clip(upper_bound=self._params.max_history),
                user_days_since_last=(
                    pl.col("timestamp") - pl.col("history").list.last().struct.field("timestamp")
                ).dt.total_milliseconds()
                / DAY_MS,
            ),
            on="query_id",
            how="left",
            maintain_order="left",
        )
        query_row, item_row = self._rows(rows, queries)
        asked_at = queries["timestamp"].dt.epoch("ms").to_numpy()
        described = (
            self._lexical.overlap(queries["text"].to_list(), query_row, item_row)
            | self._popularity.before(item_row, asked_at[query_row])
            | self._neighbours.scores(queries, query_row, item_row)
            | self._affinity.of(queries, query_row, item_row)
        )
        frame = frame.with_columns(
            pl.Series(name, values.astype(np.float32)).fill_nan(None)
            for name, values in described.items()
        )
        features = feature_names(frame)
        return frame.select(
            "query_id", "item_id", "user_id", *(pl.col(name).cast(pl.Float32) for name in features)
        )

    def save(self, folder: Path) -> None:
        """Write the program into an existing folder."""
        self._items.write_parquet(folder / "items.parquet")
        for part in (self._lexical, self._popularity, self._neighbours, self._affinity):
            part.save(folder)
        about = {"params": self._params.model_dump(), "retrievers": self._retrievers}
        write_json(folder / "program.json", about)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        about = read_json(folder / "program.json")
        program = cls(Examples.model_validate(about["params"]), about["retrievers"])
        program._items = pl.read_parquet(folder / "items.parquet")
        program._lexical = LexicalOverlap.load(folder)
        program._popularity.load(folder, program._items.height)
        program._neighbours.load(folder, program._items["item_id"])
        program._affinity.load(folder)
        return program

    def _rows(self, rows: pl.DataFrame, queries: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        of_query = queries.select("query_id", query_row=pl.int_range(pl.len()))
        of_item = self._items.select("item_id", item_row=pl.int_range(pl.len()))
        placed = rows.join(of_query, on="query_id", how="left", maintain_order="left").join(
            of_item, on="item_id", how="left", maintain_order="left"
        )
        return placed["query_row"].to_numpy(), placed["item_row"].to_numpy()


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
