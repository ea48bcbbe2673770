"""Learning: labels are the targets and nothing else tells them, features are of their time."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from stages.core import catalogue, metrics
from stages.core.pairs import rows_of
from stages.core.params import Examples
from stages.core.parts import Parts
from stages.core.store import content_hash
from stages.core.tables import PARTS_OF_WINDOW, WINDOW_OF_SPLIT, feature_names
from stages.evaluate.checks.verdict import Check, verdict
from stages.evaluate.figures.intervals import Bootstrap
from stages.rank.features import FeatureProgram

LABELS = frozenset(
    {"click", "conversion", "is_target", "label", "labels", "purchase", "relevance", "relevant"}
    | {"target", "targets", "y"}
)
"""Names that no feature has."""

_SAMPLE = 2000
"""Queries of a split on which features are judged."""

_REDERIVED = 200
"""Queries of a split whose features are made again."""

_TOLERANCE = 1e-5


def check_labels(examples: pl.DataFrame, queries: pl.DataFrame, blend: pl.DataFrame) -> Check:
    """Examples are the blend's candidates of every query; relevance says which are its targets.

    Args:
        examples: query_id, item_id, split, relevance.
        queries: query_id, targets, split.
        blend: query_id, item_id.
    """
    key = ["query_id", "item_id"]
    targets = queries.select("query_id", item_id="targets").explode("item_id", empty_as_null=False)
    due = examples.select(*key, "relevance").join(
        targets.unique().with_columns(due=pl.lit(1, pl.Int8)), on=key, how="left"
    )
    wrong = due.filter(pl.col("relevance") != pl.col("due").fill_null(0))
    moved = (
        examples.select("query_id", "split")
        .unique()
        .join(queries.select("query_id", "split"), on=["query_id", "split"], how="anti")
    )
    return verdict(
        "labels",
        {
            "labels that are not whether the item is a target": wrong["query_id"],
            "queries of examples that are not in that split": moved["query_id"],
            "examples that are no candidates": examples.join(blend, on=key, how="anti")["query_id"],
            "candidates that are no examples": blend.join(examples, on=key, how="anti")["query_id"],
        },
        f"{examples.height:,} examples are the blend's candidates, "
        f"{examples['relevance'].sum():,} of them targets.",
        {"examples": examples.height, "relevant": int(examples["relevance"].sum())},
    )


def check_label_features(examples: pl.DataFrame, limit: float) -> Check:
    """No feature is a label: none is called one, and none tells targets from others by itself.

    A feature's AUC is the mean over queries, either way round, a null standing below every value.

    Args:
        examples: the examples table.
        limit: largest believable AUC of one feature.
    """
    names = feature_names(examples)
    guilty = [f"{name} is the name of a label" for name in names if name.lower() in LABELS]
    judged = [name for name in names if examples.schema[name].is_numeric()]
    worst: dict[str, float] = {}
    for split in WINDOW_OF_SPLIT:
        part = _sampled(_learnable(examples.filter(split=split)), _SAMPLE)
        if part.is_empty():
            continue
        for name, auc in _feature_aucs(part, judged).items():
            worst[name] = max(worst.get(name, 0.5), auc, 1 - auc)
    guilty += [
        f"{name} alone has an AUC of {auc:.4f}" for name, auc in worst.items() if auc > limit
    ]
    best = max(worst, key=lambda name: (worst[name], name), default=None)
    told = f"; the most telling, {best}, has an AUC of {worst[best]:.4f}" if best else ""
    fine = f"None of {len(names)} features is a label{told}; up to {limit} is believable."
    return Check("label_features", not guilty, "; ".join(guilty) or fine, worst)


def check_features(
    examples: pl.DataFrame,
    items: pl.DataFrame,
    events: pl.DataFrame,
    documents: pl.DataFrame,
    queries: pl.DataFrame,
    candidates: pl.DataFrame,
    blend: pl.DataFrame,
    params: Examples,
    properties: pl.DataFrame,
    retrievers: Sequence[str],
    parts: Parts | None = None,
) -> Check:
    """Features are those that the window behind their query, and the query's own past, give.

    Twice: events before a query are counted here, and all features are made again by a program
    fitted on the window's events alone, for some queries of each split.

    Args:
        examples: the examples table.
        items: the items table.
        events: the split events.
        documents: the documents table.
        queries: the queries table.
        candidates: of all retrievers.
        blend: the blended candidates.
        params: of the feature program.
        properties: of items, as the windows knew them.
        retrievers: names of all that ran, whether they found anything or not.
        parts: of the shop; None where it is one.
    """
    faults: dict[str, pl.Series] = {}
    checked = 0
    names = feature_names(examples)
    for window, held in PARTS_OF_WINDOW.items():
        behind = events.filter(pl.col("split").is_in(held))
        splits = [split for split, own in WINDOW_OF_SPLIT.items() if own == window]
        asked = pl.concat(
            [
                _sampled(examples.filter(split=split), _REDERIVED).select("query_id").unique()
                for split in splits
            ]
        )
        chosen = queries.join(asked, on="query_id", how="semi").sort("query_id")
        if chosen.is_empty():
            continue
        rows = examples.join(asked, on="query_id", how="semi").sort("query_id", "item_id")
        program = FeatureProgram(params, retrievers)
        known = catalogue.of_window(items, properties, window)
        program.fit(known, documents.filter(window=window), behind, parts)
        mine = candidates.join(asked, on="query_id", how="semi")
        theirs = blend.join(asked, on="query_id", how="semi")
        due = program.transform(chosen, mine, theirs).sort("query_id", "item_id")
        counted = {
            "item_events": _counts(rows, chosen, behind),
            "user_history": _past(rows, chosen, events).clip(upper_bound=params.max_history),
        }
        for name, values in counted.items():
            if name in names:
                wrong = rows.filter(_differs(rows[name], values))
                faults[f"examples of window {window} whose {name} is not the count"] = wrong[
                    "query_id"
                ]
        for name in names:
            what = f"examples of window {window} whose {name} is made of something else"
            if name not in due.columns:
                faults[what] = rows["query_id"]
            elif rows.height == due.height:
                faults[what] = rows.filter(_differs(rows[name], due[name]))["query_id"]
        checked += rows.height
    return verdict(
        "features",
        faults,
        f"{len(names)} features of {checked:,} examples, made again, are the same.",
        {"features": len(names), "examples": checked},
    )


def check_shuffled(
    examples: pl.DataFrame,
    queries: pl.DataFrame,
    bootstrap: Bootstrap,
    limit: float,
) -> Check:
    """Labels shuffled inside each query cannot be learned.

    A query's shuffled labels are drawn from its words (from its user and past when it has none), so
    a query that stands in two splits has the same ones in both. A model that fits those of the rank
    slice and then tells those of valid has met valid's queries while learning, or the AUC is
    measured wrongly. It fails when that AUC is over the limit and surely over one half.

    Args:
        examples: the examples table.
        queries: query_id, user_id, text, history.
        bootstrap: how the interval is made, and the seed of the shuffle.
        limit: largest believable AUC.
    """
    import lightgbm

    names = [name for name in feature_names(examples) if examples.schema[name].is_numeric()]
    sides = {
        split: _shuffled(_learnable(examples.filter(split=split)), queries, bootstrap.seed)
        for split in ("rank", "valid")
    }
    if any(side.is_empty() for side in sides.values()) or not names:
        return Check("shuffled", True, "No query of rank or valid has its target to judge by.")
    learned = sides["rank"]
    options: dict[str, Any] = {
        "objective": "binary",
        "num_leaves": 63,
        "min_data_in_leaf": 2,
        "learning_rate": 0.2,
        "num_threads": 1,
        "deterministic": True,
        "force_row_wise": True,
        "seed": bootstrap.seed,
        "verbosity": -1,
    }
    data = lightgbm.Dataset(_matrix(learned, names), learned["shuffled"].to_numpy())
    model = lightgbm.train(options, data, num_boost_round=60)
    held = sides["valid"]
    predicted = np.asarray(model.predict(_matrix(held, names), num_threads=1))
    lists = held.select("query_id", "item_id", score=pl.Series(predicted))
    drawn = held.group_by("query_id", maintain_order=True).agg(
        targets=pl.col("item_id").filter(pl.col("shuffled") == 1)
    )
    found = metrics.group_auc(lists, drawn)
    if found.is_empty():
        return Check("shuffled", True, "No query of valid has anything but targets to judge by.")
    auc = bootstrap.of({"shuffled": found.select("query_id", "auc")})["shuffled"]["auc"]
    words = f"AUC {auc['mean']:.3f} ({auc['low']:.3f} to {auc['high']:.3f})"
    if auc["mean"] > limit and auc["low"] > 0.5:
        message = f"shuffled labels are known with {words}: rank and valid share queries"
        return Check("shuffled", False, message, dict(auc))
    message = f"Shuffled labels are guessed with {words}; up to {limit} is believable."
    return Check("shuffled", True, message, dict(auc))


def check_encoder(finetune: dict[str, Any], pairs: pl.DataFrame) -> Check:
    """The tuned encoder learned from window `fit`, from the pairs that are here.

    Args:
        finetune: `metrics/finetune.json`, empty when there is none.
        pairs: the pairs table.
    """
    guilty = []
    window, count = finetune.get("window", "fit"), finetune.get("pairs", pairs.height)
    if window != "fit":
        guilty.append(f"the encoder was tuned on window {window}, and fit is what it may see")
    if count != pairs.height:
        guilty.append(f"the encoder was tuned on {count} pairs, and there are {pairs.height}")
    kept = finetune.get("kept", "base")
    fine = f"The {kept} encoder answers; tuning saw window fit."
    if kept == "none":
        fine = "There is no encoder."
    return Check("encoder", not guilty, "; ".join(guilty) or fine, {"pairs": pairs.height})


def _learnable(examples: pl.DataFrame) -> pl.DataFrame:
    """Keep the queries that have both a target and another item."""
    relevance = pl.col("relevance")
    both = (
        examples.select("query_id", "relevance")
        .group_by("query_id")
        .agg(some=relevance.max() > 0, others=relevance.min() == 0)
        .filter("some", "others")
    )
    return examples.join(both, on="query_id", how="semi", maintain_order="left")


def _sampled(examples: pl.DataFrame, count: int) -> pl.DataFrame:
    """Keep every n-th query, at most `count` of them."""
    ids = examples.select(pl.col("query_id").unique().sort())
    return examples.join(
        ids.gather_every(max(-(-ids.height // count), 1)), on="query_id", how="semi"
    )


def _feature_aucs(examples: pl.DataFrame, names: Sequence[str]) -> dict[str, float]:
    """Return the mean AUC over queries of each feature, ties one half."""
    label = pl.col("relevance") == 1
    values = [
        pl.col(name).cast(pl.Float64).fill_nan(None).fill_null(float("-inf")) for name in names
    ]
    standing = examples.select(
        "query_id", "relevance", *(v.rank("average").over("query_id") for v in values)
    )
    found, others = label.sum(), (~label).sum()
    won = [pl.col(name).filter(label).sum() - found * (found + 1) / 2 for name in names]
    aucs = standing.group_by("query_id", maintain_order=True).agg(
        (w / (found * others)).alias(name) for w, name in zip(won, names, strict=True)
    )
    return {name: float(aucs.select(pl.col(name).mean()).item()) for name in names}


def _shuffled(examples: pl.DataFrame, queries: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Add `shuffled`: as many targets a query as it has, drawn by a hash of query and item.

    By hashes of BLAKE2: every process and every version of the libraries draws the same.
    """
    past = pl.col("history").list.eval(pl.element().struct.field("item_id")).list.join(" ")
    content = queries.join(examples, on="query_id", how="semi").select(
        "query_id",
        content=pl.when(pl.col("text").str.len_chars() > 0)
        .then("text")
        .otherwise(pl.concat_str(pl.col("user_id").fill_null(""), past)),
    )
    draws = [content_hash(seed, words) for words in content["content"]]
    drawn = content.with_columns(draw=pl.Series(draws, dtype=pl.String))
    drawn = drawn.sort("draw", "query_id").head(_SAMPLE)
    frame = examples.join(drawn, on="query_id", maintain_order="left")
    frame = frame.with_columns(place=_mixed(_numbered(frame["draw"]), _numbered(frame["item_id"])))
    chosen = pl.col("place").rank("ordinal").over("query_id") <= pl.col("relevance").sum().over(
        "query_id"
    )
    return frame.with_columns(shuffled=chosen.cast(pl.Int8))


