"""Parameters of the retrievers, one section each, of their candidates and of the blend."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from stages.core.params.section import Positive, Section


class Popular(Section):
    """What many choose now, of all or of a segment."""

    half_life_days: Annotated[float, Field(gt=0)] = Field(
        30.0, description="Days after which an event counts half."
    )
    prior_impressions: Annotated[float, Field(gt=0)] = Field(
        20.0,
        description="Impressions at the mean click rate that every item is credited with; in a "
        "segment, at the item's.",
    )
    segments: list[str] = Field(
        [],
        description="Columns of users, or `category`, the one of most of the history: who is known "
        "by the first of them is given what its own choose.",
    )
    back_off: Annotated[float, Field(gt=0)] = Field(
        50.0, description="Events of the whole shop that each segment is credited with."
    )
    repeat: bool = Field(False, description="Items of the history may be found again.")


class ItemKnn(Section):
    """Items that go with those of the history."""

    similarity: Literal["directional", "cosine", "bm25"] = Field(
        "directional", description="What follows what; cosine of users; products of BM25 weights."
    )
    window: Positive = Field(
        20, description="Moments of a user over which one item follows another (`directional`)."
    )
    damping: Annotated[float, Field(ge=0, le=1)] = Field(
        0.3, description="Power of both items' counts that divides (`directional`)."
    )
    recency: Annotated[float, Field(gt=0, le=1)] = Field(
        0.7, description="Weight of a moment of the history relative to the one after it."
    )
    max_history: Positive = Field(50, description="Newest moments of a history that are read.")
    neighbours: Positive = Field(500, description="Similar items kept for each.")
    repeat: bool = Field(False, description="Items of the history may be found again.")


class EventWeights(Section):
    """How much an event says; 0 leaves it out."""

    view: Annotated[float, Field(ge=0)] = Field(1.0, description="Of having seen it.")
    cart: Annotated[float, Field(ge=0)] = Field(3.0, description="Of having put it into a cart.")
    purchase: Annotated[float, Field(ge=0)] = Field(5.0, description="Of having bought it.")
    rate: Annotated[float, Field(ge=0)] = Field(5.0, description="Of having rated it.")


class Als(Section):
    """Factors of items, learned by alternating least squares (Hu et al., 2008)."""

    backend: Literal["implicit", "spark"] = Field(
        "implicit",
        description="What trains: `implicit`, or Spark MLlib, which multiplies `regularization` "
        "with the number of a user's items or an item's users.",
    )
    spark_master: Annotated[str, Field(pattern=r"^\S+$")] = Field(
        "local[2]", description="Where Spark runs; the same seed and threads, the same factors."
    )
    factors: Positive = Field(64, description="Length of an item's vector.")
    regularization: Annotated[float, Field(gt=0)] = Field(0.1, description="Weight of lengths.")
    alpha: Annotated[float, Field(gt=0)] = Field(
        2.0, description="Confidence in a choice is 1 + alpha x its events' weights."
    )
    iterations: Positive = Field(15, description="Rounds of training.")
    weights: EventWeights = EventWeights()
    max_history: Positive = Field(50, description="Newest moments of a history that are read.")
    repeat: bool = Field(False, description="Items of the history may be found again.")


class TwoTower(Section):
    """Networks for who asks and for an item, over what is known of either (Huang et al., 2013)."""

    training: Literal["in_batch", "pointwise"] = Field(
        "in_batch",
        description="Softmax over the items of a batch, corrected for their popularity; or each "
        "event against negatives that are drawn.",
    )
    dim: Positive = Field(128, description="Length of a vector.")
    hidden: list[Positive] = Field([128], description="Widths of the layers between.")
    item_ids: bool = Field(
        False, description="Items are known by their id too; new ones by the rest."
    )
    user_ids: bool = Field(False, description="Users are known by their id too.")
    id_dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.1, description="How often an id is left out in training, that new items fare as well."
    )
    min_count: Positive = Field(
        2, description="A value of fewer items or users, an id of fewer events, is unknown."
    )
    buckets: Annotated[int, Field(ge=2)] = Field(
        10, description="Quantiles of prices and other attributes with decimals."
    )
    max_history: Positive = Field(20, description="Newest items of a history that are read.")
    recency: Annotated[float, Field(gt=0, le=1)] = Field(
        0.8, description="Weight of a moment of the history relative to the one after it."
    )
    temperature: Annotated[float, Field(gt=0)] = Field(
        0.1, description="Divides the cosines; lower ones part items more sharply."
    )
    negatives: Positive = Field(4, description="Negatives of an event (`pointwise`).")
    popularity_power: Annotated[float, Field(ge=0, le=1)] = Field(
        0.75, description="Power of an item's events by which negatives are drawn (`pointwise`)."
    )
    hard: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0, description="Share of negatives that are near the item chosen; of rows (`in_batch`)."
    )
    shown: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0,
        description="Share of negatives that the user was shown and did not click; of rows "
        "(`in_batch`).",
    )
    batch_size: Annotated[int, Field(ge=2)] = Field(1024, description="Events of a step.")
    epochs: Positive = Field(5, description="Passes over the events, at the most.")
    min_steps: Annotated[int, Field(ge=0)] = Field(
        300, description="Few events are passed over more often, up to so many steps."
    )
    patience: Positive | None = Field(
        None,
        description="Epochs without a better ranking for 1 of 20 users, held out, after which "
        "training stops; null: all epochs, all users.",
    )
    lr: Annotated[float, Field(gt=0, le=1)] = Field(
        1e-3, description="Peak learning rate of AdamW."
    )
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.01, description="Of AdamW.")
    repeat: bool = Field(False, description="Items of the history may be found again.")

    @model_validator(mode="after")
    def _shares(self) -> Self:
        if self.hard + self.shown > 1:
            raise ValueError("hard + shown must not be over 1")
        return self


class Content(Section):
    """Items like those of the history, by their texts and pictures."""

    fusion: Literal["weighted", "concatenated"] = Field(
        "weighted",
        description="The weighted sum of both similarities; or their vectors, joined with the same "
        "weights, and reduced.",
    )
    picture_weight: Annotated[float, Field(ge=0, le=1)] = Field(
        0.3, description="Weight of the picture where an item has both; the text has the rest."
    )
    whitening: Annotated[float, Field(ge=0, le=1)] = Field(
        0.5, description="0: vectors are centred only; 1: every direction counts alike."
    )
    dims: Positive = Field(128, description="Principal components kept (`concatenated`).")
    recency: Annotated[float, Field(gt=0, le=1)] = Field(
        0.7, description="Weight of a moment of the history relative to the one after it."
    )
    max_history: Positive = Field(50, description="Newest moments of a history that are read.")
    index: Literal["auto", "exact", "flat", "ivf", "hnsw", "chroma"] = Field(
        "auto",
        description="exact: our own; flat, ivf, hnsw: FAISS's; chroma: a Chroma collection; auto: "
        "exact up to 100,000 items, ivf up to 200,000, hnsw beyond.",
    )
    repeat: bool = Field(False, description="Items of the history may be found again.")


class Bm25(Section):
    """Okapi BM25 (Robertson and Zaragoza, 2009) over stemmed words."""

    k1: Annotated[float, Field(gt=0)] = Field(2.5, description="Term frequency saturation.")
    b: Annotated[float, Field(ge=0, le=1)] = Field(0.6, description="Length normalisation.")


class Dense(Section):
    """Exact inner-product search over document vectors."""

    block: Positive = Field(512, description="Queries scored at once.")


class OutputWeights(Section):
    """What each score counts, as Chen et al., 2024; for long texts 0.15, 0.5 and 0.35."""

    dense: Annotated[float, Field(ge=0)] = Field(1.0, description="Of the dense vectors.")
    sparse: Annotated[float, Field(ge=0)] = Field(0.3, description="Of the lexical weights.")
    multi_vector: Annotated[float, Field(ge=0)] = Field(
        1.0, description="Of the late interaction of tokens."
    )

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not self.dense + self.sparse + self.multi_vector:
            raise ValueError("one of dense, sparse and multi_vector must be over 0")
        return self


class MultiVector(Section):
    """The best by dense vectors and lexical weights, scored again by late interaction."""

    depth: Positive = Field(
        200,
        description="Candidates of either search that are scored with a vector a token; "
        "`candidates.top_k`, where that is more.",
    )
    block: Positive = Field(
        512, description="Queries encoded and searched at once; a vector of each token is held."
    )
    weights: OutputWeights = OutputWeights()


class Fit(Section):
    """One section a retriever."""

    popular: Popular = Popular()
    item_knn: ItemKnn = ItemKnn()
    als: Als = Als()
    two_tower: TwoTower = TwoTower()
    content: Content = Content()
    bm25: Bm25 = Bm25()
    dense_base: Dense = Dense()
    dense: Dense = Dense()
    sparse: Dense = Dense()
    multi_vector: MultiVector = MultiVector()


class Candidates(Section):
    """How many candidates each retriever gives."""

    top_k: Annotated[int, Field(ge=10, le=10000)] = Field(100, description="Candidates a query.")


class Blend(Section):
    """How retrievers' candidates are joined."""

    method: Literal["rrf", "weighted", "interleave"] = Field(
        "weighted",
        description="Reciprocal rank fusion; a weighted sum of standardised scores; or the lists "
        "in turn, each as often as its weight says.",
    )
    weights: dict[str, Annotated[float, Field(ge=0, le=1e6)]] | None = Field(
        None,
        description="Weight of each of `retrievers`, of which the proportions count; a list's "
        "share of turns (`interleave`). null: tuned on valid for NDCG@10, where one may get 0, and "
        "its list then comes after the others instead of in turn.",
    )
    head: Annotated[int, Field(ge=10)] | None = Field(
        20,
        description="First ranks, by the weights tuned for NDCG@10; those after are by the weights "
        "of largest recall at `candidates.top_k`, where on valid that finds more. null: one set of "
        "weights for all. Not read with `weights`.",
    )
    rrf_k: Annotated[float, Field(gt=0)] = Field(60.0, description="Rank constant of the fusion.")
    grid: Positive = Field(
        5, description="Weights tried on valid lie on a grid of 1/grid; not read with `weights`."
    )

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.weights is not None and not any(self.weights.values()):
            raise ValueError("one of weights must be over 0; null has them tuned")
        return self
