"""The HTTP service: loads one bundle, answers words or histories. `bentoml serve` or `build`."""

import os
from pathlib import Path
from typing import Annotated, Any

import bentoml
from bentoml.exceptions import BadInput
from pydantic import BaseModel, ConfigDict, Field

BUNDLE = Path(os.environ.get("WINNOW_BUNDLE", Path(__file__).parent / "bundle"))


class Hit(BaseModel):
    """One item of an answer, with the scores that put it there."""

    rank: int
    item_id: str
    title: str | None
    retrieval_score: float
    ranking_score: float


class Answer(BaseModel):
    """A ranked answer and the id of the bundle that gave it."""

    model_config = ConfigDict(extra="forbid")

    bundle_id: str
    items: list[Hit]


class Recommendation(Answer):
    """An answer to someone without words; a cold start knows nothing of what they chose."""

    is_cold_start: bool


_LONGEST_HISTORY = 1000


@bentoml.service(
    name="winnow",
    resources={"gpu": 1},
    traffic={"timeout": 30, "max_concurrency": 64},
    metrics={"enabled": True},
)
class Search:
    """Two-stage search over one bundle: retrieve, blend, rank."""

    def __init__(self) -> None:
        from stages.publish.serving import Recommender

        self._recommender = Recommender.load(BUNDLE)

    @bentoml.api(route="/search")
    def search(
        self,
        query: Annotated[str, Field(description="What is searched for, in words.")],
        top_k: Annotated[int, Field(description="Items wanted at the most.")] = 10,
    ) -> Answer:
        """Rank the items that answer a query; 400 with a reason where it cannot be answered."""
        from stages.publish.serving.recommender import text_queries

        manifest = self._recommender.manifest
        if not self._recommender.reads_words:
            raise BadInput(f"this bundle's retrievers, {_named(manifest)}, read no words")
        if not query.strip():
            raise BadInput("query is empty; say in words what is searched for")
        if len(query) > manifest.max_query_chars:
            raise BadInput(
                f"query has {len(query)} characters; at most {manifest.max_query_chars} are read"
            )
        return Answer(bundle_id=manifest.bundle_id, items=self._hits(text_queries([query]), top_k))

    @bentoml.api(route="/recommend")
    def recommend(
        self,
        history: Annotated[list[str], Field(description="Items chosen before, oldest first.")] = [],  # noqa: B006 - BentoML reads the default from the signature
        top_k: Annotated[int, Field(description="Items wanted at the most.")] = 10,
    ) -> Recommendation:
        """Rank the items for someone who chose these; 400 with a reason where it cannot be done.

        Items that the bundle does not know are passed over.
        """
        from stages.publish.serving.recommender import history_queries

        manifest = self._recommender.manifest
        if not self._recommender.reads_history:
            raise BadInput(
                f"this bundle's retrievers, {_named(manifest)}, answer words only; put popular, "
                "item_knn or als among them"
            )
        if len(history) > _LONGEST_HISTORY:
            raise BadInput(
                f"history has {len(history)} items; send the newest {_LONGEST_HISTORY} at the most"
            )
        known = self._recommender.known(history)
        return Recommendation(
            bundle_id=manifest.bundle_id,
            items=self._hits(history_queries([known]), top_k),
            is_cold_start=not known,
        )

    def _hits(self, queries: Any, top_k: int) -> list[Hit]:
        manifest = self._recommender.manifest
        if not 1 <= top_k <= manifest.max_top_k:
            raise BadInput(f"top_k is {top_k}; it must lie in 1 to {manifest.max_top_k}")
        found = self._recommender.recommend(queries, top_k)
        return [Hit(**row) for row in found.drop("query_id").iter_rows(named=True)]


def _named(manifest: Any) -> str:
    return ", ".join(manifest.retrievers)
