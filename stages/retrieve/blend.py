"""Blend: every retriever's candidates in, one joined list a query out, weights set or tuned."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import polars as pl
import typer

from stages.core import files, tables
from stages.core.by_query import ByQuery, pieces
from stages.core.log import get_logger, run
from stages.core.params import Blend, load_params
from stages.core.storage import atomic_file
from stages.core.threads import side_by_side
from stages.retrieve.blending.fusion import Contributions, Fusion, figures_of, simplex

log = get_logger(__name__)

_CHUNK = 5_000
"""Queries whose candidates are joined in one piece."""


def evenly(names: Sequence[str], params: Blend) -> Fusion:
    """Return the fusion in which all retrievers weigh alike."""
    weights = dict.fromkeys(names, round(1 / len(names), 6))
    return Fusion(params.method, weights, params.rrf_k, "even")


def as_set(weights: Mapping[str, float], params: Blend) -> Fusion:
    """Return the fusion by weights that are set, as shares of one.

    Shares, because what a weight of 0 still decides is small beside 1; of six places, as `save`
    writes them, so that the service joins by the same.
    """
    total = sum(weights.values())
    shares = {name: round(weights[name] / total, 6) for name in sorted(weights)}
    return Fusion(params.method, shares, params.rrf_k, "set")


def choose(
    parts: Contributions, valid: pl.DataFrame, names: Sequence[str], params: Blend, depth: int
) -> tuple[Fusion, float, float]:
    """Take the weights that are set, else those of largest NDCG@10 on valid.

    Among equals those nearest to even. A retriever that adds nothing to any valid query weighs 0.
    With `head` these order the list's first ranks, and its tail has the weights of largest recall
    at `depth`, where on valid that list finds more.

    Args:
        parts: contributions of all retrievers, by this method, to any queries.
        valid: the valid queries.
        names: the retrievers to weigh.
        params: method, grid, head, and the weights where they are set.
        depth: candidates a query.

    Returns:
        the fusion, its NDCG@10 and its recall at `depth`.
    """
    start = evenly(names, params) if params.weights is None else as_set(params.weights, params)
    if valid.is_empty():
        return start, float("nan"), float("nan")
    targets = valid.select("query_id", item_id="targets")
    targets = targets.explode("item_id", empty_as_null=False).unique()
    if params.weights is not None:
        ndcg, recall = figures_of([start], parts, targets, depth)
        return start, float(ndcg[0]), float(recall[0])
    asked = parts.numbers.query_ids.is_in(valid["query_id"].implode()).to_numpy()
    adds = parts.values[asked[parts.query]].any(axis=0)
    answering = [name for name, some in zip(sorted(names), adds, strict=True) if some] or names
    none = dict.fromkeys(names, 0.0)
    grid = [none | weights for weights in simplex(answering, params.grid)]
    tuned = [replace(start, weights=weights, origin="tuned") for weights in grid]
    ndcg, recall = figures_of(tuned, parts, targets, depth)
    unevenness = np.array([sum(weight**2 for weight in weights.values()) for weights in grid])
    best, widest = (int(np.lexsort((unevenness, -means.round(9)))[0]) for means in (ndcg, recall))
    chosen = tuned[best], float(ndcg[best]), float(recall[best])
    if params.head is None or recall[widest] <= recall[best]:
        return chosen
    with_tail = replace(tuned[best], head=params.head, tail=grid[widest])
    (its_ndcg,), (its_recall,) = figures_of([with_tail], parts, targets, depth)
    return (with_tail, float(its_ndcg), float(its_recall)) if its_recall > recall[best] else chosen


def main(
    params_file: Annotated[Path, typer.Option("--params")] = files.PARAMS,
    queries_file: Path = files.QUERIES,
    candidates_folder: Path = files.CANDIDATES,
    blend_file: Path = files.BLEND,
    model_file: Path = files.BLEND_MODEL,
) -> None:
    """Set the weights or tune them on valid; join the candidates of every split with them."""
    params = load_params(params_file)
    names = sorted(params.retrievers)
    queries = tables.read(queries_file, tables.QUERIES)
    lists = [candidates_folder / f"{name}.parquet" for name in names]
    candidates = ByQuery([tables.read(path, tables.CANDIDATES) for path in lists])
    depth = params.candidates.top_k
    valid = queries.filter(split="valid")
    parts = evenly(names, params.blend).contributions(candidates.of(valid))
    fusion, ndcg, recall = choose(parts, valid, names, params.blend, depth)
    blended = pl.concat(
        side_by_side(lambda some: fusion.blend(candidates.of(some), depth), pieces(queries, _CHUNK))
    )
    tables.write(blended, blend_file, tables.CANDIDATES)
    with atomic_file(model_file) as temporary:
        fusion.save(temporary)
    log.info(
        "%s, weights %s, %s%s: NDCG@10 on valid %.4f, recall@%d %.4f, %d rows",
        *(fusion.method, fusion.origin, fusion.weights),
        "" if fusion.tail is None else f", from rank {fusion.head + 1} {fusion.tail}",
        *(ndcg, depth, recall, blended.height),
    )


if __name__ == "__main__":
    run(main)
