"""Audit: the outputs of every stage in, a verdict on each way in which the future may leak out."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from stages.core import files, tables
from stages.core.log import UserError, get_logger, run
from stages.core.params import RetrieverName, load_params
from stages.core.parts import Parts
from stages.core.storage import read_json, write_json
from stages.core.threads import side_by_side
from stages.evaluate.checks.verdict import Check

log = get_logger(__name__)

_IDS = {"popular": "hot", "item_knn": "items", "als": "items"}
"""The file of each retriever that holds the ids of the items that it knows by their events."""


def read_ids(folder: Path, names: list[RetrieverName]) -> dict[tuple[str, str], pl.DataFrame]:
    """Return kind and id of what each retriever knows by its id, by retriever and window."""
    from stages.retrieve.retrievers import folders_of

    found: dict[tuple[str, str], pl.DataFrame] = {}
    none = pl.DataFrame(schema={"item_id": pl.String})
    for name in names:
        for window in tables.WINDOWS:
            if name in _IDS:
                fitted = folders_of(folder / name / window)
                known = [pl.read_parquet(one / f"{_IDS[name]}.parquet") for one in fitted]
                ids = pl.concat([none, *(one.select("item_id") for one in known)])
                found[name, window] = ids.select(pl.lit("item").alias("kind"), id="item_id")
            elif name == "two_tower":
                slots = pl.read_parquet(folder / name / window / "slots.parquet")
                kind = pl.col("column").replace_strict(
                    {"item.item_id": "item", "user.user_id": "user"}, default=None
                )
                found[name, window] = slots.select(kind=kind, id="value").drop_nulls()
    return found


def read_drawn(folder: Path, names: list[RetrieverName]) -> dict[tuple[str, str], pl.DataFrame]:
    """Return item_id and events of what two_tower draws negatives from, by window."""
    return {
        (name, window): pl.read_parquet(folder / name / window / "items.parquet")
        for name in names
        if name == "two_tower"
        for window in tables.WINDOWS
    }


def read_passed_over(
    folder: Path, names: list[RetrieverName]
) -> dict[tuple[str, str], pl.DataFrame]:
    """Return item_id, users and digest of what two_tower draws as passed over, by window."""
    return {
        (name, window): pl.read_parquet(folder / name / window / "shown.parquet")
        for name in names
        if name == "two_tower"
        for window in tables.WINDOWS
    }


def main(
    params_file: Annotated[Path, typer.Option("--params")] = files.PARAMS,
    items_file: Path = files.ITEMS,
    users_file: Path = files.USERS,
    properties_file: Path = files.PROPERTIES,
    known_file: Path = files.SPLIT_PROPERTIES,
    impressions_file: Path = files.IMPRESSIONS,
    events_file: Path = files.SPLIT_EVENTS,
    cuts_file: Path = files.CUTS,
    queries_file: Path = files.QUERIES,
    keywords_file: Path = files.KEYWORDS,
    summaries_file: Path = files.SUMMARIES,
    documents_file: Path = files.DOCUMENTS,
    pairs_file: Path = files.PAIRS,
    pictures_file: Path = files.PICTURE_VECTORS,
    retrievers_folder: Path = files.RETRIEVERS,
    candidates_folder: Path = files.CANDIDATES,
    blend_file: Path = files.BLEND,
    examples_file: Path = files.EXAMPLES,
    scores_folder: Path = files.SCORES,
    finetune_file: Path = files.METRICS / "finetune.json",
    audit_file: Path = files.METRICS / "audit.json",
) -> None:
    """Run every check, write what each saw, and fail if one fails."""
    from stages.evaluate.checks import behaviour, learning, lists, texts, time
    from stages.evaluate.figures.intervals import Bootstrap
    from stages.evaluate.figures.slices import warm_queries

    params = load_params(params_file)
    limits = params.audit
    bootstrap = Bootstrap(params.evaluate, params.seed)
    items = tables.read(items_file, tables.ITEMS)
    users = tables.read(users_file, tables.USERS)
    properties = tables.read(properties_file, tables.PROPERTIES)
    known = tables.read(known_file, tables.SPLIT_PROPERTIES)
    impressions = tables.read(impressions_file, tables.IMPRESSIONS)
    events = tables.read(events_file, tables.SPLIT_EVENTS)
    queries = tables.read(queries_file, tables.QUERIES)
    keywords = tables.read(keywords_file, tables.KEYWORDS)
    summaries = tables.read(summaries_file, tables.SUMMARIES)
    documents = tables.read(documents_file, tables.DOCUMENTS)
    pairs = tables.read(pairs_file, tables.PAIRS)
    pictures = tables.read(pictures_file, tables.PICTURE_VECTORS, ["item_id"])
    names = sorted(params.retrievers)
    candidates = tables.read_folder(candidates_folder, names, tables.CANDIDATES)
    blend = tables.read(blend_file, tables.CANDIDATES)
    examples = tables.read(examples_file, tables.EXAMPLES)
    retrieved: dict[str, pl.DataFrame] = {n: candidates.filter(retriever=n) for n in names}
    retrieved["blend"] = blend
    ranked: dict[str, pl.DataFrame] = {
        name: tables.read(scores_folder / f"{name}.parquet", tables.SCORES)
        for name in params.rankers
    }
    finetune = read_json(finetune_file) if finetune_file.exists() else {}

    cuts = read_json(cuts_file)
    parts = Parts.of(items, users)
    warm = warm_queries(queries, events, items)
    due: list[Callable[[], Check]] = [
        partial(time.check_cuts, events, cuts, parts),
        partial(time.check_queries, queries, events, cuts, parts),
        partial(time.check_history, queries, events),
        partial(time.check_properties, known, properties, events, parts),
        partial(
            texts.check_documents,
            *(documents, items, events, keywords, summaries, params.documents, known),
        ),
        partial(texts.check_pairs, pairs, items, events, keywords, documents),
        partial(texts.check_copies, queries, events),
        partial(learning.check_encoder, finetune, pairs),
        partial(
            lists.check_candidates,
            *(retrieved, queries, documents, events, pictures, items, known),
        ),
        partial(lists.check_parts, retrieved, queries, items, users),
        partial(
            behaviour.check_hotness,
            *(retrieved.get("popular"), queries, events, impressions, params.fit.popular),
            *(items, known, users, cuts["method"] != "leave_last_out"),
        ),
        partial(
            behaviour.check_vocabularies, read_ids(retrievers_folder, params.retrievers), events
        ),
        partial(
            behaviour.check_negatives, read_drawn(retrievers_folder, params.retrievers), events
        ),
        partial(
            behaviour.check_passed_over,
            read_passed_over(retrievers_folder, params.retrievers),
            *(impressions, events, items, users, params.fit.two_tower.shown > 0, parts),
        ),
        partial(lists.check_rank_slice, retrieved, warm, bootstrap, limits.max_rank_excess),
        partial(learning.check_labels, examples, queries, blend),
        partial(learning.check_label_features, examples, limits.max_feature_auc),
        partial(
            learning.check_features,
            *(examples, items, events, documents, queries, candidates, blend),
            *(params.examples, known, params.retrievers, parts),
        ),
        partial(learning.check_shuffled, examples, queries, bootstrap, limits.max_shuffled_auc),
        partial(lists.check_scores, ranked, queries, blend),
        partial(lists.check_too_good, retrieved, ranked, queries, limits.max_recall_at_1),
    ]
    checks = list(side_by_side(lambda check: check(), due))
    failed = [check for check in checks if not check.passed]
    write_json(audit_file, {"failed": len(failed), "checks": [vars(check) for check in checks]})
    for check in checks:
        verdict = "fails" if not check.passed else "warns" if check.warning else "passes"
        log.info("%s %s: %s", check.name, verdict, check.message)
    if failed:
        said = "; ".join(f"{check.name}: {check.message.partition('; ')[0]}" for check in failed)
        raise UserError(f"{len(failed)} of {len(checks)} checks fail: {said}; see {audit_file}")


if __name__ == "__main__":
    run(main)
