"""Lists: candidates and scores are of known queries and items, in order, and not too good."""

from collections.abc import Mapping

import numpy as np
import polars as pl

from stages.core import metrics
from stages.core.pairs import PairNumbers, places, rows_of
from stages.core.params import READS_HISTORY
from stages.core.tables import PARTS_OF_WINDOW, WINDOW_OF_SPLIT
from stages.evaluate.checks.verdict import Check, verdict
from stages.evaluate.figures.intervals import Bootstrap
from stages.retrieve.retrievers import Parts

RANKED = ("valid", "test")


def check_candidates(
    lists: Mapping[str, pl.DataFrame],
    queries: pl.DataFrame,
    documents: pl.DataFrame,
    events: pl.DataFrame,
    pictures: pl.DataFrame,
    items: pl.DataFrame,
    properties: pl.DataFrame,
) -> Check:
    """Candidates answer known queries, are known to the window behind them, and stand in order.

    A retriever that reads words and was fitted on a window cannot give an item of which the window
    has no document, and one that reads histories none of which it has no event; `content`, which
    needs no events, none that has neither a document nor a picture, and `two_tower` none of which
    nothing is said at all.

    Args:
        lists: query_id, item_id, score, rank, by retriever and for the blend.
        queries: query_id, split.
        documents: window, item_id.
        events: item_id, split.
        pictures: item_id, of items whose picture has a vector.
        items: the items table.
        properties: window and item_id of what the windows knew of items.
    """
    faults = {}
    windows = list(PARTS_OF_WINDOW)
    behind = queries["split"].cast(pl.String).replace_strict(WINDOW_OF_SPLIT, default=None)
    window_of = rows_of(behind, pl.Series(windows))
    written = documents.select(pl.col("window").cast(pl.String), "item_id")
    chosen = pl.concat(
        events.filter(pl.col("split").is_in(parts))
        .select(pl.lit(window).alias("window"), "item_id")
        .unique()
        for window, parts in PARTS_OF_WINDOW.items()
    )
    windows_named = pl.DataFrame({"window": windows})
    shown = windows_named.join(pictures.select("item_id"), how="cross")
    known_by = dict.fromkeys(lists, written) | dict.fromkeys(READS_HISTORY, chosen)
    known_by["content"] = pl.concat([written, shown])
    said = pl.any_horizontal(
        pl.col(name).list.len() > 0 if isinstance(kind, pl.List) else pl.col(name).is_not_null()
        for name, kind in items.schema.items()
        if name != "item_id"
    )
    listed = windows_named.join(items.filter(said).select("item_id"), how="cross")
    dated = properties.select(pl.col("window").cast(pl.String), "item_id")
    known_by["two_tower"] = pl.concat([written, shown, chosen, listed, dated])
    known_by["blend"] = pl.concat([written, *(known_by[n] for n in lists if n != "blend")])
    for name, rows in lists.items():
        known = known_by[name]
        item_ids = known["item_id"].unique()
        is_known = np.zeros((len(windows), len(item_ids) + 1), bool)
        of_window = rows_of(known["window"], pl.Series(windows))
        is_known[of_window, rows_of(known["item_id"], item_ids)] = True
        query = rows_of(rows["query_id"], queries["query_id"])
        window = np.append(window_of, -1)[query]
        unknown = ~is_known[window, rows_of(rows["item_id"], item_ids)]
        faults[f"{name} candidates of no query"] = rows["query_id"].filter(window < 0)
        faults[f"{name} candidates unknown to their window"] = rows["query_id"].filter(
            unknown & (window >= 0)
        )
        faults[f"{name} candidates out of order"] = disordered(rows)
    return verdict(
        "candidates",
        faults,
        "Candidates are of known queries and of items that their window knows, in order.",
        {name: rows.height for name, rows in lists.items()},
    )


