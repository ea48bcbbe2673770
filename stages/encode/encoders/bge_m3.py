"""BGE-M3 through FlagEmbedding: dense, sparse and multi-vector output (Chen et al., 2024)."""

from collections.abc import Sequence

import numpy as np

from stages.core.determinism import torch_device
from stages.core.log import UserError
from stages.core.params import Encoder
from stages.encode.encoders.base import Encoded, Kind, tokenizer_settings, weights_hash


class BgeM3Encoder:
    """One forward pass gives a dense vector, lexical weights and, when asked, a vector a token."""

    def __init__(self, params: Encoder) -> None:
        from FlagEmbedding import BGEM3FlagModel

        device = torch_device()
        half = device == "cuda" if params.precision == "auto" else params.precision != "fp32"
        name = params.model or "BAAI/bge-m3"
        try:
            self._model = BGEM3FlagModel(name, use_fp16=half, devices=[device])
        except (OSError, ValueError) as error:
            raise UserError(f"encoder.model {name!r} could not be loaded: {error}") from error
        self._params = params
        module = self._model.model
        self.dimension = int(module.model.config.hidden_size)
        self.model_hash = weights_hash(
            module.state_dict(),
            "bge_m3",
            params.max_query_length,
            params.max_doc_length,
            half,
            params.multi_vector,
            tokenizer_settings(self._model.tokenizer),
        )

    def encode(self, texts: Sequence[str], kind: Kind, fixed_shape: bool = False) -> Encoded:
        """Encode texts. Sparse keys are token ids as text, as FlagEmbedding gives them.

        FlagEmbedding pads batches as it sees fit, so `fixed_shape` cannot be had.
        """
        is_query = kind == "query"
        output = self._model.encode(
            list(texts),
            batch_size=self._params.batch_size,
            max_length=self._params.max_query_length if is_query else self._params.max_doc_length,
            return_dense=True,
            return_sparse=True,
            return_colbert_vecs=self._params.multi_vector,
        )
        dense = np.asarray(output["dense_vecs"], dtype=np.float32)
        dense /= np.maximum(np.linalg.norm(dense, axis=1, keepdims=True), 1e-12)
        sparse = [
            {str(token): float(weight) for token, weight in weights.items()}
            for weights in output["lexical_weights"]
        ]
        multi = output.get("colbert_vecs") if self._params.multi_vector else None
        return Encoded(
            dense, sparse, [np.asarray(m, np.float32) for m in multi] if multi is not None else None
        )
