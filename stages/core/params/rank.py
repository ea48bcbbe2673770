"""Parameters of examples, their features, and the rankers."""

from typing import Annotated

from pydantic import Field

from stages.core.params.section import Positive, Section


class Examples(Section):
    """The features of (query, item) examples."""

    recent_days: list[Positive] = Field(
        [7, 30, 90, 365], description="Days before a query whose events are counted by item."
    )
    rating_prior: Annotated[float, Field(ge=0)] = Field(
        5.0, description="Reviews of the mean rating that every item is credited with."
    )
    max_history: Positive = Field(50, description="Newest moments of a history that are looked at.")


class Lightgbm(Section):
    """LambdaMART (Burges, 2010) by LightGBM, objective lambdarank."""

    trees: Positive = Field(500, description="Most trees; early stopping on valid ends sooner.")
    learning_rate: Annotated[float, Field(gt=0, le=1)] = Field(
        0.05, description="Share of each tree's answer that is added."
    )
    leaves: Annotated[int, Field(ge=2)] = Field(15, description="Most leaves of a tree.")
    min_leaf: Positive = Field(50, description="Fewest examples in a leaf.")
    feature_share: Annotated[float, Field(gt=0, le=1)] = Field(0.8, description="Features a tree.")
    truncation: Positive = Field(
        30, description="Places, from the top, of which each is compared with all below it."
    )
    early_stopping: Positive = Field(50, description="Trees without gain on valid NDCG@5.")
    smoothing: Positive = Field(
        1, description="Trees over whose last figures that is a mean: the best of many is luck."
    )


class Xgboost(Section):
    """LambdaMART by XGBoost, objective rank:ndcg."""

    trees: Positive = Field(500, description="Most trees; early stopping on valid ends sooner.")
    learning_rate: Annotated[float, Field(gt=0, le=1)] = Field(
        0.05, description="Share of each tree's answer that is added."
    )
    depth: Positive = Field(5, description="Deepest tree.")
    min_leaf: Annotated[float, Field(ge=0)] = Field(
        5.0, description="Smallest hessian sum in a leaf."
    )
    feature_share: Annotated[float, Field(gt=0, le=1)] = Field(0.8, description="Features a tree.")
    early_stopping: Positive = Field(50, description="Trees without gain on valid NDCG@5.")


class Train(Section):
    """One section a ranker."""

    lightgbm: Lightgbm = Lightgbm()
    xgboost: Xgboost = Xgboost()
