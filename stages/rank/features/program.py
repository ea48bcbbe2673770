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

from stages.core.log import UserError
from stages.core.pairs import PairNumbers, places, rows_of, sorted_rows_of
from stages.core.params import Examples
from stages.core.parts import Parts
from stages.core.storage import read_json, write_json
from stages.core.tables import DAY_MS, feature_names
from stages.rank.features.affinity import Affinity
from stages.rank.features.lexical import LexicalOverlap
from stages.rank.features.neighbours import Neighbours
from stages.rank.features.popularity import Popularity
from stages.retrieve.retrievers.history import past_items


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
        self._neighbours = Neighbours()
        self._affinity = Affinity()

    def fit(
        self,
        items: pl.DataFrame,
        documents: pl.DataFrame,
        events: pl.DataFrame,
        parts: Parts | None = None,
    ) -> Self:
        """Learn from a window.

        Args:
            items: the items table.
            documents: item_id and text of the window.
            events: the events of the window and no others.
            parts: of the shop, whose windows end each by itself; None where it is one.
        """
        items = items.sort("item_id")
        self._items = items.select("item_id", item_price="price")
        texts = items.select("item_id", "title", "categories", "brand").join(
            documents.select("item_id", "text"), on="item_id", how="left", maintain_order="left"
        )
        self._lexical.fit(texts)
        self._popularity.fit(events, items["item_id"], parts)
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

        Raises:
            UserError: a candidate is of no query that is given, or no item of the catalogue.
        """
        numbers = PairNumbers(blended)
        pair = np.sort(numbers.of(blended))
        query, item = numbers.rows(pair)
        query_row = rows_of(numbers.query_ids, queries["query_id"])
        item_row = sorted_rows_of(numbers.item_ids, self._items["item_id"])
        _refuse_unknown(numbers.query_ids, query_row)
        _refuse_unknown(numbers.item_ids, item_row)
        query_row, item_row = query_row[query], item_row[item]
        asked = queries.select(
            "user_id",
            user_history=pl.col("history").list.len().clip(upper_bound=self._params.max_history),
            user_days_since_last=(
                pl.col("timestamp") - pl.col("history").list.last().struct.field("timestamp")
            ).dt.total_milliseconds()
            / DAY_MS,
        )
        asked_at = queries["timestamp"].dt.epoch("ms").to_numpy()
        past = past_items(queries, self._items["item_id"])
        past = past.filter(pl.col("steps") < self._params.max_history)
        described = (
            _standing(numbers, pair, pl.concat([candidates, blended]), self._retrievers)
            | self._lexical.overlap(queries["text"].to_list(), query_row, item_row)
            | self._popularity.before(item_row, asked_at[query_row])
            | self._neighbours.scores(past, queries.height, query_row, item_row)
            | self._affinity.of(past, queries.height, query_row, item_row)
        )
        frame = numbers.frame(pair).with_columns(
            *(asked[name].gather(query_row) for name in asked.columns),
            self._items["item_price"].gather(item_row),
            *(
                pl.Series(name, values.astype(np.float32)).fill_nan(None)
                for name, values in described.items()
            ),
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


def _refuse_unknown(ids: pl.Series, rows: np.ndarray) -> None:
    if len(missing := ids.filter(rows < 0)):
        raise UserError(
            f"candidates have {len(missing)} unknown {ids.name}s, such as {missing[0]!r}; run "
            "`dvc repro`, so that all is of one catalogue"
        )


def _standing(
    numbers: PairNumbers, pair: np.ndarray, lists: pl.DataFrame, retrievers: Sequence[str]
) -> dict[str, np.ndarray]:
    """How numbered pairs, ascending, stand with each retriever and in the blend; NaN if not."""
    found: dict[str, np.ndarray] = {}
    for name in sorted({"blend", *retrievers, *lists["retriever"].unique()}):
        own = lists.filter(retriever=name)
        place, score = places(numbers.of(own), pair), own["score"].to_numpy()
        query = rows_of(own["query_id"], numbers.query_ids)
        best = np.full(len(numbers.query_ids) + 1, -np.inf, np.float32)
        np.maximum.at(best, query, score)
        known = np.flatnonzero(place >= 0)
        values = {"score": score, "rank": own["rank"].to_numpy(), "gap": best[query] - score}
        for kind, value in values.items():
            column = found[f"{name}_{kind}"] = np.full(len(pair), np.nan, np.float32)
            column[place[known]] = value[known]
    return found
