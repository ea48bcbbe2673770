"""Every parameter: type, range and meaning; `params.yaml` is validated whole before a stage runs.

One class a section, named as the stage that reads it; `encoder` and `llm` serve several stages.
An unknown key, a value out of range or a choice that the source cannot serve is refused by name.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AnyHttpUrl,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from stages.core.iso639 import LANGUAGE_NAMES, LanguageCode
from stages.core.log import UserError

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
Event = Literal["view", "cart", "purchase", "rate"]
RankerName = Literal["lightgbm", "xgboost"]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """Base of all sections: unknown keys are errors, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Sample(Section):
    """Scale of the generated shop. The same numbers and seed give the same bytes."""

    reviews: Annotated[int, Field(ge=200)] = Field(6000, description="Reviews to generate.")
    items: Annotated[int, Field(ge=20)] = Field(600, description="Items in the catalogue.")
    users: Annotated[int, Field(ge=20)] = Field(1500, description="Users who may write and see.")
    impressions: Annotated[int, Field(ge=0)] = Field(
        20000, description="Impressions with clicks and conversions."
    )
    pictures: Annotated[int, Field(ge=0)] = Field(
        60, description="Items, the most reviewed first, for which a product picture is drawn."
    )


class Amazon(Section):
    """Amazon review files, one shape or several; names are globs inside `ingest.folder`."""

    reviews: list[str] = Field(
        ["*.jsonl*", "*.json*"],
        min_length=1,
        description="Globs of review files; `meta_*` is left out.",
    )
    metadata: list[str] = Field(
        ["meta_*"], description="Globs of metadata files; may match nothing."
    )


class Columns(Section):
    """What the columns of a log are called; `column_0` and so on in a file without a header."""

    user: str = Field("user_id", description="Who.")
    item: str = Field("item_id", description="What.")
    time: str | None = Field("timestamp", description="When; null where nobody knows.")
    event: str | None = Field(None, description="What was done; null where all is one event.")
    value: str | None = Field(None, description="A rating or weight; null for 1.")


class ItemFile(Section):
    """A file that says something of items, one or more rows an item."""

    file: str
    columns: dict[Literal["item_id", "title", "description", "categories", "brand", "price"], str]
    separator: str = ","
    header: bool = True
    list_separator: str = "|"


class Interactions(Section):
    """A log of who did what when, CSV (also .gz) or parquet; its lists are rows of their own."""

    events: list[str] = Field(
        ["*.csv*", "*.parquet"], min_length=1, description="Globs of the log's files."
    )
    columns: Columns = Columns()
    separator: str = Field(",", min_length=1, max_length=1, description="Between columns of CSV.")
    header: bool = Field(True, description="Whether the first line of CSV names the columns.")
    time_unit: Literal["s", "ms", "iso"] = Field(
        "ms", description="Seconds or milliseconds since 1970, or text as in ISO 8601."
    )
    event: Event = Field("purchase", description="What was done, where no column says it.")
    events_named: dict[str, Event] = Field(
        {}, description="Names that the log has for events, such as `addtocart: cart`."
    )
    items: list[ItemFile] = Field(
        [],
        description="Files about items: `file`, a glob, and `columns`, a mapping of `item_id`, "
        "`title`, `description`, `categories`, `brand` or `price` to theirs; also `separator`, "
        "`header` and `list_separator` of categories.",
    )

    @model_validator(mode="after")
    def _items_have_ids(self) -> Self:
        for about in self.items:
            if "item_id" not in about.columns:
                raise ValueError(f"items: the columns of {about.file!r} name no item_id")
        return self


class Hm(Section):
    """H&M's files, as Kaggle has them; names are globs inside `ingest.folder`."""

    articles: list[str] = Field(
        ["articles*.csv*", "articles*.parquet"],
        description="Articles, CSV (also .gz) or parquet; of what several files say of one, that "
        "of the first counts. Without a glob, articles are what was bought.",
    )
    customers: list[str] = Field(["customers*.csv*"], description="Customers; may be empty.")
    transactions: list[str] = Field(
        ["transactions*.csv*"], min_length=1, description="Transactions: a unit sold is a row."
    )
    images: str | None = Field(
        "images",
        description="Folder of pictures, `<first three digits>/<article_id>.jpg`, which are "
        "copied; null for none.",
    )


