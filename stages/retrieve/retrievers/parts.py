"""Shops side by side: who is of one part finds that part's items and no others."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Self

import polars as pl

from stages.core.log import UserError, get_logger
from stages.core.metrics import order
from stages.core.params import Fit, RetrieverName
from stages.core.parts import COLUMN, Parts
from stages.core.storage import read_json, write_json
from stages.core.tables import CANDIDATES
from stages.retrieve.retrievers.base import LEARNS_FROM, Restrictable, Retriever, TrainingData
from stages.retrieve.retrievers.history import KnowsItems, past_items

log = get_logger(__name__)

_ABOUT = "parts.json"


def of_queries(parts: Parts, queries: pl.DataFrame) -> pl.Series:
    """Return the part of who asks, null where nothing is known of them.

    It is that of the user, else of the newest item of the history that has one.
    """
    known = parts.of_users(queries["user_id"])
    rest = known.is_null().arg_true()
    past = past_items(queries[rest], parts.items["item_id"])
    newest = past.unique("query", keep="last", maintain_order=True)
    told = parts.items[COLUMN].gather(newest["item"])
    return known.scatter(rest.gather(newest["query"]), told)


def of_part(parts: Parts, data: TrainingData, part: str) -> TrainingData:
    """Return what is known of one part; vectors of which it has none are None."""
    items = pl.col("item_id").is_in(parts.item_ids(part).implode())
    users = pl.col("user_id").is_in(parts.users.filter(pl.col(COLUMN) == part)["user_id"].implode())

    def kept(frame: pl.DataFrame | None, rows: pl.Expr = items) -> pl.DataFrame | None:
        return None if frame is None else frame.filter(rows)

    def some(frame: pl.DataFrame | None) -> pl.DataFrame | None:
        own = kept(frame)
        return None if own is None or own.is_empty() else own

    return replace(
        data,
        documents=data.documents.filter(items),
        embeddings=some(data.embeddings),
        events=kept(data.events),
        impressions=kept(data.impressions),
        items=kept(data.items),
        users=kept(data.users, users),
        pictures=some(data.pictures),
    )


class PartsRetriever:
    """A retriever for each part, and whoever asks is answered by that of theirs.

    What learns from a shop is fitted on each part alone, up to the part's own end. What is
    `Restrictable` is fitted on all parts together and its items are then kept apart. Nothing is
    found in a part in which there is nothing to learn from.

    Parts may be cut at different times, and what is fitted together learns from the union of their
    windows: about an older part it is asked with a newer one's later events in its weights. No user
    and no item is of both, so that none of these events tells of a query's own; what a calendar
    brings to every shop, such as a fashion, they may tell.

    Of whom nothing is known, the lists of all parts are joined. By score, where parts were fitted
    together. Else scores do not compare, and the lists are taken from in turn: an item scores the
    best score of all lists over its rank in its own, and of equals the smaller id is first.
    """

    def __init__(
        self, name: RetrieverName, parts: Parts, params: Fit | None = None, seed: int = 0
    ) -> None:
        self._name, self._parts = name, parts
        self._params, self._seed = params or Fit(), seed
        self._fitted: dict[str, Retriever] = {}
        self._together: Restrictable | None = None
        self._comparable = False

    def fit(self, data: TrainingData) -> None:
        """Fit each part, or all together, and tell of parts with nothing to learn from."""
        made = self._make()
        self._fitted = {}
        if isinstance(made, Restrictable):
            made.fit(data)
            self._together, self._comparable = made, True
        for part in self._parts.names:
            mine = of_part(self._parts, data, part)
            wanted = {name: getattr(mine, name) for name in LEARNS_FROM[self._name]}
            if all(frame is None or frame.is_empty() for frame in wanted.values()):
                log.warning(
                    "%s finds nothing in part %s: it has no %s",
                    self._name,
                    part,
                    " or ".join(wanted),
                )
                continue
            if self._together is not None:
                self._fitted[part] = self._together.only(self._parts.item_ids(part))
            else:
                self._fitted[part] = self._make()
                self._fitted[part].fit(mine)
            log.info(
                "%s, part %s: %d documents, %d events",
                self._name,
                part,
                mine.documents.height,
                0 if mine.events is None else mine.events.height,
            )

    def retrieve(self, queries: pl.DataFrame, k: int) -> pl.DataFrame:
        """Answer each query by its part's retriever; see `Retriever`."""
        return pl.concat([pl.DataFrame(schema=CANDIDATES.columns), *self._answers(queries, k)])

    def save(self, folder: Path) -> None:
        """Write a folder for each part, or what was fitted together as it is.

        `Parts.save` writes what lies beside the folder. What was loaded is not written again.
        """
        if self._comparable:
            assert self._together is not None
            self._together.save(folder)
        else:
            for part, one in self._fitted.items():
                (folder / part).mkdir()
                one.save(folder / part)
        about = {"retriever": self._name, "together": self._comparable}
        write_json(folder / _ABOUT, about | {"parts": list(self._fitted)})

    @classmethod
    def load(cls, folder: Path, store: Path | None = None) -> Self:
        """Read a fitted retriever; which part is whose lies beside the folder as `parts`."""
        from stages.retrieve.retrievers import class_of

        about = read_json(folder / _ABOUT)
        made = cls(about["retriever"], Parts.load(folder.parent / "parts"))
        kind = class_of(about["retriever"])
        made._comparable = about["together"]
        if made._comparable:
            whole = kind.load(folder, store)
            assert isinstance(whole, Restrictable)
            made._fitted = {p: whole.only(made._parts.item_ids(p)) for p in about["parts"]}
        else:
            made._fitted = {part: kind.load(folder / part, store) for part in about["parts"]}
        return made

    def _make(self) -> Retriever:
        from stages.retrieve.retrievers import make_retriever

        return make_retriever(self._name, self._params, self._seed)

    def _answers(self, queries: pl.DataFrame, k: int) -> Iterator[pl.DataFrame]:
        part = of_queries(self._parts, queries)
        for name, one in self._fitted.items():
            asked = queries.filter(part == name)
            if asked.height:
                yield one.retrieve(asked, k)
        nobody = queries.filter(part.is_null())
        if nobody.height and self._fitted:
            yield self._joined(pl.concat(o.retrieve(nobody, k) for o in self._fitted.values()), k)

    def _joined(self, found: pl.DataFrame, k: int) -> pl.DataFrame:
        """Make one list a query of the parts' lists."""
        if not self._comparable:
            turn = pl.col("score").max().over("query_id") / pl.col("rank")
            found = found.with_columns(score=turn.cast(pl.Float32))
        best = order(found).rename({"position": "rank"}).filter(pl.col("rank") <= k)
        return best.with_columns(retriever=pl.lit(self._name)).select(*CANDIDATES.columns)


