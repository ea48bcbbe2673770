"""Two towers: a vector of who asks and one of an item, made of what is known of either.

Huang et al., Learning Deep Structured Semantic Models for Web Search using Clickthrough Data,
CIKM 2013; trained as Yi et al. do, RecSys 2019.
"""

from pathlib import Path
from typing import Self

import numpy as np
import polars as pl
import torch
from torch import Tensor

from stages.core import files, tables
from stages.core.determinism import seed_everything, torch_device
from stages.core.log import UserError
from stages.core.params import TwoTower
from stages.core.search import FlatIndex
from stages.core.storage import read_json, write_json
from stages.retrieve.retrievers.base import TrainingData, candidates_frame
from stages.retrieve.retrievers.history import past_items, without_past
from stages.retrieve.retrievers.towers.bags import Bags
from stages.retrieve.retrievers.towers.examples import Examples, recency_weights
from stages.retrieve.retrievers.towers.model import Towers, pooled
from stages.retrieve.retrievers.towers.slots import (
    attributes,
    named,
    slot_map,
    slots_of,
    unknown_slots,
)
from stages.retrieve.retrievers.towers.training import Lesson, encoded, train

_CHUNK = 4096
"""Queries that are answered at once."""
_NO_ATTRIBUTES = set(tables.ITEMS.columns) - {"categories", "brand", "price"}
_NOBODY = {"slot": pl.Int64}
_ONE = pl.lit(1.0, pl.Float32)
_CURVE = {"epoch": pl.Int64, "loss": pl.Float64, "mrr": pl.Float64}


