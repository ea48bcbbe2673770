"""Hybrid retrieval by all that BGE-M3 gives (Chen et al., M3-Embedding, 2024, section 3.2)."""

from copy import copy
from pathlib import Path
from typing import Self

import numpy as np
import polars as pl

from stages.core.log import UserError, progress
from stages.core.params import MultiVector
from stages.core.search import FlatIndex
from stages.core.storage import read_json, write_json
from stages.encode.encoders import CachedEncoder, Encoded
from stages.retrieve.retrievers.base import TrainingData, candidates_frame, encoder_beside
from stages.retrieve.retrievers.late_interaction import TokenVectors
from stages.retrieve.retrievers.lexical import LexicalIndex


class MultiVectorRetriever:
    """The best by dense vectors and by lexical weights, scored again with a vector a token.

    The `depth` best of either, k where that is more, are candidates. The score of each is the
    weighted sum of its three: the inner products of the dense vectors and of the lexical weights,
    and the late interaction of the tokens' vectors. All are of the base encoder.
    """

    def __init__(self, params: MultiVector) -> None:
        self._params = params
        self._encoder: CachedEncoder | None = None
        self._item_ids = pl.Series("item_id", [], dtype=pl.String)
        self._model_hash = ""

    def fit(self, data: TrainingData) -> None:
        """Take the window's vectors and weights.

        Raises:
            UserError: the embeddings lack vectors a token, or lexical weights.
        """
        embeddings = data.embeddings
        if embeddings is None or not {"sparse", "multi_vector"} <= set(embeddings.columns):
            raise UserError(
                "retriever multi_vector: the base embeddings carry no vectors a token; set "
                "encoder.multi_vector: true"
            )
        self._encoder = data.encoder
        self._item_ids = embeddings["item_id"]
        hashes = embeddings["model_hash"].to_list()
        self._model_hash = hashes[0] if hashes else ""
        self._hold(embeddings["vector"].to_numpy())
        self._lexical = LexicalIndex.of(embeddings["sparse"])
        self._tokens = TokenVectors.of(embeddings["multi_vector"])

    def retrieve(self, queries: pl.DataFrame, k: int) -> pl.DataFrame:
        """Search twice and score what was found; see `Retriever`."""
        asked = queries.filter(pl.col("text").is_not_null())
        shape = (asked.height, min(k, len(self._item_ids)))
        items, scores = np.zeros(shape, np.int64), np.zeros(shape, np.float32)
        keep = np.zeros(shape, bool)
        if self._encoder is not None and keep.size:
            block, texts = self._params.block, asked["text"].to_list()
            for start in range(0, asked.height, block):
                encoded = self._encoder.encode(texts[start : start + block], "query", multi=True)
                for row, (found, values) in enumerate(self._scored(encoded, k), start):
                    best = np.lexsort((found, -values))[: shape[1]]
                    items[row, : len(best)], scores[row, : len(best)] = found[best], values[best]
                    keep[row, : len(best)] = True
        return candidates_frame(
            "multi_vector", asked["query_id"], items, scores, self._item_ids, keep
        )

    def only(self, item_ids: pl.Series) -> Self:
        """See `Restrictable`."""
        mine = self._item_ids.is_in(item_ids.implode())
        made = copy(self)
        made._item_ids = self._item_ids.filter(mine)
        made._hold(self._vectors[mine.to_numpy()])
        made._lexical = self._lexical.only(mine.to_numpy())
        made._tokens = self._tokens.only(mine.to_numpy())
        return made

    def save(self, folder: Path) -> None:
        """Write vectors and weights of all three kinds, the items and the encoder's hash."""
        np.save(folder / "vectors.npy", self._vectors)
        self._lexical.save(folder)
        self._tokens.save(folder)
        pl.DataFrame(self._item_ids).write_parquet(folder / "items.parquet")
        about = {"model_hash": self._model_hash, "params": self._params.model_dump()}
        write_json(folder / "retriever.json", about)

    @classmethod
    def load(cls, folder: Path, store: Path | None = None) -> Self:
        """Read a fitted retriever.

        Raises:
            UserError: the encoder beside the folder is not the one that made the vectors.
        """
        about = read_json(folder / "retriever.json")
        made = cls(MultiVector.model_validate(about["params"]))
        made._model_hash = about["model_hash"]
        made._encoder = encoder_beside(folder, made._model_hash, store)
        made._item_ids = pl.read_parquet(folder / "items.parquet")["item_id"]
        made._hold(np.load(folder / "vectors.npy"))
        made._lexical = LexicalIndex.load(folder)
        made._tokens = TokenVectors.load(folder)
        return made

    def _hold(self, vectors: np.ndarray) -> None:
        self._vectors = vectors
        self._index = FlatIndex(vectors)

    def _scored(self, encoded: Encoded, k: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return for each query k candidates or more, ascending rows, and their float32 scores."""
        depth, block, weights = max(self._params.depth, k), self._params.block, self._params.weights
        lexical = self._lexical.queries(encoded.sparse or [])
        near, _ = self._index.search(encoded.dense, depth, block)
        sharing, shared = self._lexical.search(lexical, depth, block)
        made = []
        tokens = encoded.multi or []
        for row in progress(range(len(near)), desc="multi_vector", unit="query", leave=False):
            items = np.union1d(near[row], sharing[row][shared[row] > 0])
            dense = self._vectors[items].astype(np.float64) @ encoded.dense[row].astype(np.float64)
            score = (
                weights.dense * dense
                + weights.sparse * self._lexical.scores(lexical, np.full(len(items), row), items)
                + weights.multi_vector * self._tokens.max_sim(tokens[row], items)
            )
            made.append((items, score.astype(np.float32)))
        return made