class Retailrocket(Section):
    """RetailRocket's files, as Kaggle has them; names are globs inside `ingest.folder`."""

    events: list[str] = Field(["events*.csv*"], min_length=1, description="Who did what when.")
    item_properties: list[str] = Field(
        ["item_properties*.csv*"], description="Properties of items over time; may be empty."
    )
    category_tree: list[str] = Field(
        ["category_tree*.csv*"],
        description="Parents of categories; without it a category stands alone.",
    )
    properties: list[str] = Field(
        ["categoryid", "available"],
        description="Properties that are read: these, or hashed ones by their number.",
    )


class HmRetailrocket(Section):
    """Two shops, one or both: ids are `hm_` and `rr_` and theirs, column `part` names the shop."""

    parts: Literal["both", "hm", "retailrocket"] = Field("both", description="Which are read.")
    hm: Hm = Hm()
    retailrocket: Retailrocket = Retailrocket()


class HomepageFeed(Section):
    """A feed's log of what was shown and clicked, with tags of users and items."""

    log: list[str] = Field(
        ["shop*.dat*"], min_length=1, description="Globs of the log: ts, uid, iid, label."
    )
    user_features: list[str] = Field(
        ["user_feature*.dat*"], description="Globs of uid, utag1, utag2; may be empty."
    )
    item_features: list[str] = Field(
        ["item_feature*.dat*"], description="Globs of iid, itag1, itag2, itag3; may be empty."
    )
    separator: str = Field(",", min_length=1, max_length=1, description="Between columns.")
    header: bool = Field(False, description="Whether the first line names the columns.")
    time_unit: Literal["s", "ms", "iso"] = Field(
        "ms", description="Seconds or milliseconds since 1970, or text as in ISO 8601."
    )


class Ingest(Section):
    """Raw files to items, users, events and impressions."""

    source: Literal["sample", "amazon", "interactions", "hm_retailrocket", "homepage_feed"] = Field(
        "sample", description="Which reader runs."
    )
    folder: Path = Field(Path("data/raw"), description="Folder of the raw files, watched by DVC.")
    on_bad_row: Literal["fail", "skip"] = Field(
        "fail", description="A bad line ends the run, or is counted, logged and left out."
    )
    max_bad_rows: Annotated[int, Field(ge=0)] = Field(
        100, description="With `skip`: more bad lines than this end the run all the same."
    )
    sample: Sample = Sample()
    amazon: Amazon = Amazon()
    interactions: Interactions = Interactions()
    hm_retailrocket: HmRetailrocket = HmRetailrocket()
    homepage_feed: HomepageFeed = HomepageFeed()


class Split(Section):
    """Cuts in time, or each user's last events, and the slice that re-rankers learn from."""

    method: Literal["fractions", "cutoffs", "leave_last_out"] = Field(
        "fractions",
        description="Cuts in time, by shares or by moments; or by user: the last event is test, "
        "the one before it valid, the one before that rank.",
    )
    queries: Literal["reviews", "moments"] = Field(
        "reviews",
        description="A held-out review asks in its words; or all that a user did at one time is "
        "asked for without any.",
    )
    train: Fraction = Field(0.8, description="Share of events, oldest first, that is train.")
    valid: Fraction = Field(0.1, description="Share that follows and is valid; the rest is test.")
    train_end_ms: int | None = Field(None, description="Last millisecond of train (`cutoffs`).")
    valid_end_ms: int | None = Field(None, description="Last millisecond of valid (`cutoffs`).")
    rank: Fraction = Field(
        0.125, description="Share of train, its end, that re-rankers learn from."
    )
    min_user_events: Positive = Field(
        1, description="Users of fewer events in the whole log are left out."
    )
    min_item_events: Positive = Field(
        1, description="Items of fewer events in the whole log are left out."
    )
    max_queries: Positive | None = Field(
        None, description="Held-out queries of a split at the most, drawn; null for all."
    )
    core: bool = Field(
        False, description="Both minimums until all that is left has them (k-core); else once."
    )

    @model_validator(mode="after")
    def _cuts(self) -> Self:
        if self.train + self.valid >= 1:
            raise ValueError("train + valid must leave something for test")
        if self.method == "cutoffs":
            if self.train_end_ms is None or self.valid_end_ms is None:
                raise ValueError("method cutoffs needs train_end_ms and valid_end_ms")
            if self.train_end_ms >= self.valid_end_ms:
                raise ValueError("train_end_ms must be before valid_end_ms")
        return self


