"""A bundle's retrievers, asked by themselves, search as deep as was measured."""

from pathlib import Path

import polars as pl

from stages.core.params import Examples, Lightgbm
from stages.publish.serving import Manifest, Recommender
from stages.rank.features import FeatureProgram
from stages.rank.rankers.lightgbm import LightgbmRanker
from stages.retrieve.blending.fusion import Fusion
from tests.encode import tiny_models
from tests.retrieve.conftest import OWN, documents, queries
from tests.retrieve.retrievers.test_multi_vector import fitted

MEASURED = 10
"""Candidates of a query in the figures, and the most that a request may ask for."""


def test_the_first_of_a_short_list_are_the_first_of_a_long_one(tmp_path: Path) -> None:
    """Late interaction reads what two searches find, and those find more where more is wanted."""
    model = tiny_models.bge_m3(tmp_path)
    retriever = fitted(model, depth=1, weights={"dense": 0, "sparse": 0, "multi_vector": 1})
    manifest = Manifest(
        format=1,
        bundle_id="by hand",
        files={},
        retrievers=["multi_vector"],
        ranker="lightgbm",
        top_k=MEASURED,
        max_query_chars=100,
        max_top_k=MEASURED,
        recipe={},
        revision="none",
        metrics={},
        versions={},
    )
    recommender = Recommender(
        manifest,
        documents().select("item_id", title="text"),
        pl.DataFrame(),
        {"multi_vector": retriever},
        Fusion("rrf", {"multi_vector": 1.0}),
        FeatureProgram(Examples()),
        LightgbmRanker(Lightgbm(), 0),
    )
    asked = queries([f"{first} {second}" for first in OWN for second in ("pedal", "loud")])
    alone = retriever.retrieve(asked, 1)
    measured = retriever.retrieve(asked, MEASURED)
    best = measured.filter(rank=1)["item_id"]
    assert (alone["item_id"] != best).any()
    for k in (1, 4, MEASURED):
        given = recommender.recommend(asked, k, "multi_vector")
        expected = measured.filter(pl.col("rank") <= k)
        assert given["item_id"].to_list() == expected["item_id"].to_list()
        assert given["retrieval_score"].to_list() == expected["score"].to_list()
