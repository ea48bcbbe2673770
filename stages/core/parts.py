"""Shops side by side: which part each item and each user is of."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import polars as pl

from stages.core.log import UserError
from stages.core.pairs import sorted_rows_of

COLUMN = "part"
"""The column of items and of users that names their part."""


@dataclass(frozen=True)
class Parts:
    """Which part each item and each user is of.

    Attributes:
        items: item_id and part, sorted by item_id.
        users: user_id and part, sorted by user_id.
    """

    items: pl.DataFrame
    users: pl.DataFrame

    @classmethod
    def of(cls, items: pl.DataFrame, users: pl.DataFrame) -> Self | None:
        """Read the parts off both tables; None where they name none, or items are all of one.

        What names no part is of none: such an item is not found, such a user is told by history.
        """
        if COLUMN not in items.columns or COLUMN not in users.columns:
            return None
        if items[COLUMN].drop_nulls().n_unique() < 2:
            return None
        of_items = items.select("item_id", COLUMN).drop_nulls().sort("item_id")
        return cls(of_items, users.select("user_id", COLUMN).drop_nulls().sort("user_id"))

    @property
    def names(self) -> list[str]:
        """The parts that have items, sorted."""
        return self.items[COLUMN].unique().sort().to_list()

    def item_ids(self, part: str) -> pl.Series:
        """Return the ids of a part's items, sorted."""
        return self.items.filter(pl.col(COLUMN) == part)["item_id"]

    def of_items(self, ids: pl.Series) -> pl.Series:
        """Return the part of each item, null where it is of none."""
        return _looked_up(self.items, ids)

    def of_users(self, ids: pl.Series) -> pl.Series:
        """Return the part of each user, null where nothing is known of them."""
        return _looked_up(self.users, ids)

    def of_events(self, events: pl.DataFrame) -> pl.Series:
        """Return the part of each event, which is that of its item and of its user.

        Args:
            events: event_id, user_id, item_id.

        Raises:
            UserError: an event's item and user are not of one part: its times are then those of no
                part, or of two.
        """
        item, user = self.of_items(events["item_id"]), self.of_users(events["user_id"])
        if (wrong := item.ne_missing(user) | item.is_null()).any():
            row = int(wrong.arg_max() or 0)
            event, who, what = events.select("event_id", "user_id", "item_id").row(row)
            raise UserError(
                f"{int(wrong.sum())} events are of no one part of the shop, such as {event}: item "
                f"{what} is of part {item[row]}, user {who} of {user[row]}; name one part for both "
                f"in column {COLUMN!r}, or set split.method to cutoffs"
            )
        return item

    def save(self, folder: Path) -> None:
        """Write both tables into a new folder, which lies beside those of the windows."""
        folder.mkdir()
        self.items.write_parquet(folder / "items.parquet")
        self.users.write_parquet(folder / "users.parquet")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        return cls(*(pl.read_parquet(folder / f"{name}.parquet") for name in ("items", "users")))


def _looked_up(table: pl.DataFrame, ids: pl.Series) -> pl.Series:
    """Return the part of each id, null where it is not in the table, sorted by its first column."""
    row = pl.Series(sorted_rows_of(ids, table.to_series(0)))
    return table[COLUMN].gather(row.set(row < 0, None))
