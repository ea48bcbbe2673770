"""Parameters of keywords, summaries, queries and documents, and of the language model."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AnyHttpUrl,
    Field,
    TypeAdapter,
    field_validator,
    model_validator,
)

from stages.core.iso639 import LANGUAGE_NAMES, LanguageCode
from stages.core.params.section import (
    Positive,
    Section,
)


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
    keyword_order: Literal["reviews", "alphabet"] = Field(
        "reviews",
        description="Their order: `reviews`: by rank, so that what is cut off is named least; "
        "`alphabet`: which a review changes more seldom.",
    )
    keyword_window: Literal["own", "fit"] = Field(
        "own",
        description="What names them: `own`: all reviews of a window; `fit`: in window train too "
        "those of window fit, where there are any, so that a review changes one text for two.",
    )
    max_features: Annotated[int, Field(ge=0)] = Field(10, description="Features kept.")
    attributes: list[str] = Field(
        [], description="Columns of items whose values stand before their features."
    )
    reviews: Annotated[int, Field(ge=0)] = Field(
        0, description="Train reviews quoted under [Reviews], newest first; 0 for none."
    )
