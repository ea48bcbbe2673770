"""Every parameter: type, range and meaning; `params.yaml` is validated whole before a stage runs.

One class a section, named as the stage that reads it; `encoder` and `llm` serve several stages.
An unknown key, a value out of range or a choice that the source cannot serve is refused by name.

A module a room of the house; `whole` puts them together.
"""

from stages.core.params.encode import Embed, Encoder, Finetune, Pairs, Pictures
from stages.core.params.enrich import Documents, Keywords, Llm, Queries, Summaries
from stages.core.params.evaluate import Audit, Evaluate, Report
from stages.core.params.prepare import (
    Amazon,
    Columns,
    Hm,
    HmRetailrocket,
    HomepageFeed,
    Ingest,
    Interactions,
    ItemFile,
    Retailrocket,
    Sample,
    Split,
)
from stages.core.params.publish import Bundle
from stages.core.params.rank import Examples, Lightgbm, Train, Xgboost
from stages.core.params.retrieve import (
    Als,
    Blend,
    Bm25,
    Candidates,
    Content,
    Dense,
    EventWeights,
    Fit,
    ItemKnn,
    MultiVector,
    OutputWeights,
    Popular,
    TwoTower,
)
from stages.core.params.section import (
    ENCODER_OF,
    READS_HISTORY,
    Event,
    Fraction,
    Positive,
    RankerName,
    RetrieverName,
    Section,
)
from stages.core.params.whole import Params, load_params

__all__ = [
    "ENCODER_OF",
    "READS_HISTORY",
    "Als",
    "Amazon",
    "Audit",
    "Blend",
    "Bm25",
    "Bundle",
    "Candidates",
    "Columns",
    "Content",
    "Dense",
    "Documents",
    "Embed",
    "Encoder",
    "Evaluate",
    "Event",
    "EventWeights",
    "Examples",
    "Finetune",
    "Fit",
    "Fraction",
    "Hm",
    "HmRetailrocket",
    "HomepageFeed",
    "Ingest",
    "Interactions",
    "ItemFile",
    "ItemKnn",
    "Keywords",
    "Lightgbm",
    "Llm",
    "MultiVector",
    "OutputWeights",
    "Pairs",
    "Params",
    "Pictures",
    "Popular",
    "Positive",
    "Queries",
    "RankerName",
    "Report",
    "Retailrocket",
    "RetrieverName",
    "Sample",
    "Section",
    "Split",
    "Summaries",
    "Train",
    "TwoTower",
    "Xgboost",
    "load_params",
]
