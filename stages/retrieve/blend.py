"""Blend: every retriever's candidates in, one joined list a query out, weights set or tuned."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import polars as pl
import typer

from stages.core import files, tables
from stages.core.log import get_logger, run
from stages.core.params import Blend, load_params
from stages.core.storage import atomic_file
from stages.retrieve.blending.fusion import Contributions, Fusion, ndcg_of_weights, simplex

log = get_logger(__name__)


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
    parts: Contributions, valid: pl.DataFrame, names: Sequence[str], params: Blend
) -> tuple[Fusion, float]:
    """Take the weights that are set, else those of largest NDCG@10 on valid.

    Among equals those nearest to even. A retriever that adds nothing to any valid query weighs 0.

    Args:
        parts: contributions of all retrievers, by this method, to any queries.
        valid: the valid queries.
        names: the retrievers to weigh.
        params: method, grid, and the weights where they are set.

    Returns:
        the fusion, and its NDCG@10.
    """
    start = evenly(names, params) if params.weights is None else as_set(params.weights, params)
    if valid.is_empty():
        return start, float("nan")
    targets = valid.select("query_id", item_id="targets")
    targets = targets.explode("item_id", empty_as_null=False).unique()
    if params.weights is not None:
        return start, float(ndcg_of_weights(start, parts, targets, [start.weights])[0])
    asked = parts.numbers.query_ids.is_in(valid["query_id"].implode()).to_numpy()
    adds = parts.values[asked[parts.query]].any(axis=0)
    answering = [name for name, some in zip(sorted(names), adds, strict=True) if some] or names
    none = dict.fromkeys(names, 0.0)
    grid = [none | weights for weights in simplex(answering, params.grid)]
    means = ndcg_of_weights(start, parts, targets, grid)
    unevenness = np.array([sum(weight**2 for weight in weights.values()) for weights in grid])
    best = int(np.lexsort((unevenness, -means.round(9)))[0])
    return replace(start, weights=grid[best], origin="tuned"), float(means[best])


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
    candidates = tables.read_folder(candidates_folder, names, tables.CANDIDATES)
    parts = evenly(names, params.blend).contributions(candidates)
    fusion, ndcg = choose(parts, queries.filter(split="valid"), names, params.blend)
    blended = fusion.best(parts, params.candidates.top_k)
    tables.write(blended, blend_file, tables.CANDIDATES)
    with atomic_file(model_file) as temporary:
        fusion.save(temporary)
    log.info(
        "%s, weights %s, %s: NDCG@10 on valid %.4f, %d rows",
        *(fusion.method, fusion.origin, fusion.weights, ndcg, blended.height),
    )


if __name__ == "__main__":
    run(main)
