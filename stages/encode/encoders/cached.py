"""An encoder opened from its description, with every vector kept by its model and text."""

import struct
import threading
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from stages.core.log import UserError, get_logger, progress
from stages.core.params import Encoder
from stages.core.storage import read_json, write_json
from stages.core.store import Store, content_hash
from stages.encode.encoders.base import Encoded, Kind, Sparse, TextEncoder

log = get_logger(__name__)

DESCRIPTION = "encoder.json"
_FLUSH = 1024
"""Texts encoded between two commits to the store."""
_HEAD = struct.Struct("<iii")
"""Lexical weights, or -1 for none at all; bytes of their tokens; -1."""


def describe(folder: Path, params: Encoder, encoder: TextEncoder, **told: str) -> None:
    """Write what `load_encoder` opens a folder from; a model of "." is the folder itself.

    Args:
        folder: an existing one.
        params: of the encoder.
        encoder: it, opened; its precision is written down, so that "auto" is the same everywhere.
        told: what a reader of the file shall know.
    """
    settings = params.model_dump(mode="json") | {"precision": encoder.precision}
    about = {"params": settings, "model_hash": encoder.model_hash, **told}
    write_json(folder / DESCRIPTION, about)


def describe_none(folder: Path, params: Encoder) -> None:
    """Write that there is no encoder here."""
    write_json(folder / DESCRIPTION, {"params": params.model_dump(mode="json"), "model_hash": ""})


def is_described(folder: Path) -> bool:
    """Whether a folder with a description holds an encoder, and not that there is none."""
    return bool(_read_description(folder)["model_hash"])


def load_encoder(source: Encoder | Path) -> TextEncoder:
    """Load the encoder that parameters name, or that a folder with a description holds.

    Raises:
        UserError: the folder holds none, the model cannot be loaded, or its weights are not those
            that were described.
    """
    expected = None
    if isinstance(source, Path):
        about = _read_description(source)
        expected = about["model_hash"]
        described = Encoder.model_validate(about["params"])
        here = str(source) if described.model == "." else described.model
        source = described.model_copy(update={"model": here})
    if source.kind == "none":
        raise UserError("encoder.kind is none, and a text is to be encoded; name an encoder")
    if source.kind == "bge_m3":
        from stages.encode.encoders.bge_m3 import BgeM3Encoder

        encoder: TextEncoder = BgeM3Encoder(source)
    else:
        from stages.encode.encoders.sentence_transformers import SentenceTransformersEncoder

        encoder = SentenceTransformersEncoder(source)
    if expected is not None and encoder.model_hash != expected:
        raise UserError(
            f"encoder {source.model or source.kind}: its weights or settings changed since they "
            f"were described ({expected}, now {encoder.model_hash}); run `dvc repro`"
        )
    return encoder


def _read_description(folder: Path) -> dict[str, Any]:
    if not (folder / DESCRIPTION).exists():
        raise UserError(f"{folder} holds no {DESCRIPTION}; run `dvc repro base finetune`")
    about: dict[str, Any] = read_json(folder / DESCRIPTION)
    return about


