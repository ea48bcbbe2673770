"""Time: the parts follow each other, queries stand where they say, histories end before them."""

from datetime import datetime
from itertools import pairwise
from typing import Any

import polars as pl

from stages.core.tables import PARTS, PARTS_OF_WINDOW, WINDOW_OF_SPLIT
from stages.evaluate.checks.verdict import Check, verdict

_ENDS = {"fit": "fit_end_ms", "rank": "train_end_ms", "valid": "valid_end_ms"}


def check_cuts(events: pl.DataFrame, cuts: dict[str, Any]) -> Check:
    """Each part ends strictly before the next begins, so that no moment lies on both sides.

    Where each user's last events are held out, it does so in each user's own order.

    Args:
        events: event_id, user_id, timestamp, split.
        cuts: what `split` wrote: its method, the last millisecond of fit, train and valid.
    """
    if cuts["method"] == "leave_last_out":
        return _check_last_out(events)
    spans = _spans(events)
    present = [part for part in PARTS if part in spans]
    faults = {}
    if missing := [part for part in PARTS if part not in spans]:
        faults["parts without events"] = pl.Series(missing)
    for before, after in pairwise(present):
        (_, end), (start, _) = spans[before], spans[after]
        late = events.filter(split=before).filter(pl.col("timestamp") >= start)
        if end >= start:
            faults[f"events of {before} not before all of {after}"] = late["event_id"]
    for number, (part, end_ms) in enumerate(_ENDS.items()):
        at = pl.col("timestamp").dt.epoch("ms")
        early = pl.col("split").is_in(PARTS[: number + 1])
        wrong = events.filter(early != (at <= int(cuts[end_ms])))
        faults[f"events on the wrong side of the end of {part}"] = wrong["event_id"]
    figures = {
        part: {"events": events.filter(split=part).height, "first": f"{a}", "last": f"{b}"}
        for part, (a, b) in spans.items()
    }
    fine = ", ".join(f"{part} ends {spans[part][1]:%Y-%m-%d %H:%M}" for part in present)
    return verdict("cuts", faults, f"Parts follow each other in time: {fine}.", figures)


def check_queries(queries: pl.DataFrame, events: pl.DataFrame, cuts: dict[str, Any]) -> Check:
    """A query is later than the window that answers it, and its targets are what came of it.

    A query of a split lies strictly after every event of the window behind the split (where each
    user's last events are held out, after every one of its user) and not after the split's last
    event; each target is an event of that user, item and split, not before the query.

    Args:
        queries: query_id, user_id, timestamp, targets, split.
        events: user_id, item_id, timestamp, split.
        cuts: what `split` wrote.
    """
    by_user = cuts["method"] == "leave_last_out"
    spans = _spans(events)
    faults = {
        "queries of a part that has none": queries.filter(
            ~pl.col("split").is_in(list(WINDOW_OF_SPLIT))
        )["query_id"]
    }
    for split, window in WINDOW_OF_SPLIT.items():
        asked = queries.filter(split=split)
        ends = [spans[part][1] for part in PARTS_OF_WINDOW[window] if part in spans]
        if asked.is_empty() or not ends or split not in spans:
            continue
        if by_user:
            behind = events.filter(pl.col("split").is_in(PARTS_OF_WINDOW[window]))
            known = behind.group_by("user_id").agg(end=pl.col("timestamp").max())
            early = asked.join(known, on="user_id").filter(pl.col("timestamp") <= pl.col("end"))
        else:
            early = asked.filter(pl.col("timestamp") <= max(ends))
        late = asked.filter(pl.col("timestamp") > spans[split][1])
        faults[f"{split} queries not after window {window}"] = early["query_id"]
        faults[f"{split} queries after the end of {split}"] = late["query_id"]
    wanted = queries.select("query_id", "user_id", "split", at="timestamp", item_id="targets")
    wanted = wanted.explode("item_id", empty_as_null=False)
    came = wanted.join(
        events.select("user_id", "item_id", "split", "timestamp"),
        on=["user_id", "item_id", "split"],
    ).filter(pl.col("timestamp") >= pl.col("at"))
    known = wanted.filter(pl.col("user_id").is_not_null())
    lost = known.join(came, on=["query_id", "item_id"], how="anti")
    faults["targets that the user did not choose then"] = lost["query_id"]
    later = "what their user did in the window" if by_user else "the window"
    return verdict(
        "queries",
        faults,
        f"All {queries.height:,} queries are later than {later} behind them.",
        {split: queries.filter(split=split).height for split in WINDOW_OF_SPLIT},
    )


