"""Parameters of what is measured, audited and reported."""

from typing import Annotated

from pydantic import Field

from stages.core.params.section import Fraction, Section


class Evaluate(Section):
    """Intervals and slices."""

    bootstrap: Annotated[int, Field(ge=100)] = Field(1000, description="Resamples of the queries.")
    level: Fraction = Field(0.95, description="Coverage of an interval.")
    tail: Fraction = Field(
        0.8, description="Tail items: the least reviewed, up to this share of items."
    )


class Audit(Section):
    """What a leak would look like."""

    max_shuffled_auc: Annotated[float, Field(gt=0.5, lt=1)] = Field(
        0.6, description="AUC over which labels that were shuffled are still known."
    )
    max_recall_at_1: Annotated[float, Field(gt=0, le=1)] = Field(
        0.95, description="Recall@1 over which a retriever is too good to be true."
    )
    max_feature_auc: Annotated[float, Field(gt=0.5, le=1)] = Field(
        0.995, description="AUC over which one feature alone is a label in disguise."
    )
    max_rank_excess: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.1, description="Recall by which the rank slice may be easier than valid."
    )


class Report(Section):
    """The HTML report."""

    examples: Annotated[int, Field(ge=0)] = Field(6, description="Example queries shown.")
