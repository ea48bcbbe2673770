"""Parameters of what is served."""

from typing import Annotated, Literal

from pydantic import Field

from stages.core.params.section import Positive, RankerName, Section


class Bundle(Section):
    """What is served."""

    ranker: RankerName | Literal["best"] = Field(
        "best", description="The ranker that serves; best: by NDCG@5 on valid."
    )
    max_query_chars: Positive = Field(4000, description="Longer queries are refused.")
    max_top_k: Positive = Field(100, description="Largest top_k of a request.")
    max_history: Annotated[int, Field(ge=0)] = Field(
        50, description="Newest moments kept of each user, for requests by user_id; 0 for none."
    )