class TwoTowerRetriever:
    """Cosines of a query's vector with those of all items of the catalogue, sold or new.

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

    def fit(self, data: TrainingData) -> None:
        """Learn from the window's events, then encode the catalogue.

        Raises:
            UserError: there are no events, or nothing is known of items.
        """
        if data.events is None:
            raise UserError("retriever two_tower needs events")
        seed_everything(self._seed)
        lesson = self._lesson(data, data.events.select("user_id", "item_id", "timestamp"))
        towers, self._curve = train(
            lesson, self._params, self._seed, torch_device(), self._store / "two_tower"
        )
        towers = towers.double()
        every = torch.arange(len(self._item_ids))
        inputs, vectors = encoded(towers, lesson, every)
        self._hold(towers, lesson.users, inputs.float(), vectors.float().numpy())

    def retrieve(self, queries: pl.DataFrame, k: int) -> pl.DataFrame:
        """Encode who asks and search; see `Retriever`."""
        found = [
            self._answer(queries.slice(start, _CHUNK), k)
            for start in range(0, queries.height, _CHUNK)
        ]
        return pl.concat(found) if found else self._answer(queries, k)

    def save(self, folder: Path) -> None:
        """Write weights, slots, what is known of users, items with their vectors, and the curve."""
        state = {name: weights.float() for name, weights in self._towers.state_dict().items()}
        np.savez(folder / "towers.npz", **{name: state[name].numpy() for name in state})
        np.save(folder / "inputs.npy", self._inputs.numpy())
        np.save(folder / "vectors.npy", self._vectors)
        self._slots.write_parquet(folder / "slots.parquet")
        pl.DataFrame({"item_id": self._item_ids}).write_parquet(folder / "items.parquet")
        self._known_users().write_parquet(folder / "users.parquet")
        pl.DataFrame(self._curve, _CURVE).write_csv(folder / "curve.csv", float_precision=6)
        write_json(folder / "retriever.json", {"params": self._params.model_dump()})

    @classmethod
    def load(cls, folder: Path, store: Path | None = None) -> Self:
        """Read a fitted retriever; it needs no encoder."""
        made = cls(TwoTower.model_validate(read_json(folder / "retriever.json")["params"]))
        made._slots = pl.read_parquet(folder / "slots.parquet")
        made._item_ids = pl.read_parquet(folder / "items.parquet")["item_id"]
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
        made._hold(towers.double(), _bags(entries, users.height), inputs, vectors)
        return made

    def _lesson(self, data: TrainingData, events: pl.DataFrame) -> Lesson:
        """Turn what is known into tensors; hold ids and slots."""
        items = _with_ids(data.items, events["item_id"])
        users = _with_ids(data.users, events["user_id"])
        self._item_ids, self._user_ids = items["item_id"], users["user_id"]
        buckets = self._params.buckets
        of_items = attributes(items, "item_id", "item", _NO_ATTRIBUTES, buckets)
        of_users = attributes(users, "user_id", "user", (), buckets)
        active = self._user_ids.is_in(events["user_id"].unique().implode()).arg_true()
        learned = [of_items, of_users.filter(pl.col("row").is_in(active.implode()))]
        if self._params.item_ids:
            of_items = pl.concat([of_items, named(self._item_ids, "item.item_id")])
            learned.append(named(events["item_id"], "item.item_id"))
        if self._params.user_ids:
            of_users = pl.concat([of_users, named(self._user_ids, "user.user_id")])
            learned.append(named(events["user_id"], "user.user_id"))
        self._slots = slot_map(pl.concat(learned), self._params.min_count)
        vectors = tuple(
            _rows_of(frame, self._item_ids)
            for frame in (data.embeddings, data.pictures)
            if frame is not None and frame.height
        )
        if of_items.is_empty() and not vectors:
            raise UserError(
                "retriever two_tower: nothing is known of items, neither attributes nor texts nor "
                "pictures; set fit.two_tower.item_ids to true or take it from `retrievers`"
            )
        nobody = pl.DataFrame({"slot": unknown_slots(self._slots, "user.")}, _NOBODY)
        nobody = nobody.select(pl.lit(users.height, pl.UInt32).alias("row"), "slot", weight=_ONE)
        of_users = pl.concat([slots_of(of_users, self._slots), nobody])
        item = self._item_ids.search_sorted(events["item_id"]).to_numpy()
        user = self._user_ids.search_sorted(events["user_id"]).to_numpy()
        time = events["timestamp"].dt.epoch("ms").to_numpy()
        return Lesson(
            Examples.of(user, item, time, self._params.max_history),
            _bags(slots_of(of_items, self._slots), items.height),
            _bags(of_users, users.height + 1),
            vectors,
            self._shown(data.impressions, events),
            1 + self._slots.height,
            tuple(unknown_slots(self._slots)),
        )

    def _shown(self, impressions: pl.DataFrame | None, events: pl.DataFrame) -> Bags:
        """What users were shown in the window and neither clicked then nor chose at any time."""
        pairs = {"user_id": pl.String, "item_id": pl.String}
        shown = pl.DataFrame(schema=pairs)
        if impressions is not None and self._params.shown:
            passed_over = ~(pl.col("click") > 0).fill_null(False)
            shown = impressions.filter(passed_over).select(list(pairs)).unique()
        known = shown.join(events, on=list(pairs), how="anti").filter(
            pl.col("user_id").is_in(self._user_ids.implode()),
            pl.col("item_id").is_in(self._item_ids.implode()),
        )
        rows = pl.DataFrame(
            {
                "user": self._user_ids.search_sorted(known["user_id"]),
                "item": self._item_ids.search_sorted(known["item_id"]),
            }
        ).sort("user", "item")
        users = len(self._user_ids) + 1
        return Bags.of(rows["user"].to_numpy(), rows["item"].to_numpy(), users)

    def _hold(self, towers: Towers, users: Bags, inputs: Tensor, vectors: np.ndarray) -> None:
        self._towers, self._users, self._inputs, self._vectors = towers, users, inputs, vectors
        self._index = FlatIndex(vectors)

    def _known_users(self) -> pl.DataFrame:
        """Slots and weights of each user, and at last, without an id, those of who is not known."""
        ids = pl.concat([self._user_ids, pl.Series([None], dtype=pl.String)])
        bags = self._users
        row = np.repeat(np.arange(len(ids)), (bags.end - bags.begin).numpy())
        entries = pl.DataFrame(
            {"row": row, "slot": bags.entries.numpy(), "weight": bags.weights.numpy()}
        )
        lists = entries.group_by("row", maintain_order=True).agg("slot", "weight")
        users = pl.DataFrame({"user_id": ids}).with_row_index("row").cast({"row": pl.Int64})
        users = users.join(lists, on="row", how="left", maintain_order="left").drop("row")
        nobody = pl.col("user_id").is_null()
        return users.filter(pl.col("slot").is_not_null() | nobody).with_columns(
            pl.col("slot", "weight").fill_null([])
        )

    def _answer(self, queries: pl.DataFrame, k: int) -> pl.DataFrame:
        past = past_items(queries, self._item_ids)
        users = self._user_vectors(queries["user_id"], past)
        own = past.clear() if self._params.repeat else past
        longest = int(own.group_by("query").len()["len"].to_numpy().max(initial=0))
        items, scores = self._index.search(users, k + longest)
        items, scores, keep = without_past(items, scores, own, k)
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
        columns = (read[name].to_numpy().astype(np.int64) for name in ("query", "item", "steps"))
        query, item, steps = (torch.from_numpy(column) for column in columns)
        lengths = query.bincount(minlength=len(user_ids))
        weights = recency_weights(steps, lengths, self._params.recency)
        used, place = item.unique(return_inverse=True)
        inputs = self._inputs[used].double()
        history = pooled(inputs, place, weights, lengths.cumsum(0) - lengths)
        row = self._user_ids.search_sorted(user_ids.fill_null(""))
        known = self._user_ids.gather(row, null_on_oob=True) == user_ids
        row = row.set(~known.fill_null(False), len(self._user_ids))
        rows = torch.from_numpy(row.to_numpy().astype(np.int64))
        return self._towers.user_vectors(rows, self._users, history).float().numpy()


def _with_ids(table: pl.DataFrame | None, ids: pl.Series) -> pl.DataFrame:
    """Return a table by its id, with rows of nulls for ids that it lacks."""
    key = ids.name
    rows = pl.DataFrame({key: []}, {key: pl.String}) if table is None else table
    lacking = pl.DataFrame({key: ids.unique()}).join(rows, on=key, how="anti")
    return pl.concat([rows, lacking], how="diagonal").sort(key)


def _rows_of(vectors: pl.DataFrame, item_ids: pl.Series) -> Tensor:
    """Return vectors of items by row, float32; zero for an item that has none."""
    known = vectors.filter(pl.col("item_id").is_in(item_ids.implode()))
    found = np.asarray(known["vector"].to_numpy(), np.float32)
    rows = np.zeros((len(item_ids), found.shape[1]), np.float32)
    rows[item_ids.search_sorted(known["item_id"]).to_numpy()] = found
    return torch.from_numpy(rows)


def _bags(entries: pl.DataFrame, rows: int) -> Bags:
    columns = (entries[name].to_numpy() for name in ("row", "slot", "weight"))
    row, slot, weight = columns
    return Bags.of(row, slot, rows, weight)
