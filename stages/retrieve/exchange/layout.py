"""The files of an exchange, and what their columns are called."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Exchange:
    """What `export_interactions` writes into a folder.

    Whoever trains reads `interactions`; the numbers in it are those of the id maps.
    """

    folder: Path

    @property
    def interactions(self) -> Path:
        """`user`, `item`, `weight`: numbers, and the sum of the weights of both's events."""
        return self.folder / "interactions.csv"

    @property
    def users(self) -> Path:
        """`user`, `user_id`: each number's id."""
        return self.folder / "users.csv"

    @property
    def items(self) -> Path:
        """`item`, `item_id`: each number's id."""
        return self.folder / "items.csv"

    @property
    def about(self) -> Path:
        """The window and part, and the mean weight of their events."""
        return self.folder / "about.json"