class CachedEncoder:
    """An encoder whose vectors are kept by model and text; the model itself is loaded when needed.

    Args:
        source: parameters, a folder with a description, or an encoder that is open.
        store: SQLite file in which vectors are kept; None keeps none, as in a service.
    """

    def __init__(self, source: Encoder | Path | TextEncoder, store: Path | None = None) -> None:
        self._source = source
        self._store = store
        self._lock = threading.Lock()
        self._opened: TextEncoder | None = None

    @property
    def model(self) -> TextEncoder:
        """The encoder, loaded once."""
        with self._lock:
            if self._opened is None:
                source = self._source
                self._opened = (
                    load_encoder(source) if isinstance(source, Encoder | Path) else source
                )
            return self._opened

    def encode(self, texts: Sequence[str], kind: Kind, multi: bool = False) -> Encoded:
        """Encode texts, asking the model only for those whose vectors the store lacks.

        New texts are encoded longest first, so that a batch pads little, and in batches of a fixed
        shape, so that a vector has the same bits whichever texts were kept before. Without a store
        a shape is what its texts need, so that a service computes one row for one query, and a
        vector may differ from a kept one: by under 1e-6 in float32, up to 1e-3 in half.

        Args:
            texts: what is encoded.
            kind: how they are read.
            multi: give vectors a token too, where the encoder has them. They are kept under a key
                of their own, so that only texts of which they were asked cost their room.
        """
        encoder = self.model
        multi = multi and encoder.multi_vector
        if not texts:
            return Encoded(np.empty((0, encoder.dimension), np.float32))
        if self._store is None:
            with self._lock:
                return encoder.encode(texts, kind, multi=multi)
        outputs: list[list[str]] = [[], ["multi"]] if multi else [[]]
        keys = {
            text: [content_hash(encoder.model_hash, kind, text, *output) for output in outputs]
            for text in texts
        }
        with Store(self._store) as store:
            known = store.get_many(chain.from_iterable(keys.values()))
            missing = sorted(
                (text for text, mine in keys.items() if not known.keys() >= set(mine)),
                key=lambda text: (-len(text), text),
            )
            with progress(total=len(missing), desc="encode", unit="text") as bar:
                for start in range(0, len(missing), _FLUSH):
                    chunk = missing[start : start + _FLUSH]
                    encoded = encoder.encode(chunk, kind, fixed_shape=True, multi=multi)
                    new = {
                        key: value
                        for row, text in enumerate(chunk)
                        for key, value in zip(keys[text], _pack(encoded, row), strict=True)
                        if key not in known
                    }
                    store.put_many(new, f"{kind} vectors of {encoder.model_hash[:8]}")
                    known.update(new)
                    bar.update(len(chunk))
        log.info("%d %s texts: %d encoded, the rest kept", len(texts), kind, len(missing))
        rows = _unpack([known[keys[text][0]] for text in texts], encoder.dimension)
        if not multi:
            return rows
        vectors = [np.frombuffer(known[keys[text][1]], "<f2") for text in texts]
        return replace(rows, multi=[flat.reshape(-1, encoder.dimension) for flat in vectors])

    def encode_documents(self, texts: Sequence[str], multi: bool = False) -> Encoded:
        """Encode documents, each the normalised mean of its lines' vectors.

        A line is a passage: the item's own parts are the first, each quoted review is one more. The
        mean of passages is the class prototype of Snell et al. (2017); it reads all of a long
        document where one pass would cut it, keeps one vector an item, and a new review costs one
        passage. Lexical weights are the largest over the passages; vectors a token, where they are
        asked for, are those of the first line, and of no other line are they made.
        """
        lines = [text.split("\n") for text in texts]
        unique = sorted({line for document in lines for line in document})
        place = {line: row for row, line in enumerate(unique)}
        # First, so that the store gives the other outputs of these lines.
        first = None
        if multi and self.model.multi_vector:
            first = self.encode([d[0] for d in lines], "document", multi=True).multi
        encoded = self.encode(unique, "document")
        flat = np.array([place[line] for document in lines for line in document], dtype=np.int64)
        starts = np.concatenate([[0], np.cumsum([len(document) for document in lines])[:-1]])
        if not len(texts):
            return encoded
        dense = np.add.reduceat(encoded.dense[flat], starts.astype(int), axis=0, dtype=np.float64)
        dense /= np.maximum(np.linalg.norm(dense, axis=1, keepdims=True), 1e-12)
        sparse = encoded.sparse and [
            _largest([encoded.sparse[place[ln]] for ln in d]) for d in lines
        ]
        return Encoded(dense.astype(np.float32), sparse or None, first)


def _largest(passages: Sparse) -> dict[str, float]:
    weights: dict[str, float] = {}
    for passage in passages:
        for token, weight in passage.items():
            weights[token] = max(weight, weights.get(token, 0.0))
    return weights


def _pack(encoded: Encoded, row: int) -> list[bytes]:
    """Dense and, where present, sparse tokens and weights; apart the vectors a token, if any."""
    sparse = encoded.sparse[row] if encoded.sparse is not None else None
    tokens = " ".join(sparse).encode() if sparse is not None else b""
    head = _HEAD.pack(-1 if sparse is None else len(sparse), len(tokens), -1)
    body = encoded.dense[row].astype("<f4").tobytes() + tokens
    if sparse is not None:
        body += np.array(list(sparse.values()), "<f4").tobytes()
    if encoded.multi is None:
        return [head + body]
    return [head + body, encoded.multi[row].astype("<f2").tobytes()]


def _unpack(values: Sequence[bytes], dimension: int) -> Encoded:
    dense = np.empty((len(values), dimension), np.float32)
    packed = np.dtype([("head", f"V{_HEAD.size}"), ("dense", "<f4", (dimension,))])
    dense_only = _HEAD.pack(-1, 0, -1)
    if all(len(value) == packed.itemsize and value.startswith(dense_only) for value in values):
        for start in range(0, len(values), _FLUSH):
            part = values[start : start + _FLUSH]
            dense[start : start + len(part)] = np.frombuffer(b"".join(part), packed)["dense"]
        return Encoded(dense)
    sparse: Sparse = []
    for row, value in enumerate(values):
        count, token_bytes, _ = _HEAD.unpack_from(value)
        at = _HEAD.size
        dense[row] = np.frombuffer(value, "<f4", dimension, at)
        at += 4 * dimension
        if count >= 0:
            tokens = value[at : at + token_bytes].decode().split()
            weights = np.frombuffer(value, "<f4", count, at + token_bytes)
            sparse.append(dict(zip(tokens, weights.tolist(), strict=True)))
    return Encoded(dense, sparse or None)
