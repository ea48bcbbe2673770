"""Evaluate: queries, candidates and scores in, every figure with its interval out."""

from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from stages.core import files, tables
from stages.core.log import get_logger, progress, run
from stages.core.params import load_params
from stages.core.storage import write_json
from stages.core.threads import side_by_side

log = get_logger(__name__)

SPLITS = tuple(tables.WINDOW_OF_SPLIT)
RANKED = ("valid", "test")


def main(
    params_file: Annotated[Path, typer.Option("--params")] = files.PARAMS,
    items_file: Path = files.ITEMS,
    events_file: Path = files.SPLIT_EVENTS,
    queries_file: Path = files.QUERIES,
    candidates_folder: Path = files.CANDIDATES,
    blend_file: Path = files.BLEND,
    scores_folder: Path = files.SCORES,
    retrievers_folder: Path = files.RETRIEVERS,
    metrics_folder: Path = files.METRICS,
    plots_folder: Path = files.PLOTS,
) -> None:
    """Measure every retriever and every ranker on the held-out queries."""
    from stages.core import metrics
    from stages.evaluate.figures import measures, plots
    from stages.evaluate.figures.intervals import Bootstrap, Figures
    from stages.evaluate.figures.slices import slices_of, warm_queries

    params = load_params(params_file)
    bootstrap = Bootstrap(params.evaluate, params.seed)
    queries = tables.read(queries_file, tables.QUERIES)
    asked = {split: queries.filter(split=split).sort("query_id") for split in SPLITS}
    items = tables.read(items_file, tables.ITEMS, ["item_id"])
    events = tables.read(events_file, tables.SPLIT_EVENTS, ["user_id", "item_id", "split"])
    columns = ["query_id", "item_id", "score", "rank"]

    retrieved: measures.Measured = {split: {} for split in SPLITS}
    coverage: dict[str, dict[str, Figures]] = {split: {} for split in SPLITS}
    sources: dict[str, Path] = {n: candidates_folder / f"{n}.parquet" for n in params.retrievers}
    sources[measures.BLEND] = blend_file
    alone: measures.Measured = {split: {} for split in RANKED}

    def measured(name: str) -> list[tuple[str, pl.DataFrame, Figures, pl.DataFrame | None]]:
        """Return for each split what the retriever finds, covers and, alone, is as a ranker."""
        lists = tables.read(sources[name], tables.CANDIDATES, columns)
        made = []
        for split, part in asked.items():
            own = lists.join(part.select("query_id"), on="query_id", how="semi")
            rows = metrics.hits(own, part)
            covered = measures.covered(own, items.height) if part.height else {}
            as_ranker = split in RANKED and name != measures.BLEND
            ranks = metrics.ranking_of(rows) if as_ranker else None
            made.append((split, metrics.retrieval_of(rows), covered, ranks))
        return made

    done = progress(side_by_side(measured, sources), total=len(sources), desc="retrievers")
    for name, of_splits in zip(sources, done, strict=True):
        for split, frame, covered, ranks in of_splits:
            retrieved[split][name], coverage[split][name] = frame, covered
            if ranks is not None:
                alone[split][name] = ranks
    found = {split: bootstrap.of(frames) for split, frames in retrieved.items()}
    retrieval = measures.by_system(
        {s: {n: figures | coverage[s][n] for n, figures in f.items()} for s, f in found.items()}
    )

    ranked: measures.Measured = {split: {} for split in RANKED}
    ceilings = {}
    judged: dict[str, dict[str, Figures]] = {split: {} for split in RANKED}
    rankers: dict[str, Path] = {measures.BLEND: blend_file}
    rankers |= {name: scores_folder / f"{name}.parquet" for name in params.rankers}

    def weighed(name: str) -> list[tuple[str, pl.DataFrame, Figures, pl.DataFrame | None]]:
        """Return for each split how the ranker orders, its figures and, of the blend, the best."""
        table = tables.CANDIDATES if name == measures.BLEND else tables.SCORES
        lists = tables.read(rankers[name], table, columns)
        made = []
        for split in RANKED:
            own = lists.join(asked[split].select("query_id"), on="query_id", how="semi")
            frame = metrics.ranking_metrics(own, asked[split])
            figures = measures.ranking_figures(own, asked[split], frame, bootstrap)
            is_blend = name == measures.BLEND
            ceiling = metrics.ranking_ceiling(own, asked[split]) if is_blend else None
            made.append((split, frame, figures, ceiling))
        return made

    done = progress(side_by_side(weighed, rankers), total=len(rankers), desc="rankers")
    for name, of_splits in zip(rankers, done, strict=True):
        for split, frame, figures, ceiling in of_splits:
            ranked[split][name], judged[split][name] = frame, figures
            if ceiling is not None:
                ceilings[split] = ceiling
    ranking = measures.by_system(judged)

    retrievers = measures.retriever_pairs(sources, retrieved["valid"])
    against = measures.ranker_pairs(ranked["valid"])
    best = measures.best_alone(alone)
    over_best = [(name, best) for name in ranked["valid"]]
    comparisons: dict[str, Any] = {}
    slices: dict[str, Any] = {}
    lost: dict[str, Any] = {}
    for split in RANKED:
        first, second = retrieved[split], ranked[split]
        comparisons[split] = {
            "retrieval": bootstrap.differences(first, retrievers, metrics.RETRIEVAL),
            "ranking": bootstrap.differences(second, against, metrics.RANKING),
            "over_best_retriever": bootstrap.differences(
                second | {best: alone[split][best]}, over_best, metrics.RANKING
            ),
        }
        parts = slices_of(queries, events, items, split, params.evaluate.tail)
        both = {"retrieval": first, "ranking": second}
        slices[split] = measures.slice_figures(parts, both, bootstrap)
        lost[split] = measures.attribution(second, ceilings[split], first, bootstrap)

    warm = warm_queries(queries, events, items).select("query_id")
    every = {
        name: {s: retrieved[s][name].join(warm, on="query_id", how="semi") for s in SPLITS}
        for name in sources
    }
    write_json(metrics_folder / "retrieval.json", retrieval)
    write_json(metrics_folder / "ranking.json", ranking)
    details = {
        "best_retriever": {
            split: bootstrap.of({best: frames[best]}) for split, frames in alone.items()
        },
        "comparisons": comparisons,
        "slices": slices,
        "attribution": lost,
        "rank_slice": measures.rank_slice(every, bootstrap),
    }
    write_json(metrics_folder / "details.json", details)
    plots.write_csv(plots.recall_curve(retrieval), plots_folder / "recall.csv")
    plots.write_csv(plots.ranking_bars(ranking), plots_folder / "ranking.csv")
    towers = plots.towers_curve(retrievers_folder, params.retrievers)
    plots.write_csv(towers, plots_folder / "two_tower.csv")
    counts = ", ".join(f"{split} {part.height}" for split, part in asked.items())
    log.info("queries: %s; %d retrievers, %d rankers", counts, len(sources), len(rankers) - 1)


if __name__ == "__main__":
    run(main)
