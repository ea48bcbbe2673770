"""Parameters of the encoders of texts and pictures, and of tuning."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from stages.core.params.section import Positive, Section


class Encoder(Section):
    """The base text encoder."""

    kind: Literal["minilm", "sentence_transformers", "bge_m3", "none"] = Field(
        "minilm",
        description="minilm: the packaged all-MiniLM-L6-v2; bge_m3: FlagEmbedding; or any other; "
        "none: texts are not encoded, as of a log without words.",
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