class PartsKnowingItems(PartsRetriever, KnowsItems):
    """A retriever for each part that tells what goes with the part's items."""

    def knows(self, item_id: str) -> bool:
        """Whether the item can be part of a history."""
        fitted = self._fitted.values()
        return any(isinstance(one, KnowsItems) and one.knows(item_id) for one in fitted)


def is_in_parts(folder: Path) -> bool:
    """Whether the folder is one that `PartsRetriever` wrote."""
    return (folder / _ABOUT).exists()


def folders_of(folder: Path) -> list[Path]:
    """Return where the files of a fitted retriever lie: its folder, or one for each part."""
    if not is_in_parts(folder):
        return [folder]
    about = read_json(folder / _ABOUT)
    return [folder] if about["together"] else [folder / part for part in about["parts"]]


def folder_of(folder: Path, part: str | None) -> Path:
    """Return where a retriever of one part, or of a shop without parts, lies.

    Args:
        folder: of the fitted retriever.
        part: which one; None for a shop without.

    Raises:
        UserError: the retriever has parts and none is named, or it has not the one that is named.
    """
    if part is None and not is_in_parts(folder):
        return folder
    known = [path.name for path in folders_of(folder)] if is_in_parts(folder) else []
    if part not in known:
        raise UserError(
            f"{folder} has {', '.join(known) or 'no parts'}, and {part or 'no part'} is given; "
            "export one of its parts (--part), or run `dvc repro fit` first"
        )
    return folder / str(part)
