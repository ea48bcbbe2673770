"""Time: the parts follow each other, queries stand where they say, histories end before them."""

from datetime import datetime
from itertools import pairwise
from typing import Any

import polars as pl

from stages.core.parts import Parts
from stages.core.tables import PARTS, PARTS_OF_WINDOW, WINDOW_OF_SPLIT
from stages.core.windows import end_of
from stages.evaluate.checks.verdict import Check, verdict

_ENDS = {"fit": "fit_end_ms", "rank": "train_end_ms", "valid": "valid_end_ms"}


def check_cuts(events: pl.DataFrame, cuts: dict[str, Any], parts: Parts | None = None) -> Check:
    """Each part ends strictly before the next begins, so that no moment lies on both sides.

    Where each user's last events are held out, it does so in each user's own order; where shops
    side by side are cut apart, in each shop, by its own cuts.

    Args:
        events: event_id, user_id, timestamp, split; with shops side by side, item_id.
        cuts: what `split` wrote: its method, the last millisecond of fit, train and valid.
        parts: the shops that stand side by side; None where there is one.
    """
    if cuts["method"] == "leave_last_out":
        return _check_last_out(events)
    if not _are_apart(cuts, parts):
        faults, figures, fine = _in_order(events, cuts)
        return verdict("cuts", faults, f"Parts follow each other in time: {fine}.", figures)
    assert parts is not None
    ends: dict[str, Any] = cuts.get("parts", {})
    shop = parts.of_items(events["item_id"])
    strange = ~shop.is_in(list(ends)) | shop.ne_missing(parts.of_users(events["user_id"]))
    strange_ids = events.filter(strange.fill_null(True))["event_id"]
    faults = {"events of no one shop that was cut": strange_ids}
    shops, told = {}, []
    for name, own in ends.items():
        found, shops[name], fine = _in_order(events.filter(shop == name), own)
        faults |= {f"{what}, in {name}": ids for what, ids in found.items()}
        told.append(f"in {name} {fine}")
    return verdict("cuts", faults, f"Parts follow each other in time: {'; '.join(told)}.", shops)


def check_queries(
    queries: pl.DataFrame, events: pl.DataFrame, cuts: dict[str, Any], parts: Parts | None = None
) -> Check:
    """A query is later than the window that answers it, and its targets are what came of it.

    A query of a split lies strictly after every event of the window behind the split (where each
    user's last events are held out, after every one of its user; where shops side by side are cut
    apart, after every one of its user's shop) and not after the split's last event; each target is
    an event of that user, item and split, not before the query.

    Args:
        queries: query_id, user_id, timestamp, targets, split.
        events: user_id, item_id, timestamp, split.
        cuts: what `split` wrote.
        parts: the shops that stand side by side; None where there is one.
    """
    by_user = cuts["method"] == "leave_last_out"
    faults = {
        "queries of a part that has none": queries.filter(
            ~pl.col("split").is_in(list(WINDOW_OF_SPLIT))
        )["query_id"]
    }
    later = "what their user did in the window" if by_user else "the window"
    if _are_apart(cuts, parts):
        assert parts is not None
        asker, shop = parts.of_users(queries["user_id"]), parts.of_items(events["item_id"])
        faults["queries of no shop"] = queries.filter(asker.is_null())["query_id"]
        for name in parts.names:
            asked, own = queries.filter(asker == name), events.filter(shop == name)
            faults |= _off_their_window(asked, own, by_user, f" of {name}")
        later = "their shop's window"
    else:
        faults |= _off_their_window(queries, events, by_user)
    wanted = queries.select("query_id", "user_id", "split", at="timestamp", item_id="targets")
    wanted = wanted.explode("item_id", empty_as_null=False)
    came = wanted.join(
        events.select("user_id", "item_id", "split", "timestamp"),
        on=["user_id", "item_id", "split"],
    ).filter(pl.col("timestamp") >= pl.col("at"))
    known = wanted.filter(pl.col("user_id").is_not_null())
    lost = known.join(came, on=["query_id", "item_id"], how="anti")
    faults["targets that the user did not choose then"] = lost["query_id"]
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


def check_properties(
    known: pl.DataFrame,
    properties: pl.DataFrame,
    events: pl.DataFrame,
    parts: Parts | None = None,
) -> Check:
    """What a window says of an item is the last that was said of it by the window's end.

    Of shops side by side, by that of the item's shop.

    Args:
        known: window, item_id, name, value.
        properties: item_id, timestamp, name, value, of all times.
        events: timestamp, split; with shops side by side, item_id.
        parts: the shops that stand side by side; None where there is one.
    """
    key = ["item_id", "name"]
    faults: dict[str, pl.Series] = {}
    for window in PARTS_OF_WINDOW:
        end = end_of(properties, events, window, parts)
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


def _are_apart(cuts: dict[str, Any], parts: Parts | None) -> bool:
    """Whether there are shops side by side, each with cuts of its own."""
    return parts is not None and cuts["method"] == "fractions"


def _in_order(
    events: pl.DataFrame, ends: dict[str, Any]
) -> tuple[dict[str, pl.Series], dict[str, Any], str]:
    """Return what is wrong with parts that are cut at moments, figures of them, and their ends."""
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
        wrong = events.filter(early != (at <= int(ends[end_ms])))
        faults[f"events on the wrong side of the end of {part}"] = wrong["event_id"]
    figures = {
        part: {"events": events.filter(split=part).height, "first": f"{a}", "last": f"{b}"}
        for part, (a, b) in spans.items()
    }
    fine = ", ".join(f"{part} ends {spans[part][1]:%Y-%m-%d %H:%M}" for part in present)
    return faults, figures, fine


def _off_their_window(
    queries: pl.DataFrame, events: pl.DataFrame, by_user: bool, of: str = ""
) -> dict[str, pl.Series]:
    """Return the queries that are not between the window behind them and their split's end."""
    spans = _spans(events)
    faults = {}
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
        faults[f"{split} queries{of} not after window {window}"] = early["query_id"]
        faults[f"{split} queries{of} after the end of {split}"] = late["query_id"]
    return faults


def _spans(events: pl.DataFrame) -> dict[str, tuple[datetime, datetime]]:
    found = events.group_by("split").agg(
        first=pl.col("timestamp").min(), last=pl.col("timestamp").max()
    )
    spans = {split: (first, last) for split, first, last in found.rows()}
    return {part: spans[part] for part in PARTS if part in spans}