def check_parts(
    lists: Mapping[str, pl.DataFrame],
    queries: pl.DataFrame,
    items: pl.DataFrame,
    users: pl.DataFrame,
) -> Check:
    """Where the shop has parts, no candidate is of another part than who asks.

    Who asks is of the part of their user, else of the newest item of the history; of whom neither
    is known may be given anything.

    Args:
        lists: query_id, item_id, by retriever and for the blend.
        queries: query_id, user_id, history.
        items: item_id, and part if the shop has some.
        users: user_id, and part if the shop has some.
    """
    if Parts.of(items, users) is None:
        return Check("parts", True, "The shop has no parts.")
    of_item = items.select("item_id", of_item="part")
    newest = (
        queries.select("query_id", past="history")
        .explode("past", empty_as_null=False)
        .unnest("past")
        .with_row_index("place")
        .join(of_item.drop_nulls(), on="item_id")
        .group_by("query_id")
        .agg(newest=pl.col("of_item").sort_by("timestamp", "place").last())
    )
    asker = (
        queries.select("query_id", "user_id")
        .join(users.select("user_id", of_user="part"), on="user_id", how="left")
        .join(newest, on="query_id", how="left")
        .select("query_id", part=pl.coalesce("of_user", "newest"))
        .drop_nulls()
    )
    faults = {}
    for name, rows in lists.items():
        placed = rows.join(asker, on="query_id").join(of_item, on="item_id", how="left")
        wrong = placed.filter(pl.col("of_item").ne_missing(pl.col("part")))
        faults[f"{name} candidates of another part than their asker"] = wrong["query_id"]
    fine = f"Candidates of {asker.height:,} queries are of the part of who asks."
    return verdict("parts", faults, fine, {"queries": asker.height})


def check_scores(
    lists: Mapping[str, pl.DataFrame], queries: pl.DataFrame, blend: pl.DataFrame
) -> Check:
    """Rankers order the blend's candidates of valid and test: all of them and nothing else.

    Args:
        lists: query_id, item_id, score, rank, by ranker.
        queries: query_id, split.
        blend: query_id, item_id.
    """
    held = queries.filter(pl.col("split").is_in(RANKED))
    due = blend.join(held, on="query_id", how="semi")
    numbers = PairNumbers(due)
    wanted = np.sort(numbers.of(due))
    faults = {}
    for name, rows in lists.items():
        theirs = rows.join(held, on="query_id", how="semi")
        place = places(numbers.of(theirs), wanted)
        missed = np.ones(len(wanted), bool)
        missed[place[place >= 0]] = False
        elsewhere = rows.join(held, on="query_id", how="anti")
        faults[f"{name} scores of queries not of valid or test"] = elsewhere["query_id"]
        faults[f"{name} scores of items that are no candidates"] = theirs["query_id"].filter(
            place < 0
        )
        faults[f"candidates that {name} did not score"] = numbers.frame(wanted[missed])["query_id"]
        faults[f"{name} scores out of order"] = disordered(rows)
    return verdict(
        "scores",
        faults,
        "Each ranker scored every candidate of valid and test, and no other.",
        {name: rows.height for name, rows in lists.items()},
    )