class Llm(Section):
    """The language model server or in-process model that `keywords` and `summaries` may use."""

    model: str = Field("meta-llama/Llama-3.1-8B-Instruct", description="Model name or folder.")
    base_url: str = Field("http://127.0.0.1:8000/v1", description="OpenAI-compatible server.")
    api_key_env: str = Field("OPENAI_API_KEY", description="Environment variable with the key.")
    concurrency: Positive = Field(16, description="Requests under way at once.")
    timeout_s: Annotated[float, Field(gt=0)] = Field(60.0, description="Seconds for one request.")
    max_retries: Annotated[int, Field(ge=0)] = Field(
        5, description="Tries after a connection error, 429 or 5xx, with exponential back-off."
    )
    max_tokens: Positive = Field(256, description="Longest answer.")
    batch_size: Positive = Field(
        64, description="Prompts given to the in-process model at once and stored together."
    )
    gpus: list[int] = Field([], description="GPU ids for the in-process model; empty for all.")
    keep_alive: int | Annotated[str, Field(pattern=r"^-?(\d+(\.\d+)?(ms|s|m|h))+$")] | None = Field(
        None,
        description="Ollama: seconds, or a time such as 30m, that it holds the model in memory "
        "after a request, -1 for ever; null for the server's own, five minutes.",
    )

    @field_validator("base_url")
    @classmethod
    def _url(cls, url: str) -> str:
        TypeAdapter(AnyHttpUrl).validate_python(url)
        return url


class Keywords(Section):
    """Who a product is for, when and why it is used, from each review."""

    backend: Literal["chunks", "yake", "openai", "vllm"] = Field(
        "chunks",
        description="chunks: what stands between words that every review has; yake; or a language "
        "model.",
    )
    max_items: Positive | None = Field(None, description="Only the first N reviews; null for all.")
    max_keywords: Positive = Field(10, description="Keywords kept from one review.")
    max_words: Positive = Field(2, description="Words in one keyword (`chunks`, `yake`).")
    max_review_chars: Positive = Field(2000, description="Longer reviews are cut before asking.")
    prompt: Path = Field(
        Path("stages/enrich/prompts/keywords.yaml"),
        description="What a language model is told: instructions and examples; watched by DVC.",
    )
    language: LanguageCode | None = Field(
        None,
        description="Language of the keywords, by its ISO 639-1 code such as en, whatever that of "
        "the review; null for the review's own. Of a language model only.",
    )

    @model_validator(mode="after")
    def _language(self) -> Self:
        if self.language is None:
            return self
        if self.language not in LANGUAGE_NAMES:
            raise ValueError(
                f"language {self.language!r} is no code of ISO 639-1, such as en or pt; correct it"
            )
        if self.backend in ("chunks", "yake"):
            raise ValueError(
                f"language {self.language!r} needs a language model, and backend "
                f"{self.backend!r} is none: its keywords are the review's own words"
            )
        return self


class Summaries(Section):
    """Descriptions over a length, made short."""

    use_llm: bool = Field(False, description="false: extractive, the first sentences that fit.")
    backend: Literal["openai", "vllm"] = Field("openai", description="Who answers with `use_llm`.")
    max_items: Positive | None = Field(
        None, description="Only the first N descriptions; null: all."
    )
    min_chars: Positive = Field(300, description="Descriptions up to this length stay as they are.")
    max_chars: Positive = Field(300, description="Longest summary.")
    prompt: Path = Field(
        Path("stages/enrich/prompts/summaries.yaml"),
        description="What a language model is told: instructions and examples; watched by DVC.",
    )


class Queries(Section):
    """The words with which a held-out review searches."""

    text: Literal["review_text", "keywords", "both"] = Field(
        "review_text", description="The review, its keywords, or keywords followed by the review."
    )
    max_keywords: Positive = Field(20, description="Keywords in a query.")


class Documents(Section):
    """One text an item: `[Title] [Review Keywords] [Description Summary] [Features] [Reviews]`."""

    max_keywords: Annotated[int, Field(ge=0)] = Field(
        40, description="Keywords, ranked by how many of the item's reviews name them."
    )
    max_features: Annotated[int, Field(ge=0)] = Field(10, description="Features kept.")
    attributes: list[str] = Field(
        [], description="Columns of items whose values stand before their features."
    )
    reviews: Annotated[int, Field(ge=0)] = Field(
        0, description="Train reviews quoted under [Reviews], newest first; 0 for none."
    )


