"""What all sections of the parameters share: their base, and names of what may be chosen."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

RetrieverName = Literal[
    "popular",
    "item_knn",
    "als",
    "two_tower",
    "content",
    "bm25",
    "dense_base",
    "dense",
    "sparse",
    "multi_vector",
]
READS_HISTORY: tuple[RetrieverName, ...] = ("popular", "item_knn", "als", "two_tower", "content")
"""Retrievers that answer a query without words, by who asks and what they chose before.

They know the items of their window's events; `content` and `two_tower` also those of which
something is said.
"""
ENCODER_OF: dict[str, Literal["base", "tuned"]] = {
    "dense_base": "base",
    "dense": "tuned",
    "sparse": "base",
    "multi_vector": "base",
}
"""The encoder of each retriever that encodes queries."""
Event = Literal["view", "cart", "purchase", "rate"]
RankerName = Literal["lightgbm", "xgboost"]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """Base of all sections: unknown keys are errors, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)
