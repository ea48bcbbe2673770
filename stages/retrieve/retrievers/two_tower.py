"""Two towers: a vector of who asks and one of an item, made of what is known of either.

Huang et al., Learning Deep Structured Semantic Models for Web Search using Clickthrough Data,
CIKM 2013; trained as Yi et al. do, RecSys 2019.
"""

from copy import copy
from pathlib import Path
from typing import Self

import numpy as np
import polars as pl
import torch
from torch import Tensor

from stages.core import files
from stages.core.checkpoints import TWO_TOWER
from stages.core.determinism import seed_everything, torch_device
from stages.core.log import UserError
from stages.core.pairs import sorted_rows_of
from stages.core.params import TwoTower
from stages.core.search import FlatIndex
from stages.core.storage import read_json, write_json
from stages.retrieve.retrievers.base import TrainingData, candidates_frame
from stages.retrieve.retrievers.history import (
    KnowsItems,
    in_chunks,
    past_items,
    search_without_past,
)
from stages.retrieve.retrievers.towers.bags import Bags
from stages.retrieve.retrievers.towers.examples import recency_weights
from stages.retrieve.retrievers.towers.lesson import bags_of, lesson_of
from stages.retrieve.retrievers.towers.model import Towers, pooled
from stages.retrieve.retrievers.towers.shown import PASSED_OVER
from stages.retrieve.retrievers.towers.training import encoded, train

_CHUNK = 4096
"""Queries that are answered at once."""
_CURVE = {"epoch": pl.Int64, "step": pl.Int64, "loss": pl.Float64, "mrr": pl.Float64}


