"""What every text encoder does."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from stages.core.determinism import Precision
from stages.core.store import content_hash

Kind = Literal["query", "document"]
Sparse = list[dict[str, float]]


@dataclass(frozen=True)
class Encoded:
    """The vectors of n texts.

    Attributes:
        dense: float32, shape (n, dimension), rows of length 1.
        sparse: token to weight for each text, where the encoder has lexical weights.
        multi: float16 arrays of shape (tokens, dimension), rows of length 1, where asked for of an
            encoder that has them.
    """

    dense: np.ndarray
    sparse: Sparse | None = None
    multi: list[np.ndarray] | None = None


class TextEncoder(Protocol):
    """A model that gives texts vectors; queries and documents may be read differently."""

    @property
    def model_hash(self) -> str:
        """Hash of the weights and of every setting that changes a vector."""
        ...

    @property
    def dimension(self) -> int:
        """Length of a dense vector."""
        ...

    @property
    def precision(self) -> Precision:
        """What it computes in: a description says it, for "auto" means another elsewhere."""
        ...

    @property
    def multi_vector(self) -> bool:
        """Whether it gives vectors a token when asked."""
        ...

    def encode(
        self, texts: Sequence[str], kind: Kind, fixed_shape: bool = False, multi: bool = False
    ) -> Encoded:
        """Encode texts in the order given.

        Args:
            texts: what is encoded.
            kind: how they are read.
            fixed_shape: give each text the same bits whatever other texts are encoded with it, at
                the price of filling up batches; for vectors that are kept.
            multi: give vectors a token too, where it has them; the other outputs stay the same.
        """
        ...


def position_limit(transformer: Any) -> int:
    """Return how many tokens a model of transformers has positions for; 512 where it says nothing.

    RoBERTa and its kin number positions from their padding index on, and have so many fewer.
    """
    config = getattr(transformer, "config", None)
    positions = getattr(config, "max_position_embeddings", None) or 512
    table = getattr(getattr(transformer, "embeddings", None), "position_embeddings", None)
    padding = getattr(table, "padding_idx", None)
    return int(positions - (0 if padding is None else padding + 1))


def tokenizer_settings(tokenizer: Any) -> str:
    """Return how a tokenizer splits texts, as JSON: its limits, which every call sets, left out.

    Args:
        tokenizer: of transformers, or of the library tokenizers; of one written in Python, which
            cannot be described, the vocabulary.
    """
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if not hasattr(backend, "to_str"):
        return json.dumps(tokenizer.get_vocab(), sort_keys=True)
    settings = json.loads(backend.to_str())
    del settings["truncation"], settings["padding"]
    return json.dumps(settings, sort_keys=True)


def weights_hash(state: dict[str, object], *settings: object) -> str:
    """Return the hash of a torch state dict and of settings, equal on every machine."""
    import hashlib

    import torch

    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(state):
        tensor = state[name]
        if isinstance(tensor, torch.Tensor):
            digest.update(name.encode())
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            digest.update(flat.view(torch.uint8).numpy().data)
    return content_hash(digest.hexdigest(), *settings)