def check_history(queries: pl.DataFrame, events: pl.DataFrame) -> Check:
    """A history holds all that its user did strictly before the query, and nothing else.

    Args:
        queries: query_id, user_id, timestamp, history.
        events: user_id, item_id, timestamp.
    """
    asked = queries.select("query_id", "user_id", at="timestamp")
    held = (
        queries.select("query_id", "user_id", pl.col("timestamp").alias("at"), "history")
        .explode("history", empty_as_null=False)
        .unnest("history")
    )
    own = ["query_id", "item_id", "timestamp"]
    held = held.group_by([*own, "at"], maintain_order=True).len("times")
    due = (
        asked.join(events.select("user_id", "item_id", "timestamp"), on="user_id")
        .filter(pl.col("timestamp") < pl.col("at"))
        .group_by(own, maintain_order=True)
        .len("due")
    )
    both = held.join(due, on=own, how="full", coalesce=True).with_columns(
        pl.col("times", "due").fill_null(0)
    )
    future = held.filter(pl.col("timestamp") >= pl.col("at"))
    past = both.join(future.select(own), on=own, how="anti")
    unordered = queries.filter(
        pl.col("history")
        .list.eval(pl.element().struct.field("timestamp").diff().dt.total_milliseconds() < 0)
        .list.any()
    )
    return verdict(
        "history",
        {
            "history entries not before their query": future["query_id"],
            "history entries that are no event of the user": past.filter(
                pl.col("times") > pl.col("due")
            )["query_id"],
            "earlier events missing from a history": past.filter(pl.col("times") < pl.col("due"))[
                "query_id"
            ],
            "histories not oldest first": unordered["query_id"],
        },
        f"{held['times'].sum():,} history entries, each before its query, none missing.",
        {"entries": int(held["times"].sum())},
    )


def check_properties(known: pl.DataFrame, properties: pl.DataFrame, events: pl.DataFrame) -> Check:
    """What a window says of an item is the last that was said of it by the window's end.

    Args:
        known: window, item_id, name, value.
        properties: item_id, timestamp, name, value, of all times.
        events: timestamp, split.
    """
    key = ["item_id", "name"]
    faults: dict[str, pl.Series] = {}
    for window, parts in PARTS_OF_WINDOW.items():
        end = events.filter(pl.col("split").is_in(parts))["timestamp"].max()
        said = known.filter(window=window)
        dated = properties.with_columns(late=pl.col("timestamp") > end)
        latest = (
            dated.filter(~pl.col("late"))
            .group_by(key)
            .agg(due=pl.col("value").sort_by("timestamp").last())
        )
        both = said.join(latest, on=key, how="full", coalesce=True)
        wrong = both.filter(pl.col("value").ne_missing(pl.col("due")))
        future = dated.filter("late").select(*key, "value").unique()
        later = wrong.join(future, on=[*key, "value"], how="semi")
        faults[f"properties of window {window} that were said after its end"] = later["item_id"]
        other = wrong.join(later, on=key, how="anti")
        faults[f"properties of window {window} that are not the last before its end"] = other[
            "item_id"
        ]
    return verdict(
        "properties",
        faults,
        f"{known.height:,} properties of items are those of their window's end.",
        {"properties": known.height},
    )


def _check_last_out(events: pl.DataFrame) -> Check:
    number = (
        pl.col("split").cast(pl.String).replace_strict({part: n for n, part in enumerate(PARTS)})
    )
    ordered = events.select("event_id", "user_id", "timestamp", "split", part=number)
    ordered = ordered.sort("user_id", "timestamp", "part")
    by_user = ordered.group_by("user_id", maintain_order=True).agg(pl.len(), pl.last("split"))
    early = ordered.filter(pl.col("part") < pl.col("part").cum_max().over("user_id"))
    tied = ordered.filter(pl.struct("user_id", "timestamp").is_duplicated())
    twice = ordered.filter(pl.col("split") != "fit", pl.struct("user_id", "split").is_duplicated())
    kept = by_user.filter(pl.col("len") > 1, pl.col("split") != "test")
    due = pl.min_horizontal(pl.col("len") - 1, 3)
    held = ordered.filter(pl.col("split") != "fit").group_by("user_id").len("held")
    fewer = by_user.join(held, on="user_id", how="left").filter(
        pl.col("held").fill_null(0) != due.cast(pl.UInt32)
    )
    counts = {part: events.filter(split=part).height for part in PARTS}
    return verdict(
        "cuts",
        {
            "events before their user's of an earlier part": early["event_id"],
            "events of one user at one time": tied["event_id"],
            "events held out with another of their user and part": twice["event_id"],
            "users whose last event is not held out": kept["user_id"],
            "users of whom other than the last three events are held out": fewer["user_id"],
        },
        f"Each user's last events are held out, one a part: {counts['test']:,} in test. No cut in "
        "time: what answers has learned from what others did later.",
        counts,
    )


def _spans(events: pl.DataFrame) -> dict[str, tuple[datetime, datetime]]:
    found = events.group_by("split").agg(
        first=pl.col("timestamp").min(), last=pl.col("timestamp").max()
    )
    spans = {split: (first, last) for split, first, last in found.rows()}
    return {part: spans[part] for part in PARTS if part in spans}
