"""Example queries with their candidates before and after ranking."""

import re
from dataclasses import dataclass
from typing import Any

import polars as pl

from stages.core import metrics

_SHOWN = 8
_QUERY_CHARS = 420
_SNIPPET_CHARS = 90


@dataclass(frozen=True)
class Row:
    """A place of a list: the item that stands there, and whether it is what was chosen."""

    position: int
    item_id: str
    title: str
    is_target: bool
    was: int | None
    """Place before ranking."""


@dataclass(frozen=True)
class Example:
    """A query, its targets, and its list before and after ranking, tops and targets only."""

    query_id: str
    date: str
    text: str
    history: int
    targets: list[str]
    before: list[Row]
    after: list[Row]
    outcome: str


def draw(queries: pl.DataFrame, count: int, seed: int) -> pl.DataFrame:
    """Return `count` queries drawn at random, the same for the same seed, sorted."""
    ordered = queries.sort("query_id")
    return ordered.sample(min(count, ordered.height), seed=seed).sort("query_id")


def examples_of(
    queries: pl.DataFrame, before: pl.DataFrame, after: pl.DataFrame, titles: dict[str, str]
) -> list[Example]:
    """Return an example for each query, in order.

    Args:
        queries: rows of the queries table.
        before: (query_id, item_id, score) of the blend.
        after: the same of the ranker.
        titles: what to call an item; one that is not there is called by its id.
    """
    places = {}
    for side, lists in (("before", before), ("after", after)):
        own = lists.join(queries.select("query_id"), on="query_id", how="semi")
        for query, part in metrics.order(own).group_by("query_id", maintain_order=True):
            places[side, query[0]] = dict(zip(part["item_id"], part["position"], strict=True))
    made = []
    for row in queries.iter_rows(named=True):
        query, wanted = row["query_id"], set(row["targets"])
        first, second = places.get(("before", query), {}), places.get(("after", query), {})
        made.append(
            Example(
                query_id=query,
                date=f"{row['timestamp']:%Y-%m-%d}",
                text=_short(row["text"] or _past(row["history"], titles), _QUERY_CHARS),
                history=len(row["history"]),
                targets=[titles.get(item, item) for item in row["targets"]],
                before=_rows(first, wanted, titles, {}),
                after=_rows(second, wanted, titles, first),
                outcome=_outcome(wanted, first, second),
            )
        )
    return made


def names_of(items: pl.DataFrame, documents: pl.DataFrame, wanted: pl.Series) -> dict[str, str]:
    """Return what to call each wanted item: its title, else its id and how its document begins."""
    frame = (
        pl.DataFrame({"item_id": wanted.unique().sort()})
        .join(items.select("item_id", "title"), on="item_id", how="left", maintain_order="left")
        .join(documents.select("item_id", "text"), on="item_id", how="left", maintain_order="left")
    )
    return {
        item: _short(title, 140) if title else _short(f"{item} {_words(text)}", _SNIPPET_CHARS)
        for item, title, text in frame.rows()
    }


def _past(history: list[dict[str, Any]], titles: dict[str, str]) -> str:
    """What is said of a query without words: what was chosen before, newest first."""
    chosen = [titles.get(step["item_id"], step["item_id"]) for step in reversed(history)]
    return "No words. Chose before: " + ("; ".join(chosen) or "nothing") + "."


def _rows(
    places: dict[str, int], wanted: set[str], titles: dict[str, str], was: dict[str, int]
) -> list[Row]:
    return [
        Row(position, item, titles.get(item, item), item in wanted, was.get(item))
        for item, position in places.items()
        if position <= _SHOWN or item in wanted
    ]


def _outcome(wanted: set[str], before: dict[str, int], after: dict[str, int]) -> str:
    first = min((before[item] for item in wanted if item in before), default=None)
    second = min((after[item] for item in wanted if item in after), default=None)
    if first is None or second is None:
        return "not among the candidates"
    if first == second:
        return f"place {first} before and after"
    return f"from place {first} to {second}"


def _words(document: str | None) -> str:
    """Return a document without the names of its parts."""
    return re.sub(r"\[[A-Z][A-Za-z ]*\] ", "", document or "")


def _short(text: str, length: int) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= length else flat[: length - 1].rstrip() + "…"