class Encoder(Section):
    """The base text encoder."""

    kind: Literal["minilm", "sentence_transformers", "bge_m3"] = Field(
        "minilm",
        description="minilm: the packaged all-MiniLM-L6-v2; bge_m3: FlagEmbedding; or any other.",
    )
    model: str | None = Field(None, description="Name or folder; null for minilm.")
    max_query_length: Positive = Field(256, description="Tokens of a query that are read.")
    max_doc_length: Positive = Field(256, description="Tokens of a document that are read.")
    batch_size: Positive = Field(
        32, description="Texts encoded at once in a service, and by a static model."
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="auto: half precision on CUDA, fp32 on CPU."
    )
    multi_vector: bool = Field(
        False,
        description="bge_m3: also one vector a token, 2 bytes a number: 2 KB a token of BGE-M3.",
    )
    gpus: list[Annotated[int, Field(ge=0)]] = Field(
        [], description="GPU ids that encode, each with a copy of the model; empty for all."
    )

    @model_validator(mode="after")
    def _model(self) -> Self:
        if self.kind == "sentence_transformers" and self.model is None:
            raise ValueError("kind sentence_transformers needs a model, a name or a folder")
        if self.multi_vector and self.kind != "bge_m3":
            raise ValueError("multi_vector needs kind bge_m3")
        return self

    @property
    def has_sparse(self) -> bool:
        """Whether the encoder gives lexical weights beside its dense vector."""
        return self.kind == "bge_m3"


class Pictures(Section):
    """Vectors of the items' pictures, for the retrievers that read them."""

    encoder: Literal["none", "colour_shape", "clip"] = Field(
        "none",
        description="none: pictures are not read; colour_shape: histograms of colours and edges, "
        "nothing learned; clip: any CLIP of transformers or sentence-transformers.",
    )
    model: str | None = Field(None, description="clip: name on the hub or folder.")
    batch_size: Positive = Field(64, description="Pictures encoded, and kept, at once.")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="clip: half precision on CUDA, fp32 on CPU, or as said."
    )

    @model_validator(mode="after")
    def _model(self) -> Self:
        if self.encoder == "clip" and self.model is None:
            raise ValueError("encoder clip needs a model, a name or a folder")
        return self


class Pairs(Section):
    """Queries and the documents that they should find, from window `fit`."""

    query_type: Literal["keywords", "review_text", "both"] = Field(
        "review_text", description="What of a review asks; both makes two pairs a review."
    )
    format: Literal["pair", "triplet"] = Field("pair", description="triplet adds hard negatives.")
    max_keywords: Positive = Field(20, description="Keywords in a query.")
    negatives: Positive = Field(1, description="Hard negatives a pair (`triplet`).")
    margin: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.05, description="A negative's similarity is below (1 - margin) x the positive's."
    )
    depth: Positive = Field(50, description="Nearest documents searched for negatives.")
    max_pairs: Positive | None = Field(None, description="Only the newest N pairs; null for all.")


class Finetune(Section):
    """Contrastive fine-tuning of the base encoder on `pairs`."""

    enabled: bool = Field(True, description="false: the tuned encoder is the base, untouched.")
    launcher: str = Field(
        "python", description="`accelerate launch --num_processes 2` for several GPUs."
    )
    epochs: Annotated[float, Field(gt=0)] = Field(1.0, description="Passes over the pairs.")
    batch_size: Annotated[int, Field(ge=2)] = Field(
        64, description="Pairs a batch; others are negatives."
    )
    mini_batch_size: Positive | None = Field(
        None,
        description="Cached loss in chunks of this size, for batches over memory; null: plain.",
    )
    lr: Annotated[float, Field(gt=0, le=1e-2)] = Field(2e-5, description="Peak learning rate.")
    warmup: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.1, description="Share of steps that warm up."
    )
    scale: Annotated[float, Field(gt=0)] = Field(
        20.0, description="Inverse temperature of the loss."
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="auto: bf16 where the device computes in it, else fp32."
    )
    max_query_length: Positive = Field(128, description="Tokens of a query while training.")
    max_doc_length: Positive = Field(128, description="Tokens of a document while training.")
    eval_steps: Positive = Field(50, description="Steps between evaluations on valid.")
    eval_queries: Positive = Field(500, description="Valid queries of an evaluation.")


class Embed(Section):
    """The Chroma collection that is built from the vectors."""

    collection: str = Field("beauty_products", min_length=3, description="Chroma collection name.")
    chroma_url: str | None = Field(
        None, description="`http://host:port` of a Chroma server to fill too."
    )


