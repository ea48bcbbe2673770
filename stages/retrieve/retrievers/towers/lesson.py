"""What one window knows, as the tensors that towers learn from."""

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import torch
from torch import Tensor

from stages.core import tables
from stages.core.log import UserError
from stages.core.params import TwoTower
from stages.core.store import content_hash
from stages.retrieve.retrievers.base import TrainingData
from stages.retrieve.retrievers.description import reduced, whitened
from stages.retrieve.retrievers.towers.bags import Bags
from stages.retrieve.retrievers.towers.examples import Examples
from stages.retrieve.retrievers.towers.shown import users_of_items
from stages.retrieve.retrievers.towers.slots import (
    attributes,
    named,
    slot_map,
    slots_of,
    unknown_slots,
)

_NO_ATTRIBUTES = set(tables.ITEMS.columns) - {"categories", "brand", "price"}
_WHITENING = 0.5
"""How far the directions of vectors are evened out; see `whitened`."""
_ITEM_ID, _USER_ID = "item.item_id", "user.user_id"


@dataclass(frozen=True)
class Lesson:
    """All that towers learn from, as tensors.

    Attributes:
        examples: the window's events.
        items: slots of every item.
        users: slots of every user.
        vectors: texts' and pictures' of every item, each of shape (items, up to `dim`).
        shown: items that a user was shown in the window and did not click.
        slots: how many there are, padding included.
        unknown: those of the unknown.
        ids: which slots are ids, bool, shape (slots,).
    """

    examples: Examples
    items: Bags
    users: Bags
    vectors: tuple[Tensor, ...]
    shown: Bags
    slots: int
    unknown: tuple[int, ...]
    ids: Tensor

    def to(self, device: str) -> "Lesson":
        """Return the same on another device."""
        return replace(
            self,
            examples=self.examples.to(device),
            items=self.items.to(device),
            users=self.users.to(device),
            vectors=tuple(of_items.to(device) for of_items in self.vectors),
            shown=self.shown.to(device),
            ids=self.ids.to(device),
        )

    def events(self) -> np.ndarray:
        """Return how many events of the window each item has, by which negatives are drawn."""
        return np.bincount(self.examples.item.numpy(), minlength=len(self.items.begin))

    def told(self) -> Tensor:
        """Return of which items anything is said, an attribute or a vector, bool."""
        said = self.items.end > self.items.begin
        for of_items in self.vectors:
            said = said | (of_items != 0).any(dim=1)
        return said

    def identity(self, params: TwoTower, seed: int) -> str:
        """Return a hash of everything that decides the weights, but for the machine."""
        digest = hashlib.blake2b(digest_size=16)
        parts = [self.examples, self.items, self.users, self.shown]
        tensors = [tensor for part in parts for tensor in vars(part).values()]
        for tensor in [*tensors, *self.vectors, self.ids]:
            digest.update(tensor.numpy().tobytes())
        sizes = [self.slots, *self.unknown, *(len(of_items) for of_items in self.vectors)]
        return content_hash(digest.hexdigest(), sizes, params.model_dump(), seed)


@dataclass(frozen=True)
class Known:
    """A lesson and what its rows are called.

    Attributes:
        item_ids: of the catalogue and the events, sorted; a row of the lesson each.
        user_ids: of the users table and the events, sorted; behind theirs the lesson has a row for
            who is not known.
        slots: the slot map.
        lesson: all else.
    """

    item_ids: pl.Series
    user_ids: pl.Series
    slots: pl.DataFrame
    lesson: Lesson

    def passed_over(self) -> pl.DataFrame:
        """Return what `users_of_items` does of all that is drawn from as shown and not clicked."""
        shown = self.lesson.shown
        lengths = (shown.end - shown.begin).numpy()
        user = np.repeat(np.arange(len(lengths)), lengths)
        pairs = [self.user_ids.gather(user), self.item_ids.gather(shown.entries.numpy())]
        return users_of_items(pl.DataFrame(pairs))


