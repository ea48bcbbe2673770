"""BGE-M3 through FlagEmbedding: dense, sparse and multi-vector output (Chen et al., 2024)."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from stages.core.determinism import Precision, torch_device
from stages.core.params import Encoder
from stages.encode.encoders.base import (
    Encoded,
    Kind,
    Sparse,
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

HEADS = ("colbert_linear.pt", "sparse_linear.pt")
"""Files of the layers that make vectors a token and lexical weights of the last hidden state."""
_PUBLISHED = "BAAI/bge-m3"


def name_of(params: Encoder) -> str:
    """Return the model's folder as it was given, or its name on the hub."""
    return params.model or _PUBLISHED


def folder_of(params: Encoder) -> Path:
    """Return the folder with the model's files, heads among them.

    FlagEmbedding would draw heads that are missing, and go on.

    Raises:
        UserError: it is nowhere, or files are missing from it.
    """
    return model_folder(name_of(params), "encoder.model", HEADS)


class BgeM3Encoder:
    """One forward pass gives a dense vector, lexical weights and, when asked, a vector a token.

    Model and tokenizer are loaded by FlagEmbedding and its module computes. Its own `encode` pads a
    batch to its longest text, and products of another shape round otherwise; here texts of about
    the same length are batched, so that with a fixed number of rows each has the same bits in
    whatever company.
    """

    def __init__(self, params: Encoder) -> None:
        from FlagEmbedding import BGEM3FlagModel

        on = devices(params.gpus)
        # Published in half precision, which "auto" keeps.
        chosen = params.precision
        half: Precision = "fp16" if torch_device() == "cuda" else "fp32"
        self.precision = precision = half if chosen == "auto" else chosen
        silent_off_terminals()
        folder = folder_of(params)
        with loading(name_of(params), folder, "encoder.model"):
            self._model = BGEM3FlagModel(
                str(folder),
                use_fp16=precision == "fp16",
                use_bf16=precision == "bf16",
                devices=on[:1],
            )
            module = self._model.model.to(on[0]).eval()
        self._copies = Copies(module, on)
        self._params = params
        self.multi_vector = params.multi_vector
        self._positions = position_limit(module.model)
        self._rows = partial(rows_at_once, device=on[0])
        words = self._model.tokenizer
        special = (words.cls_token_id, words.eos_token_id, words.pad_token_id, words.unk_token_id)
        self._unweighed = [token for token in special if token is not None]
        self.dimension = int(module.model.config.hidden_size)
        self.model_hash = weights_hash(
            module.state_dict(),
            "bge_m3",
            params.max_query_length,
            params.max_doc_length,
            precision,
            tokenizer_settings(words),
            SHAPES,
        )

    def encode(
        self, texts: Sequence[str], kind: Kind, fixed_shape: bool = False, multi: bool = False
    ) -> Encoded:
        """Encode texts. Sparse keys are token ids as text, as FlagEmbedding gives them.

        Vectors a token are those of all tokens but the first, [CLS], whose vector is the dense one.
        """
        is_query = kind == "query"
        limit = self._params.max_query_length if is_query else self._params.max_doc_length
        limit = min(limit, self._positions)
        dense = np.empty((len(texts), self.dimension), np.float32)
        sparse: Sparse = [{}] * len(texts)
        multi = multi and self.multi_vector
        vectors = [np.empty((0, self.dimension), np.float16)] * len(texts)
        if not len(texts):
            return Encoded(dense)
        words = self._model.tokenizer
        ids = words(list(texts), truncation=True, max_length=limit)["input_ids"]

        def at_once(length: int) -> int:
            return self._rows(length) if fixed_shape else self._params.batch_size

        batches = by_shape([len(row) for row in ids], limit, at_once)

        def forward(module: Any, batch: tuple[int, list[int]]) -> Encoded:
            length, positions = batch
            rows = filled(positions, self._rows(length)) if fixed_shape else positions
            tokens = np.full((len(rows), length), words.pad_token_id, np.int64)
            for row, position in enumerate(rows):
                tokens[row, : len(ids[position])] = ids[position]
            lengths = np.array([len(ids[position]) for position in rows])
            return self._forward(module, tokens, lengths, len(positions), multi)

        with in_memory(self._params, kind, fixed_shape):
            found = self._copies.map(forward, batches)
        for (_, positions), made in zip(batches, found, strict=True):
            dense[positions] = made.dense
            for row, position in enumerate(positions):
                sparse[position] = made.sparse[row] if made.sparse else {}
                if made.multi is not None:
                    vectors[position] = made.multi[row]
        return Encoded(dense, sparse, vectors if multi else None)

    def _forward(
        self, module: Any, tokens: np.ndarray, lengths: np.ndarray, count: int, multi: bool
    ) -> Encoded:
        """Compute a batch, of which the first `count` rows are asked for."""
        import torch

        device = next(module.parameters()).device
        mask = np.arange(tokens.shape[1]) < lengths[:, None]
        given = {"input_ids": tokens, "attention_mask": mask.astype(np.int64)}
        with torch.inference_mode():
            made = module(
                {name: torch.from_numpy(array).to(device) for name, array in given.items()},
                return_dense=True,
                return_sparse=True,
                return_colbert_vecs=multi,
            )
        dense, weights = (
            made[name][:count].float().cpu() for name in ("dense_vecs", "sparse_vecs")
        )
        dense = dense.numpy()
        dense /= np.maximum(np.linalg.norm(dense, axis=1, keepdims=True), 1e-12)
        weighed = mask[:count] & ~np.isin(tokens[:count], self._unweighed)
        sparse = _lexical(tokens[:count], np.where(weighed, weights.numpy()[..., 0], 0))
        if not multi:
            return Encoded(dense, sparse)
        vectors = made["colbert_vecs"][:count].half().cpu().numpy()
        return Encoded(
            dense,
            sparse,
            [vectors[row, : tokens_read - 1] for row, tokens_read in enumerate(lengths[:count])],
        )


def _lexical(tokens: np.ndarray, weights: np.ndarray) -> Sparse:
    """Give each text its tokens of positive weight, the largest where a token stands twice.

    Args:
        tokens: ids, shape (n, length).
        weights: of the same shape.
    """
    order = np.lexsort((weights, tokens), axis=1)
    tokens = np.take_along_axis(tokens, order, 1)
    weights = np.take_along_axis(weights, order, 1)
    largest = np.diff(tokens, axis=1, append=-1) != 0
    kept = largest & (weights > 0)
    return [
        dict(zip(map(str, ids[keep].tolist()), values[keep].tolist(), strict=True))
        for ids, values, keep in zip(tokens, weights, kept, strict=True)
    ]
