"""Behaviour: what counts, names and draws by events knows those of its window and no others."""

from collections.abc import Mapping

import polars as pl

from stages.core import catalogue
from stages.core.params import Fit, Popular
from stages.core.tables import PARTS_OF_WINDOW, WINDOW_OF_SPLIT
from stages.core.windows import end_of, impressions_of
from stages.evaluate.checks.verdict import Check, verdict
from stages.retrieve.retrievers import Parts, TrainingData, make_retriever
from stages.retrieve.retrievers.towers.shown import users_of_items

_SAMPLE = 200
"""Queries of a split that are answered again."""
_TOLERANCE = 1e-5

ByWindow = Mapping[tuple[str, str], pl.DataFrame]
"""A frame a retriever and window."""


def check_hotness(
    candidates: pl.DataFrame | None,
    queries: pl.DataFrame,
    events: pl.DataFrame,
    impressions: pl.DataFrame,
    params: Popular,
    items: pl.DataFrame,
    properties: pl.DataFrame,
    users: pl.DataFrame,
    in_time: bool,
) -> Check:
    """What is popular is so by the window's events and impressions alone.

    For some queries of each split: the list is made again, by those up to the window's end, and
    where the shop has parts, by those of the asker's part.

    Args:
        candidates: of retriever popular; None where it does not run.
        queries: the queries table.
        events: item_id, timestamp, split.
        impressions: item_id, timestamp, click.
        params: of the retriever.
        items: the items table.
        properties: of items, as the windows knew them.
        users: the users table.
        in_time: whether parts are cut in time.
    """
    if candidates is None:
        return Check("hotness", True, "Retriever popular does not run.")
    faults: dict[str, pl.Series] = {}
    depth = int(candidates.select(pl.col("rank").max().fill_null(1)).item())
    answered = 0
    parts = Parts.of(items, users)
    no_documents = pl.DataFrame(schema={"item_id": pl.String, "text": pl.String})
    for split, window in WINDOW_OF_SPLIT.items():
        asked = queries.filter(split=split).sort("query_id")
        asked = asked.gather_every(max(-(-asked.height // _SAMPLE), 1))
        behind = events.filter(pl.col("split").is_in(PARTS_OF_WINDOW[window]))
        past = impressions_of(impressions, events, window, in_time, parts)
        again = make_retriever("popular", Fit(popular=params), parts=parts)
        known = catalogue.of_window(items, properties, window)
        data = TrainingData(no_documents, events=behind, impressions=past, items=known, users=users)
        again.fit(data)
        due = again.retrieve(asked, depth).select("query_id", "item_id", due="score")
        found = candidates.join(asked, on="query_id", how="semi")
        both = found.join(due, on=["query_id", "item_id"], how="full", coalesce=True)
        near = (pl.col("score") - pl.col("due")).abs() <= _TOLERANCE * (1 + pl.col("due").abs())
        wrong = both.filter(~near.fill_null(False))
        faults[f"{split} candidates that are not what window {window} counts"] = wrong["query_id"]
        answered += asked.height
    fine = f"What is popular, counted again for {answered:,} queries, is so by their window alone."
    return verdict("hotness", faults, fine, {"queries": answered})


def check_vocabularies(known: ByWindow, events: pl.DataFrame) -> Check:
    """Ids that a retriever has learned are of its window: no item and no user is there too early.

    Args:
        known: kind (item or user) and id of all that each knows by its id.
        events: user_id, item_id, split.
    """
    faults: dict[str, pl.Series] = {}
    for (name, window), ids in known.items():
        behind = events.filter(pl.col("split").is_in(PARTS_OF_WINDOW[window]))
        for kind in ("item", "user"):
            mine = ids.filter(kind=kind)
            met = behind.select(pl.col(f"{kind}_id").unique().alias("id"))
            faults[f"{kind}s that {name} knows before window {window} does"] = mine.join(
                met, on="id", how="anti"
            )["id"]
    count = sum(ids.height for ids in known.values())
    fine = f"{count:,} ids that retrievers have learned are of their windows."
    return verdict("vocabularies", faults, fine, {"ids": count})


def check_negatives(drawn: ByWindow, events: pl.DataFrame) -> Check:
    """Negatives are drawn by what the window chose, and not by what was chosen afterwards.

    Args:
        drawn: item_id, and events, by the number of which it is drawn as a negative.
        events: item_id, split.
    """
    faults: dict[str, pl.Series] = {}
    for (name, window), items in drawn.items():
        behind = events.filter(pl.col("split").is_in(PARTS_OF_WINDOW[window]))
        counts = behind.group_by("item_id").len("due")
        both = items.filter(pl.col("events") > 0).join(
            counts, on="item_id", how="full", coalesce=True
        )
        wrong = both.filter(pl.col("events").ne_missing(pl.col("due")))
        faults[f"items that {name} draws otherwise than window {window} chose them"] = wrong[
            "item_id"
        ]
    fine = (
        "Negatives are drawn by how often their window chose them." if drawn else "None draws any."
    )
    return verdict("negatives", faults, fine, {"items": sum(one.height for one in drawn.values())})


def check_passed_over(
    drawn: ByWindow,
    impressions: pl.DataFrame,
    events: pl.DataFrame,
    items: pl.DataFrame,
    users: pl.DataFrame,
    draws: bool,
    parts: Parts | None = None,
) -> Check:
    """Negatives that were shown and not clicked were so in the window, and none of it is left out.

    What may be drawn is found again, by the tables alone: of each user the impressions without a
    click up to the window's last event (of shops side by side, their own) and before the user's
    first that is held out, but for items that the user chose in the window.

    Args:
        drawn: item_id, users (how many it is drawn for) and digest (of who they are).
        impressions: user_id, item_id, timestamp, click.
        events: user_id, item_id, timestamp, split.
        items: the items table.
        users: the users table.
        draws: whether any are drawn.
        parts: of the shop; None where it is one.
    """
    faults: dict[str, pl.Series] = {}
    pair = ["user_id", "item_id"]
    pairs = 0
    ignored = impressions.filter(pl.lit(draws), pl.col("click") <= 0)
    for (name, window), found in drawn.items():
        inside = pl.col("split").is_in(PARTS_OF_WINDOW[window])
        behind, held = events.filter(inside), events.filter(~inside)
        cuts = held.group_by("user_id").agg(cut=pl.col("timestamp").min())
        shown = (
            ignored.filter(pl.col("timestamp") <= end_of(ignored, events, window, parts))
            .join(cuts, on="user_id", how="left")
            .filter((pl.col("timestamp") < pl.col("cut")).fill_null(True))
            .select(pair)
            .unique()
            .join(behind, on=pair, how="anti")
        )
        for key, table in {"item_id": items, "user_id": users}.items():
            # What neither a table nor the window has heard of is not drawn.
            known = pl.concat([table.select(key), behind.select(key)])
            shown = shown.join(known, on=key, how="semi")
        due = users_of_items(shown).select("item_id", due="digest")
        both = found.join(due, on="item_id", how="full", coalesce=True)
        wrong = both.filter(pl.col("digest").ne_missing(pl.col("due")))
        faults[f"items that {name} draws for others than passed them over in window {window}"] = (
            wrong["item_id"]
        )
        pairs += shown.height
    fine = f"All {pairs:,} items passed over that negatives are drawn from were so in their window."
    return verdict("passed_over", faults, fine if pairs else "None draws any.", {"pairs": pairs})