def lesson_of(data: TrainingData, events: pl.DataFrame, params: TwoTower) -> Known:
    """Turn a window into tensors.

    Values of items count by the catalogue's items, values of users by those who have events, ids
    by events. An id that is not known has no slot at all: it says nothing.

    Raises:
        UserError: nothing is known of items.
    """
    items = _with_ids(data.items, events["item_id"])
    users = _with_ids(data.users, events["user_id"])
    item_ids, user_ids = items["item_id"], users["user_id"]
    of_items = attributes(items, "item_id", "item", _NO_ATTRIBUTES, params.buckets)
    of_users = attributes(users, "user_id", "user", (), params.buckets)
    active = user_ids.is_in(events["user_id"].unique().implode()).arg_true()
    counted = [of_items, of_users.filter(pl.col("row").is_in(active.implode()))]
    if params.item_ids:
        known = _frequent(events["item_id"], params.min_count)
        of_items = pl.concat([of_items, named(item_ids, _ITEM_ID, known)])
        counted.append(named(events["item_id"], _ITEM_ID, known))
    if params.user_ids:
        known = _frequent(events["user_id"], params.min_count)
        of_users = pl.concat([of_users, named(user_ids, _USER_ID, known)])
        counted.append(named(events["user_id"], _USER_ID, known))
    slots = slot_map(pl.concat(counted), params.min_count)
    vectors = tuple(
        _rows_of(frame, item_ids, params.dim)
        for frame in (data.embeddings, data.pictures)
        if frame is not None and frame.height
    )
    if of_items.is_empty() and not vectors:
        raise UserError(
            "retriever two_tower: nothing is known of items, neither attributes nor texts nor "
            "pictures; set fit.two_tower.item_ids to true or take it from `retrievers`"
        )
    nobody = pl.DataFrame({"slot": unknown_slots(slots, "user.")}, {"slot": pl.Int64}).select(
        pl.lit(len(user_ids), pl.UInt32).alias("row"), "slot", weight=pl.lit(1, pl.Float32)
    )
    lesson = Lesson(
        Examples.of(
            user_ids.search_sorted(events["user_id"]).to_numpy(),
            item_ids.search_sorted(events["item_id"]).to_numpy(),
            events["timestamp"].dt.epoch("ms").to_numpy(),
            params.max_history,
        ),
        bags_of(slots_of(of_items, slots), len(item_ids)),
        bags_of(slots_of(of_users, slots).vstack(nobody), len(user_ids) + 1),
        vectors,
        _passed_over(data.impressions if params.shown else None, events, item_ids, user_ids),
        1 + slots.height,
        tuple(unknown_slots(slots)),
        torch.tensor([False, *slots["column"].is_in([_ITEM_ID, _USER_ID])]),
    )
    return Known(item_ids, user_ids, slots, lesson)


def bags_of(entries: pl.DataFrame, rows: int) -> Bags:
    """Lay out row, slot and weight, rows ascending."""
    row, slot, weight = (entries[name].to_numpy() for name in ("row", "slot", "weight"))
    return Bags.of(row, slot, rows, weight)


def _frequent(ids: pl.Series, min_count: int) -> pl.Series:
    counts = ids.value_counts(name="events")
    return counts.filter(pl.col("events") >= min_count)[ids.name]


def _passed_over(
    impressions: pl.DataFrame | None,
    events: pl.DataFrame,
    item_ids: pl.Series,
    user_ids: pl.Series,
) -> Bags:
    """What users were shown in the window and neither clicked then nor chose at any time."""
    pairs = {"user_id": pl.String, "item_id": pl.String}
    shown = pl.DataFrame(schema=pairs)
    if impressions is not None:
        no_click = ~(pl.col("click") > 0).fill_null(False)
        shown = impressions.filter(no_click).select(list(pairs)).unique()
    known = shown.join(events, on=list(pairs), how="anti").filter(
        pl.col("user_id").is_in(user_ids.implode()), pl.col("item_id").is_in(item_ids.implode())
    )
    user, item = user_ids.search_sorted(known["user_id"]), item_ids.search_sorted(known["item_id"])
    rows = pl.DataFrame({"user": user, "item": item}).sort("user", "item")
    return Bags.of(rows["user"].to_numpy(), rows["item"].to_numpy(), len(user_ids) + 1)


def _with_ids(table: pl.DataFrame | None, ids: pl.Series) -> pl.DataFrame:
    """Return a table by its id, with rows of nulls for ids that it lacks."""
    key = ids.name
    rows = pl.DataFrame({key: []}, {key: pl.String}) if table is None else table
    lacking = pl.DataFrame({key: ids.unique()}).join(rows, on=key, how="anti")
    return pl.concat([rows, lacking], how="diagonal").sort(key)


def _rows_of(vectors: pl.DataFrame, item_ids: pl.Series, dim: int) -> Tensor:
    """Return vectors of items by row, float32; zero for an item that has none.

    Centred, evened out and brought to length one, as `content` has them, then cut to `dim`
    principal components.
    """
    ids, found = whitened(vectors, _WHITENING)
    known = ids.is_in(item_ids.implode())
    rows = np.zeros((len(item_ids), min(found.shape[1], dim)), np.float32)
    at = item_ids.search_sorted(ids.filter(known)).to_numpy()
    rows[at] = reduced(found, dim)[known.to_numpy()]
    return torch.from_numpy(rows)