def check_rank_slice(
    lists: Mapping[str, pl.DataFrame], queries: pl.DataFrame, bootstrap: Bootstrap, limit: float
) -> Check:
    """Candidates of the rank slice are no easier than those of valid.

    A retriever fitted on what it answers in the rank slice finds more there than on valid, where it
    cannot have seen the answers, and rankers then learn to trust it too much. It fails when recall
    is higher by more than the limit, and surely so: the interval's low end is above it.

    Args:
        lists: query_id, item_id, score, by retriever.
        queries: query_id, targets, split; those whose targets their window knew.
        bootstrap: how intervals are made.
        limit: how much higher recall@10 or recall@100 may be.
    """
    figures: dict[str, float] = {}
    guilty = []
    split_of = queries.select("query_id", "split")
    for name, rows in lists.items():
        found = metrics.retrieval_metrics(rows, queries, (10, 100))
        found = found.join(split_of, on="query_id", maintain_order="left")
        sides = {split: found.filter(split=split) for split in ("rank", "valid")}
        for metric in ("recall@10", "recall@100"):
            excess = bootstrap.excess(sides["rank"][metric], sides["valid"][metric])
            if excess is None:
                continue
            figures[f"{name} {metric}"] = excess["mean"]
            if excess["low"] > limit:
                guilty.append(
                    f"{name} has a {metric} higher by {excess['mean']:.3f} "
                    f"({excess['low']:.3f} to {excess['high']:.3f}) on rank than on valid"
                )
    largest = max(figures.values(), default=0.0)
    fine = (
        f"No recall on rank is surely more than {limit} above that on valid, of items that the "
        f"window knew; the largest difference is {largest:+.3f}."
    )
    return Check("rank_slice", not guilty, "; ".join(guilty) or fine, figures)


def check_too_good(
    retrieved: Mapping[str, pl.DataFrame],
    ranked: Mapping[str, pl.DataFrame],
    queries: pl.DataFrame,
    limit: float,
) -> Check:
    """No system puts the target first nearly always: real questions have no such answers.

    Args:
        retrieved: query_id, item_id, score, by retriever.
        ranked: the same by ranker.
        queries: query_id, targets, split.
        limit: largest believable recall@1, and NDCG@5 of a ranker.
    """
    held = queries.filter(pl.col("split").is_in(RANKED))
    measured = {
        (name, "recall@1"): metrics.retrieval_metrics(rows, queries, (1,))
        for name, rows in retrieved.items()
    } | {
        (name, "ndcg@5"): metrics.ranking_metrics(rows, held, (5,)) for name, rows in ranked.items()
    }
    figures: dict[str, float] = {}
    guilty = []
    for (name, metric), found in measured.items():
        means = (
            found.join(queries.select("query_id", "split"), on="query_id", maintain_order="left")
            .group_by("split", maintain_order=True)
            .agg(pl.col(metric).mean().fill_null(0.0))
        )
        for split, mean in means.sort("split").iter_rows():
            figures[f"{name} {split} {metric}"] = mean
            if mean > limit:
                guilty.append(f"{name} has a {metric} of {mean:.3f} on {split}")
    best = max(figures.values(), default=0.0)
    fine = f"The best recall@1 or NDCG@5 is {best:.3f}; up to {limit} is believable."
    return Check("too_good", not guilty, "; ".join(guilty) or fine, figures)


def disordered(rows: pl.DataFrame) -> pl.Series:
    """Return the queries whose rank is not by score, then item id, from 1 without a gap."""
    ids = rows["query_id"].unique()
    query, rank = rows_of(rows["query_id"], ids), rows["rank"].to_numpy().astype(np.int64)
    held = np.bincount(query, minlength=len(ids))
    first = np.cumsum(held) - held
    row_at = np.full(rows.height + 1, -1)  # The last is for ranks that are none of the list's.
    inside = (rank >= 1) & (rank <= held[query])
    row_at[np.where(inside, first[query] + rank - 1, -1)] = np.arange(rows.height)
    row_at = row_at[:-1]
    both = (row_at[:-1] >= 0) & (row_at[1:] >= 0)
    above, below = row_at[:-1][both], row_at[1:][both]
    score = rows["score"].to_numpy()
    fine = score[below] < score[above]
    tied = np.flatnonzero(score[below] == score[above])
    items = rows["item_id"]
    fine[tied] = (items.gather(below[tied]) > items.gather(above[tied])).to_numpy()
    fine |= query[below] != query[above]
    wrong = np.concatenate([query[below[~fine]], query[~inside]])
    gaps = np.repeat(np.arange(len(ids)), held)[row_at < 0]
    return ids.gather(np.unique(np.concatenate([wrong, gaps])))