def _numbered(words: pl.Series) -> np.ndarray:
    """A number of 64 bits for each text, the same for the same."""
    every = words.unique().sort()
    numbers = [int(content_hash(word)[:16], 16) for word in every]
    return np.array(numbers, np.uint64)[rows_of(words, every)]


def _mixed(a: np.ndarray, b: np.ndarray) -> pl.Series:
    """A number for each pair of numbers, as if drawn (SplitMix64; Steele et al., 2014)."""
    mixed = a + b * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return pl.Series(mixed ^ (mixed >> np.uint64(31)))


def _matrix(examples: pl.DataFrame, names: Sequence[str]) -> Any:
    return examples.select(pl.col(name).cast(pl.Float32) for name in names).to_numpy()


def _counts(rows: pl.DataFrame, queries: pl.DataFrame, events: pl.DataFrame) -> pl.Series:
    """Count each item's events before the query, one behind the other."""
    counted = events.select("item_id", "timestamp").sort("timestamp")
    counted = counted.with_columns(count=pl.int_range(1, pl.len() + 1).over("item_id"))
    asked = rows.select("query_id", "item_id", row=pl.int_range(pl.len()))
    asked = asked.join(queries.select("query_id", "timestamp"), on="query_id")
    before = asked.sort("timestamp").join_asof(
        counted,
        on="timestamp",
        by="item_id",
        strategy="backward",
        allow_exact_matches=False,
        check_sortedness=False,
    )
    return before.sort("row")["count"].fill_null(0)


def _past(rows: pl.DataFrame, queries: pl.DataFrame, events: pl.DataFrame) -> pl.Series:
    counts = (
        queries.select("query_id", "user_id", at="timestamp")
        .join(events.select("user_id", "timestamp"), on="user_id")
        .filter(pl.col("timestamp") < pl.col("at"))
        .group_by("query_id")
        .len("count")
    )
    return rows.join(counts, on="query_id", how="left", maintain_order="left")["count"].fill_null(0)


def _differs(found: pl.Series, due: pl.Series) -> pl.Series:
    sides = pl.DataFrame({"found": found.cast(pl.Float64), "due": due.cast(pl.Float64)})
    sides = sides.with_columns(pl.all().fill_nan(None))
    scale = _TOLERANCE * (1 + pl.col("due").abs())
    far = (pl.col("found") - pl.col("due")).abs() > scale
    odd = pl.col("found").is_null() != pl.col("due").is_null()
    return sides.select(odd | far.fill_null(False)).to_series()
