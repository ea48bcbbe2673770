"""The HTTP service: loads one bundle, answers words or histories. `bentoml serve` or `build`."""

import os
from pathlib import Path
from typing import Annotated, Any, cast

import bentoml
from bentoml.exceptions import BadInput
from pydantic import BaseModel, ConfigDict, Field

from stages.core.log import UserError
from stages.publish.serving import Recommender, read_manifest
from stages.publish.serving.recommender import history_queries, text_queries, user_query
from stages.publish.serving.requests import CheckedRequests, refusing

BUNDLE = Path(os.environ.get("WINNOW_BUNDLE", Path(__file__).parent / "bundle"))
try:  # Here, before there are workers: each would fail, and be started anew.
    MANIFEST = read_manifest(BUNDLE)
except UserError as error:
    raise SystemExit(f"error: {error}, or name another folder in WINNOW_BUNDLE") from None


class Hit(BaseModel):
    """One item of an answer, with the scores that put it there; null where nothing ranked."""

    rank: int
    item_id: str
    title: str | None
    retrieval_score: float
    ranking_score: float | None


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
        self._recommender = Recommender.load(BUNDLE, MANIFEST)

    @bentoml.api(route="/search")
    @refusing
    def search(
        self,
        query: Annotated[str, Field(description="What is searched for, in words.")],
        top_k: Annotated[int, Field(description="Items wanted at the most.")] = 10,
    ) -> Answer:
        """Rank the items that answer a query; 400 with a reason where it cannot be answered."""
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
    @refusing
    def recommend(
        self,
        history: Annotated[
            list[str] | None, Field(description="Items chosen before, oldest first.")
        ] = None,
        user_id: Annotated[str | None, Field(description="Who asks, instead of a history.")] = None,
        strategy: Annotated[
            str, Field(description="ranked, blend, or the name of one retriever.")
        ] = "ranked",
        top_k: Annotated[int, Field(description="Items wanted at the most.")] = 10,
    ) -> Recommendation:
        """Rank the items for a user, or someone who chose these; 400 with a reason where it cannot.

        Items that the bundle does not know are passed over. A user whom it does not know is a cold
        start, as is an empty history.
        """
        manifest = self._recommender.manifest
        if not self._recommender.reads_history:
            raise BadInput(
                f"this bundle's retrievers, {_named(manifest)}, answer words only; put popular, "
                "item_knn, als, two_tower or content among them"
            )
        if user_id is not None and history is not None:
            raise BadInput("both user_id and history are given; send one of them")
        if strategy not in self._recommender.strategies:
            raise BadInput(
                f"strategy is {strategy!r}; this bundle has "
                f"{', '.join(self._recommender.strategies)}"
            )
        if user_id is not None:
            past = self._recommender.history_of(user_id)
            query, known = user_query(user_id, past), len(past) > 0
        else:
            sent = history or []
            if len(sent) > _LONGEST_HISTORY:
                raise BadInput(
                    f"history has {len(sent)} items; send the newest {_LONGEST_HISTORY} at the most"
                )
            kept = self._recommender.known(sent)
            query, known = history_queries([kept]), bool(kept)
        return Recommendation(
            bundle_id=manifest.bundle_id,
            items=self._hits(query, top_k, strategy),
            is_cold_start=not known,
        )

    @bentoml.api(route="/similar")
    @refusing
    def similar(
        self,
        item_id: Annotated[str, Field(description="The item that others shall go with.")],
        top_k: Annotated[int, Field(description="Items wanted at the most.")] = 10,
    ) -> Answer:
        """Find what goes with an item; 400 with a reason where it cannot be done."""
        manifest = self._recommender.manifest
        if not self._recommender.alike:
            raise BadInput(
                f"this bundle's retrievers, {_named(manifest)}, do not tell what goes with an "
                "item; put item_knn, als, two_tower or content among them"
            )
        if not self._recommender.known([item_id]):
            raise BadInput(f"item_id {item_id!r} is not in the bundle's catalogue")
        self._check(top_k)
        found = self._recommender.similar(item_id, top_k)
        return Answer(bundle_id=manifest.bundle_id, items=_listed(found))

    def _hits(self, queries: Any, top_k: int, strategy: str = "ranked") -> list[Hit]:
        self._check(top_k)
        return _listed(self._recommender.recommend(queries, top_k, strategy))

    def _check(self, top_k: int) -> None:
        most = self._recommender.manifest.max_top_k
        if not 1 <= top_k <= most:
            raise BadInput(f"top_k is {top_k}; it must lie in 1 to {most}")


_service = cast("bentoml.Service", Search)  # BentoML types it as the class that it wraps.
_service.add_asgi_middleware(
    CheckedRequests, forms={method.route: method.input_spec for method in _service.apis.values()}
)


def _listed(found: Any) -> list[Hit]:
    return [Hit(**row) for row in found.drop("query_id").iter_rows(named=True)]


def _named(manifest: Any) -> str:
    return ", ".join(manifest.retrievers)
