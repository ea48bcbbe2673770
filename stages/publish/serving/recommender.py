"""A bundle, loaded: queries in, ranked items out, by the functions of the offline stages."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

import polars as pl

from stages.core.params import READS_HISTORY
from stages.core.tables import HISTORY, QUERIES, TIME
from stages.publish.serving.manifest import Manifest, read_manifest
from stages.rank.features import FeatureProgram
from stages.rank.rankers import Ranker, load_ranker
from stages.rank.rankers.base import scores_frame
from stages.retrieve.blending.fusion import Fusion
from stages.retrieve.retrievers import Retriever, load_retriever


class Recommender:
    """Retrieves, blends and ranks as `candidates`, `blend`, `examples` and `score` do."""

    def __init__(
        self,
        manifest: Manifest,
        items: pl.DataFrame,
        retrievers: list[Retriever],
        fusion: Fusion,
        program: FeatureProgram,
        ranker: Ranker,
    ) -> None:
        self.manifest = manifest
        self._items = items
        self._retrievers = retrievers
        self._fusion = fusion
        self._program = program
        self._ranker = ranker
        self._known = frozenset(items["item_id"])

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load a bundle whole.

        Raises:
            UserError: it is not whole, with the reason.
        """
        manifest = read_manifest(folder)
        return cls(
            manifest,
            pl.read_parquet(folder / "items.parquet"),
            [
                load_retriever(name, folder / "retrievers" / name / "train")
                for name in manifest.retrievers
            ],
            Fusion.load(folder / "blend.json"),
            FeatureProgram.load(folder / "features"),
            load_ranker(manifest.ranker, folder / "ranker"),
        )

    def recommend(self, queries: pl.DataFrame, top_k: int) -> pl.DataFrame:
        """Answer queries.

        Args:
            queries: a queries table; targets and split are not read.
            top_k: items a query at the most.

        Returns:
            query_id, rank (from 1), item_id, title (may be null), retrieval_score, ranking_score;
            sorted by query and rank.
        """
        depth = self.manifest.top_k
        found = pl.concat([retriever.retrieve(queries, depth) for retriever in self._retrievers])
        blended = self._fusion.blend(found, depth)
        examples = self._program.transform(queries, found, blended)
        scores = scores_frame(examples, self._ranker.score(examples), self.manifest.ranker)
        return (
            scores.filter(pl.col("rank") <= top_k)
            .join(
                blended.select("query_id", "item_id", retrieval_score="score"),
                on=["query_id", "item_id"],
                how="left",
                maintain_order="left",
            )
            .join(self._items, on="item_id", how="left", maintain_order="left")
            .select(
                "query_id",
                "rank",
                "item_id",
                "title",
                "retrieval_score",
                ranking_score=pl.col("score"),
            )
            .sort("query_id", "rank")
        )

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
    return _queries([(text, []) for text in texts])


def history_queries(histories: list[list[str]]) -> pl.DataFrame:
    """Turn what was chosen, oldest first, into queries without words, asked now.

    Each item counts as chosen a second after the one before it, the last a second ago.
    """
    return _queries([(None, history) for history in histories])


def _queries(asked: list[tuple[str | None, list[str]]]) -> pl.DataFrame:
    now = datetime.now(UTC)
    return pl.DataFrame(
        {
            "query_id": [str(place) for place in range(len(asked))],
            "user_id": [None] * len(asked),
            "timestamp": [now] * len(asked),
            "text": [text for text, _ in asked],
            "history": [
                [
                    {"item_id": item, "timestamp": now - timedelta(seconds=len(history) - place)}
                    for place, item in enumerate(history)
                ]
                for _, history in asked
            ],
            "targets": [[]] * len(asked),
            "split": ["test"] * len(asked),
        },
        schema=QUERIES.columns | {"timestamp": TIME, "history": HISTORY},
    )