class Popular(Section):
    """What many choose now, of all or of a segment."""

    half_life_days: Annotated[float, Field(gt=0)] = Field(
        30.0, description="Days after which an event counts half."
    )
    prior_impressions: Annotated[float, Field(gt=0)] = Field(
        20.0, description="Impressions at the mean click rate that every item is credited with."
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
    index: Literal["auto", "exact", "flat", "ivf", "hnsw"] = Field(
        "auto",
        description="exact: our own; the others are FAISS's; auto: exact up to 100,000 items, "
        "ivf beyond.",
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
    block: Positive = Field(512, description="Queries searched at once.")
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
    rrf_k: Annotated[float, Field(gt=0)] = Field(60.0, description="Rank constant of the fusion.")
    grid: Positive = Field(5, description="Weights tried on valid lie on a grid of 1/grid.")


class Examples(Section):
    """The features of (query, item) examples."""

    recent_days: list[Positive] = Field(
        [7, 30, 90, 365], description="Days before a query whose events are counted by item."
    )
    rating_prior: Annotated[float, Field(ge=0)] = Field(
        5.0, description="Reviews of the mean rating that every item is credited with."
    )
    max_history: Positive = Field(50, description="Newest moments of a history that are looked at.")


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


class Params(Section):
    """The whole of `params.yaml`."""

    seed: Annotated[int, Field(ge=0, lt=2**31)] = Field(
        7, description="Decides all that is drawn: the sample, batches, trees, resamples."
    )
    retrievers: list[RetrieverName] = Field(
        ["bm25", "dense_base", "dense"], min_length=1, description="Which retrievers run."
    )
    rankers: list[RankerName] = Field(
        ["lightgbm", "xgboost"], min_length=1, description="Which rankers run."
    )
    ingest: Ingest = Ingest()
    split: Split = Split()
    llm: Llm = Llm()
    keywords: Keywords = Keywords()
    summaries: Summaries = Summaries()
    queries: Queries = Queries()
    documents: Documents = Documents()
    encoder: Encoder = Encoder()
    pictures: Pictures = Pictures()
    pairs: Pairs = Pairs()
    finetune: Finetune = Finetune()
    embed: Embed = Embed()
    fit: Fit = Fit()
    candidates: Candidates = Candidates()
    blend: Blend = Blend()
    examples: Examples = Examples()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    audit: Audit = Audit()
    report: Report = Report()
    bundle: Bundle = Bundle()

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        for kind, names in (("retrievers", self.retrievers), ("rankers", self.rankers)):
            if len(set(names)) != len(names):
                raise ValueError(f"{kind} names one twice: {names}")
        for name in self.retrievers:
            if self.split.queries == "moments" and name not in READS_HISTORY:
                raise ValueError(
                    f"retriever {name!r} answers words, and with split.queries: moments nobody "
                    "says any; take it from `retrievers`"
                )
        if "sparse" in self.retrievers and not self.encoder.has_sparse:
            raise ValueError(
                f"retriever 'sparse' needs an encoder with lexical weights (encoder.kind: bge_m3), "
                f"and encoder.kind is {self.encoder.kind!r}; take it from `retrievers` or change "
                "the encoder"
            )
        if "multi_vector" in self.retrievers and not self.encoder.multi_vector:
            raise ValueError(
                "retriever 'multi_vector' needs vectors of tokens, and encoder.multi_vector is "
                "false; set it, with encoder.kind: bge_m3, or take the retriever from `retrievers`"
            )
        if (
            self.ingest.source == "interactions"
            and self.ingest.interactions.columns.time is None
            and self.split.method != "leave_last_out"
        ):
            raise ValueError(
                "ingest.interactions.columns.time is null, and without times there is no cut in "
                "time: split.method must be leave_last_out, which holds out by user"
            )
        shops = self.ingest.hm_retailrocket.parts
        strange = set(self.fit.popular.segments) - {"category", "part"}
        if self.ingest.source == "hm_retailrocket" and shops == "retailrocket" and strange:
            raise ValueError(
                f"fit.popular.segments names {', '.join(sorted(strange))}, and RetailRocket says "
                "nothing of its visitors; take [category]"
            )
        if self.bundle.ranker != "best" and self.bundle.ranker not in self.rankers:
            raise ValueError(
                f"bundle.ranker is {self.bundle.ranker!r}, which is not in rankers {self.rankers}"
            )
        return self


def load_params(path: Path) -> Params:
    """Read and validate a params file.

    Raises:
        UserError: the file is missing or not YAML, or parameters are wrong; each is named with
            what was expected.
    """
    import yaml

    if not path.exists():
        raise UserError(f"{path}: no such file; start from one of recipes/")
    try:
        raw: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {error}") from error
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        wrong = "; ".join(_sentence(problem) for problem in error.errors())
        raise UserError(f"{path}: {wrong}") from error


def _sentence(problem: Any) -> str:
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"{where} is no parameter"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message
