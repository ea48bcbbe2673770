"""What all retrievers share that compare an encoder's outputs of a query with those of items."""

from abc import ABC, abstractmethod
from copy import copy
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeVar

import numpy as np
import polars as pl

from stages.core.log import UserError
from stages.core.params import RetrieverName, Section
from stages.core.storage import read_json, write_json
from stages.core.tables import CANDIDATES
from stages.encode.encoders import CachedEncoder, Encoded
from stages.retrieve.retrievers.base import TrainingData, candidates_frame

_MADE_WITH = {"sparse": "encoder.kind: bge_m3", "multi_vector": "encoder.multi_vector: true"}
"""What makes an output that not every encoder gives."""


class Index(Protocol):
    """Outputs of an encoder for items, a row an item, laid out for search."""

    @classmethod
    def of(cls, *columns: Any, **_: Any) -> Self:
        """Lay out columns of the embeddings, as many as it is made of."""
        ...

    def only(self, mine: np.ndarray) -> Self:
        """Return the index of some items, a mask."""
        ...

    def save(self, folder: Path) -> None:
        """Write what `load` needs into an existing folder."""
        ...

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        ...


Parameters = TypeVar("Parameters", bound=Section)
Layout = TypeVar("Layout", bound=Index)


class EncodedRetriever(ABC, Generic[Parameters, Layout]):
    """Encodes queries and looks for the items that are like them; it is `Restrictable`.

    A subclass says which outputs it compares, how they are laid out, and how to search.

    Attributes:
        name: the retriever's.
        reads: columns of the embeddings, as the index takes them.
    """

    name: RetrieverName
    reads: tuple[str, ...]
    _section: type[Parameters]
    _layout: type[Layout]
    _encoder: CachedEncoder
    _index: Layout

    def __init__(self, params: Parameters, seed: int = 0) -> None:
        self._params = params
        self._item_ids = pl.Series("item_id", [], dtype=pl.String)
        self._model_hash = ""

    @abstractmethod
    def _find(self, encoded: Encoded, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return rows of items, best first, ties by row, their scores, and which of them to keep.

        Args:
            encoded: one query or more.
            k: items a query.
        """

    def fit(self, data: TrainingData) -> None:
        """Take the window's vectors and weights as they are.

        Raises:
            UserError: there are none, or not all that are compared.
        """
        if data.embeddings is None or data.encoder is None:
            raise UserError(f"retriever {self.name} needs embeddings and their encoder")
        missing = [column for column in self.reads if column not in data.embeddings.columns]
        if missing:
            remedy = " and ".join(_MADE_WITH[column] for column in missing)
            raise UserError(
                f"retriever {self.name}: the embeddings carry no {' and no '.join(missing)}; "
                f"set {remedy}"
            )
        self._encoder = data.encoder
        self._item_ids = data.embeddings["item_id"]
        self._model_hash = next(iter(data.embeddings["model_hash"]), "")
        self._index = self._layout.of(*(data.embeddings[column] for column in self.reads))

    def retrieve(self, queries: pl.DataFrame, k: int) -> pl.DataFrame:
        """Encode the queries and search; see `Retriever`."""
        asked = queries.filter(pl.col("text").is_not_null())
        if asked.is_empty() or self._item_ids.is_empty():
            return pl.DataFrame(schema=CANDIDATES.columns)
        multi = "multi_vector" in self.reads
        encoded = self._encoder.encode(asked["text"].to_list(), "query", multi=multi)
        items, scores, keep = self._find(encoded, k)
        return candidates_frame(self.name, asked["query_id"], items, scores, self._item_ids, keep)

    def only(self, item_ids: pl.Series) -> Self:
        """See `Restrictable`."""
        mine = self._item_ids.is_in(item_ids.implode())
        made = copy(self)
        made._item_ids = self._item_ids.filter(mine)
        made._index = self._index.only(mine.to_numpy())
        return made

    def save(self, folder: Path) -> None:
        """Write the index, the items and the hash of the encoder."""
        self._index.save(folder)
        pl.DataFrame(self._item_ids).write_parquet(folder / "items.parquet")
        about = {"model_hash": self._model_hash, "params": self._params.model_dump()}
        write_json(folder / "retriever.json", about | {"name": self.name})

    @classmethod
    def load(cls, folder: Path, store: Path | None = None) -> Self:
        """Read a fitted retriever; its encoder lies beside the folder.

        Raises:
            UserError: that encoder is not the one that made what the index holds.
        """
        about = read_json(folder / "retriever.json")
        made = cls(cls._section.model_validate(about["params"]))
        made._item_ids = pl.read_parquet(folder / "items.parquet")["item_id"]
        made._index = cls._layout.load(folder)
        made._model_hash = about["model_hash"]
        made._encoder = CachedEncoder(folder.parent / "encoder", store)
        given = made._encoder.model.model_hash
        if made._model_hash not in ("", given):
            raise UserError(
                f"{folder}: vectors were made by model {made._model_hash}, the encoder beside them "
                f"is {given}; run `dvc repro` to make them again"
            )
        return made
