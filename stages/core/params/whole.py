"""The whole of `params.yaml`: what must fit together, and how a file is read."""

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    Field,
    ValidationError,
    model_validator,
)

from stages.core.log import UserError
from stages.core.params.encode import Embed, Encoder, Finetune, Pairs, Pictures
from stages.core.params.enrich import Documents, Keywords, Llm, Queries, Summaries
from stages.core.params.evaluate import Audit, Evaluate, Report
from stages.core.params.prepare import (
    Ingest,
    Split,
)
from stages.core.params.publish import Bundle
from stages.core.params.rank import Examples, Train
from stages.core.params.retrieve import (
    Blend,
    Candidates,
    Fit,
)
from stages.core.params.section import (
    ENCODER_OF,
    READS_HISTORY,
    RankerName,
    RetrieverName,
    Section,
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
        if self.blend.weights is not None:
            named, due = set(self.blend.weights), {str(name) for name in self.retrievers}
            wrong = [
                f"{what}: {', '.join(sorted(names))}"
                for what, names in (
                    ("not among them", named - due),
                    ("without a weight", due - named),
                )
                if names
            ]
            if wrong:
                raise ValueError(
                    "blend.weights must name all of `retrievers` and nothing else; "
                    f"{', '.join(wrong)}"
                )
        self._refuse_without_encoder()
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

    def _refuse_without_encoder(self) -> None:
        if self.encoder.kind != "none":
            return
        wants = [f"retriever {name!r}" for name in self.retrievers if name in ENCODER_OF]
        wants += ["finetune.enabled: true"] if self.finetune.enabled else []
        wants += ["pairs.format: triplet"] if self.pairs.format == "triplet" else []
        if wants:
            raise ValueError(
                f"encoder.kind is none, and {wants[0]} needs an encoder; name one (encoder.kind: "
                "minilm) or do without"
            )


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