class TwoTowerRetriever(KnowsItems):
    """Cosines of a query's vector with those of the catalogue's items, sold or new.

    An item of which nothing is said and that nobody chose in the window is not there yet.

    What is known of an item are its categories, brand, price and the attributes of its source, and
    the vectors of its text and picture where it has them; of a user, attributes and the newest
    items of the history. Who is not known by id is known by the history, and who has none is
    answered as those were who began. Scores do not depend on how many are asked at once: vectors
    are made in float64.
    """

    def __init__(self, params: TwoTower, seed: int = 0, store: Path = files.STORE) -> None:
        """Take the parameters.

        Args:
            params: the retriever's.
            seed: decides weights, order and negatives.
            store: where checkpoints are kept while it learns.
        """
        self._params, self._seed, self._store = params, seed, store
        self._curve: list[dict[str, float]] = []
        self._slots = pl.DataFrame()
        self._item_ids, self._user_ids = pl.Series(dtype=pl.String), pl.Series(dtype=pl.String)
        self._events = np.empty(0, np.int64)
        self._passed_over = pl.DataFrame(schema=PASSED_OVER)

    def fit(self, data: TrainingData) -> None:
        """Learn from the window's events, then encode the catalogue.

        Raises:
            UserError: there are no events, or nothing is known of items.
        """
        if data.events is None:
            raise UserError("retriever two_tower needs events")
        seed_everything(self._seed)
        known = lesson_of(data, data.events, self._params)
        self._user_ids, self._slots = known.user_ids, known.slots
        lesson = known.lesson
        self._events, self._passed_over = lesson.events(), known.passed_over()
        told = torch.from_numpy(self._events > 0) | lesson.told()
        self._item_ids = known.item_ids.filter(pl.Series(told.numpy()))
        self._events = self._events[told.numpy()]
        towers, self._curve = train(
            lesson, self._params, self._seed, torch_device(), self._store / TWO_TOWER
        )
        towers = towers.double()
        inputs, vectors = encoded(towers, lesson, told.nonzero()[:, 0])
        self._hold(towers, lesson.users, inputs.float(), vectors.float().numpy())

    def retrieve(self, queries: pl.DataFrame, k: int) -> pl.DataFrame:
        """Encode who asks and search; see `Retriever`."""
        return pl.concat(self._answer(part, k) for part in in_chunks(queries, _CHUNK))

    def only(self, item_ids: pl.Series) -> Self:
        """See `Restrictable`."""
        mine = self._item_ids.is_in(item_ids.implode())
        made, rows = copy(self), mine.to_numpy()
        made._item_ids, made._events = self._item_ids.filter(mine), self._events[rows]
        of_mine = pl.col("item_id").is_in(item_ids.implode())
        made._passed_over = self._passed_over.filter(of_mine)
        made._hold(
            self._towers, self._users, self._inputs[torch.from_numpy(rows)], self._vectors[rows]
        )
        return made

    def save(self, folder: Path) -> None:
        """Write weights, slots, users, items with their vectors and events, and the curve.

        By the number of its events an item is drawn as a negative; as passed over it is drawn for
        those users of whom `shown.parquet` holds the number and a digest.
        """
        state = {name: weights.float() for name, weights in self._towers.state_dict().items()}
        np.savez(folder / "towers.npz", **{name: state[name].numpy() for name in state})
        np.save(folder / "inputs.npy", self._inputs.numpy())
        np.save(folder / "vectors.npy", self._vectors)
        self._slots.write_parquet(folder / "slots.parquet")
        drawn = {"item_id": self._item_ids, "events": self._events}
        pl.DataFrame(drawn).write_parquet(folder / "items.parquet")
        self._passed_over.write_parquet(folder / "shown.parquet")
        self._known_users().write_parquet(folder / "users.parquet")
        pl.DataFrame(self._curve, _CURVE).write_csv(folder / "curve.csv", float_precision=6)
        write_json(folder / "retriever.json", {"params": self._params.model_dump()})

    @classmethod
    def load(cls, folder: Path, store: Path | None = None) -> Self:
        """Read a fitted retriever; it needs no encoder."""
        made = cls(TwoTower.model_validate(read_json(folder / "retriever.json")["params"]))
        made._slots = pl.read_parquet(folder / "slots.parquet")
        items = pl.read_parquet(folder / "items.parquet")
        made._item_ids, made._events = items["item_id"], items["events"].to_numpy()
        made._passed_over = pl.read_parquet(folder / "shown.parquet")
        made._curve = pl.read_csv(folder / "curve.csv", schema=_CURVE).to_dicts()
        users = pl.read_parquet(folder / "users.parquet")
        made._user_ids = users["user_id"].drop_nulls()
        entries = users.with_row_index("row").explode("slot", "weight", empty_as_null=False)
        with np.load(folder / "towers.npz") as weights:
            state = {name: torch.from_numpy(weights[name]) for name in weights.files}
        widths = [len(state[name]) for name in state if name.startswith("vectors.")]
        params = made._params
        towers = Towers(len(state["slots"]), widths, params.dim, params.hidden)
        towers.load_state_dict(state)
        inputs = torch.from_numpy(np.load(folder / "inputs.npy"))
        vectors = np.load(folder / "vectors.npy")
        made._hold(towers.double(), bags_of(entries, users.height), inputs, vectors)
        return made

    def _hold(self, towers: Towers, users: Bags, inputs: Tensor, vectors: np.ndarray) -> None:
        self._towers, self._users, self._inputs, self._vectors = towers, users, inputs, vectors
        self._index = FlatIndex(vectors)

    def _known_users(self) -> pl.DataFrame:
        """Slots and weights of each user, and at last, without an id, those of who is not known.

        Where users have no attributes, nobody differs from who is not known.
        """
        bags = self._users
        lengths = (bags.end - bags.begin).numpy()
        entries = pl.DataFrame(
            {
                "row": np.repeat(np.arange(len(lengths)), lengths),
                "slot": bags.entries.numpy(),
                "weight": bags.weights.numpy(),
            }
        )
        lists = entries.group_by("row", maintain_order=True).agg("slot", "weight")
        ids = pl.DataFrame({"user_id": self._user_ids.extend_constant(None, 1)})
        users = (
            ids.with_columns(row=pl.int_range(pl.len()))
            .join(lists, on="row", how="left", maintain_order="left")
            .select("user_id", pl.col("slot", "weight").fill_null([]))
        )
        return users if entries.height else users.tail(1)

    def _answer(self, queries: pl.DataFrame, k: int) -> pl.DataFrame:
        past = past_items(queries, self._item_ids)
        users = self._user_vectors(queries["user_id"], past)
        own = past.clear() if self._params.repeat else past.unique(["query", "item"])
        items, scores, keep = search_without_past(self._index.search, users, own, k)
        return candidates_frame(
            "two_tower", queries["query_id"], items, scores, self._item_ids, keep
        )

    @torch.inference_mode()
    def _user_vectors(self, user_ids: pl.Series, past: pl.DataFrame) -> np.ndarray:
        """Return vectors of who asks, float32, shape (queries, dim).

        Args:
            user_ids: one a query, null where nobody is known.
            past: what `past_items` returns.
        """
        read = past.group_by("query", maintain_order=True).tail(self._params.max_history)
        # Weights are shares: only how far entries are from each other counts.
        read = read.with_columns(pl.col("steps") - pl.col("steps").min().over("query"))
        columns = (read[name].to_numpy().astype(np.int64) for name in ("query", "item", "steps"))
        query, item, steps = (torch.from_numpy(column) for column in columns)
        lengths = query.bincount(minlength=len(user_ids))
        weights = recency_weights(steps, lengths, self._params.recency)
        used, place = item.unique(return_inverse=True)
        inputs = self._inputs[used].double()
        history = pooled(inputs, place, weights, lengths.cumsum(0) - lengths)
        row = sorted_rows_of(user_ids, self._user_ids)
        rows = torch.from_numpy(np.where(row < 0, len(self._user_ids), row))
        return self._towers.user_vectors(rows, self._users, history).float().numpy()
