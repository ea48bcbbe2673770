"""A bundle, loaded: queries in, ranked items out, by the functions of the offline stages."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import polars as pl

from stages.core.params import READS_HISTORY, RetrieverName
from stages.core.tables import CANDIDATES, HISTORY, QUERIES, TIME
from stages.publish.serving.manifest import Manifest, read_manifest
from stages.rank.features import FeatureProgram
from stages.rank.rankers import Ranker, load_ranker
from stages.rank.rankers.base import scores_frame
from stages.retrieve.blending.fusion import Fusion
from stages.retrieve.retrievers import KnowsItems, Retriever, load_retriever

RANKED, BLEND = "ranked", "blend"
"""Strategies beside the names of retrievers: retrieved, blended and ranked; or not ranked."""


class Recommender:
    """Retrieves, blends and ranks as `candidates`, `blend`, `examples` and `score` do."""

    def __init__(
        self,
        manifest: Manifest,
        items: pl.DataFrame,
        users: pl.DataFrame,
        retrievers: dict[RetrieverName, Retriever],
        fusion: Fusion,
        program: FeatureProgram,
        ranker: Ranker,
    ) -> None:
        self.manifest = manifest
        self._items = items
        self._users = users
        self._retrievers = retrievers
        self._fusion = fusion
        self._program = program
        self._ranker = ranker
        self._known = frozenset(items["item_id"])

    @classmethod
    def load(cls, folder: Path, manifest: Manifest | None = None) -> Self:
        """Load a bundle whole.

        Args:
            folder: of the bundle.
            manifest: what `read_manifest` gave for it, where the files have been checked already.

        Raises:
            UserError: it is not whole, with the reason.
        """
        manifest = manifest or read_manifest(folder)
        return cls(
            manifest,
            pl.read_parquet(folder / "items.parquet"),
            pl.read_parquet(folder / "users.parquet"),
            {
                name: load_retriever(name, folder / "retrievers" / name / "train")
                for name in manifest.retrievers
            },
            Fusion.load(folder / "blend.json"),
            FeatureProgram.load(folder / "features"),
            load_ranker(manifest.ranker, folder / "ranker"),
        )

    def recommend(self, queries: pl.DataFrame, top_k: int, strategy: str = RANKED) -> pl.DataFrame:
        """Answer queries.

        Each retriever is asked for as many candidates as when it was measured, whatever `top_k` is:
        some search the deeper the more is wanted, and a short list is how a long one begins.

        Args:
            queries: a queries table; targets and split are not read.
            top_k: items a query at the most.
            strategy: one of `strategies`: all retrievers and the ranker; the blend, unranked; or
                one retriever alone.

        Returns:
            query_id, rank (from 1), item_id, title (may be null), retrieval_score, ranking_score
            (null where nothing ranked); sorted by query and rank.
        """
        depth = self.manifest.top_k
        if strategy in self._retrievers:
            found = self._retrievers[strategy].retrieve(queries, depth)
            return self._unranked(found, top_k)
        found = pl.concat([one.retrieve(queries, depth) for one in self._retrievers.values()])
        blended = self._fusion.blend(found, depth)
        if strategy == BLEND:
            return self._unranked(blended, top_k)
        examples = self._program.transform(queries, found, blended)
        scores = scores_frame(examples, self._ranker.score(examples), self.manifest.ranker)
        top = scores.filter(pl.col("rank") <= top_k).join(
            blended.select("query_id", "item_id", retrieval_score="score"),
            on=["query_id", "item_id"],
            how="left",
            maintain_order="left",
        )
        return self._answer(top, pl.col("score"))

    def similar(self, item_id: str, top_k: int) -> pl.DataFrame:
        """Return what goes with one item, as `recommend` does, unranked.

        It is what someone is given who chose that item and nothing else, but for what is popular.
        """
        query = history_queries([[item_id]])
        asked = {name: one for name, one in self.alike.items() if one.knows(item_id)}
        found = [one.retrieve(query, self.manifest.top_k) for one in asked.values()]
        if not found:
            return self._unranked(pl.DataFrame(schema=CANDIDATES.columns), top_k)
        fusion = self._fusion.among([str(name) for name in asked])
        blended = fusion.blend(pl.concat(found), top_k + 1)
        return self._unranked(blended.filter(pl.col("item_id") != item_id), top_k)

    def _unranked(self, candidates: pl.DataFrame, top_k: int) -> pl.DataFrame:
        first = candidates.sort("query_id", "rank").with_columns(
            retrieval_score=pl.col("score"),
            rank=pl.int_range(1, pl.len() + 1, dtype=pl.UInt32).over("query_id"),
        )
        return self._answer(first.filter(pl.col("rank") <= top_k), pl.lit(None, pl.Float32))

    def _answer(self, top: pl.DataFrame, ranking_score: pl.Expr) -> pl.DataFrame:
        return (
            top.join(self._items, on="item_id", how="left", maintain_order="left")
            .select(
                *("query_id", "rank", "item_id", "title", "retrieval_score"),
                ranking_score=ranking_score,
            )
            .sort("query_id", "rank")
        )

    @property
    def strategies(self) -> list[str]:
        """What `recommend` can be asked for."""
        return [RANKED, BLEND, *self._retrievers]

    @property
    def alike(self) -> dict[RetrieverName, KnowsItems]:
        """Retrievers that tell what goes with an item."""
        return {name: one for name, one in self._retrievers.items() if isinstance(one, KnowsItems)}

    def history_of(self, user_id: str) -> pl.Series:
        """Return what the bundle knows of a user: item_id and timestamp, oldest first."""
        place = self._users["user_id"].search_sorted(user_id)
        known = self._users.slice(place, 1).filter(pl.col("user_id") == user_id)
        return known["history"].explode(empty_as_null=False)

    @property
    def reads_words(self) -> bool:
        """Whether a retriever answers words."""
        return not set(self.manifest.retrievers) <= set(READS_HISTORY)

    @property
    def reads_history(self) -> bool:
        """Whether a retriever answers who asks without words."""
        return not set(self.manifest.retrievers).isdisjoint(READS_HISTORY)

    def known(self, item_ids: list[str]) -> list[str]:
        """Return those of the ids that are in the bundle's catalogue, in their order."""
        return [item for item in item_ids if item in self._known]


def text_queries(texts: list[str]) -> pl.DataFrame:
    """Turn texts into queries of nobody known, asked now; ids are their places."""
    return _queries([{"text": text} for text in texts])


def history_queries(histories: list[list[str]]) -> pl.DataFrame:
    """Turn what was chosen, oldest first, into queries without words, asked now.

    Each item counts as chosen a second after the one before it, the last a second ago.
    """
    now = datetime.now(UTC)
    return _queries(
        [
            {
                "history": [
                    {"item_id": item, "timestamp": now - timedelta(seconds=len(history) - place)}
                    for place, item in enumerate(history)
                ]
            }
            for history in histories
        ]
    )


def user_query(user_id: str, history: pl.Series) -> pl.DataFrame:
    """Turn a user, and what is known of them, into a query without words, asked now."""
    return _queries([{"user_id": user_id, "history": history.to_list()}])


def _queries(asked: list[dict[str, Any]]) -> pl.DataFrame:
    blank: dict[str, Any] = {"user_id": None, "timestamp": datetime.now(UTC), "text": None}
    blank |= {"history": [], "targets": [], "split": "test"}
    rows = [blank | {"query_id": str(place)} | query for place, query in enumerate(asked)]
    return pl.DataFrame(rows, schema=QUERIES.columns | {"timestamp": TIME, "history": HISTORY})
