"""What many choose now: a list for everybody, or for a segment, less what the asker has."""

from pathlib import Path
from typing import Self

import numpy as np
import polars as pl

from stages.core.log import UserError
from stages.core.params import Popular
from stages.core.storage import read_json, write_json
from stages.retrieve.retrievers.base import TrainingData, candidates_frame
from stages.retrieve.retrievers.history import in_chunks, past_items, without_past
from stages.retrieve.retrievers.hotness import Decay
from stages.retrieve.retrievers.segments import Segments

_CHUNK = 8192
"""Queries that are answered at once."""


class PopularRetriever:
    """Items by hotness: events and impressions with exponential decay up to the window's end.

    The hot list holds, an item a row: `event_count`, `impression_count` and `ctr_mean`, where an
    event or impression of the window's last moment counts 1 and one `half_life_days` before it a
    half, and a click rate is that of (clicks + prior_impressions x the mean rate) over
    (impressions + prior_impressions). `score` is the event count plus the clicks that the item's
    impressions lead one to expect at its rate, which smooths what few have seen. What nobody chose
    in the window is not in the list. With `segments`, who is known by one is given its list, which
    counts the same of what those of the segment did and were shown; see `Segments`.
    """

    def __init__(self, params: Popular, seed: int = 0) -> None:
        self._params = params
        self._segments = Segments(params)
        self._list(
            pl.DataFrame(
                schema={
                    "item_id": pl.String,
                    "score": pl.Float32,
                    "event_count": pl.Float64,
                    "impression_count": pl.Float64,
                    "ctr_mean": pl.Float64,
                }
            )
        )

    def fit(self, data: TrainingData) -> None:
        """Count the window's events and impressions."""
        decay = Decay(self._params.half_life_days)
        if data.log is not None and not self._params.segments:
            counts = decay.of_log(data.log)
        elif data.events is not None:
            counts = decay.of_frames(data.events, data.impressions)
        else:
            raise UserError("retriever popular needs events")
        seen, clicked = (float(counts[name].to_numpy().sum()) for name in ("seen", "clicked"))
        rate = clicked / seen if seen else 0.0
        prior = self._params.prior_impressions
        smoothed = (pl.col("clicked") + prior * rate) / (pl.col("seen") + prior)
        listed = counts.filter("chosen").select(
            "item_id",
            score=(pl.col("event_count") + pl.col("seen") * smoothed).cast(pl.Float32),
            event_count="event_count",
            impression_count="seen",
            ctr_mean=smoothed,
        )
        self._list(listed.sort("score", "item_id", descending=[True, False]))
        if self._params.segments and data.events is not None:
            rows = decay.rows_of(data.events, data.impressions)
            self._segments.fit(rows, self.hot, data.users, data.items)

    def retrieve(self, queries: pl.DataFrame, k: int) -> pl.DataFrame:
        """Give everybody the hottest items, less those of their history; see `Retriever`."""
        return pl.concat(self._answer(part, k) for part in in_chunks(queries, _CHUNK))

    def save(self, folder: Path) -> None:
        """Write the hot list and the parameters."""
        self.hot.write_parquet(folder / "hot.parquet")
        if self._params.segments:
            self._segments.save(folder)
        write_json(folder / "retriever.json", {"params": self._params.model_dump()})

    @classmethod
    def load(cls, folder: Path, store: Path | None = None) -> Self:
        """Read a fitted retriever; it needs no encoder."""
        made = cls(Popular.model_validate(read_json(folder / "retriever.json")["params"]))
        made._list(pl.read_parquet(folder / "hot.parquet"))
        if made._params.segments:
            made._segments.load(folder)
        return made

    def _list(self, hot: pl.DataFrame) -> None:
        """Take a hot list, and by sorted item_id the shares of all scores."""
        self.hot = hot
        by_id = hot.sort("item_id")
        scores = by_id["score"].to_numpy().astype(np.float64)
        self._by_id = by_id.select("item_id", share=pl.Series(scores / (scores.sum() or 1.0)))

    def _answer(self, queries: pl.DataFrame, k: int) -> pl.DataFrame:
        """Answer queries, those of a segment together."""
        if not self._params.segments:
            return self._given(queries, k, None)
        keyed = queries.with_columns(key=self._segments.of(queries))
        found = [
            self._given(asked.drop("key"), k, None if key is None else int(str(key)))
            for (key,), asked in keyed.group_by("key", maintain_order=True)
        ]
        return pl.concat(found) if found else self._given(queries, k, None)

    def _given(self, queries: pl.DataFrame, k: int, segment: int | None) -> pl.DataFrame:
        item_ids = self._by_id["item_id"]
        past = past_items(queries, item_ids)
        past = past.clear() if self._params.repeat else past.unique(["query", "item"])
        longest = int(past.group_by("query").len()["len"].to_numpy().max(initial=0))
        hottest, score = self._hottest(k + longest, segment)
        wide = (queries.height, len(hottest))
        items, scores = np.broadcast_to(hottest, wide), np.broadcast_to(score, wide)
        items, scores, keep = without_past(items, scores, past, k)
        return candidates_frame("popular", queries["query_id"], items, scores, item_ids, keep)

    def _hottest(self, count: int, segment: int | None) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the hottest items, ties by id, and their scores."""
        item_ids = self._by_id["item_id"]
        if segment is None:
            first = self.hot.head(count)
            rows = item_ids.search_sorted(first["item_id"]).to_numpy()
            return rows, first["score"].to_numpy()
        shares = self._by_id["share"].to_numpy()
        scores = self._segments.scores(segment, item_ids, shares).astype(np.float32)
        least = -np.inf
        if count < len(scores):
            least = np.partition(scores, len(scores) - count)[len(scores) - count]
        near = np.flatnonzero(scores >= least)
        order = near[np.argsort(-scores[near], kind="stable")][:count]
        return order, scores[order]
