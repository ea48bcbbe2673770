"""Did tuning help? Both encoders on valid, and the sample that is measured while training."""

from typing import Any

import numpy as np
import polars as pl

from stages.core.metrics import interval, paired_difference
from stages.core.params import Evaluate
from stages.encode.encoders import CachedEncoder

GATE_METRIC = "ndcg@10"


def reciprocal_gain(ranks: np.ndarray, cut: int = 10) -> np.ndarray:
    """NDCG at `cut` of queries with one target each, from the target's rank (1 is first)."""
    return np.where(ranks <= cut, 1 / np.log2(ranks + 1), 0.0)


def target_ranks(queries: np.ndarray, documents: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Rank of each query's target document by inner product; those that score the same come first.

    Args:
        queries: shape (n, d).
        documents: shape (m, d).
        targets: row of the target document of each query.
    """
    ranks = np.empty(len(queries), np.int64)
    for start in range(0, len(queries), 512):
        scores = queries[start : start + 512] @ documents.T
        own = scores[np.arange(len(scores)), targets[start : start + 512]]
        ranks[start : start + 512] = (scores >= own[:, None]).sum(axis=1)
    return ranks


def with_target_row(queries: pl.DataFrame, documents: pl.DataFrame) -> pl.DataFrame:
    """Keep the queries whose target has a document, with its row number as `target`."""
    rows = documents.select(pl.col("item_id"), target=pl.int_range(pl.len()))
    return queries.select("query_id", "text", item_id=pl.col("targets").list.first()).join(
        rows, on="item_id", how="inner", maintain_order="left"
    )


def sample_for_evaluation(
    queries: pl.DataFrame, documents: pl.DataFrame, count: int, seed: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Draw `count` queries and, for them, their targets' documents and as many others."""
    drawn = queries.sample(min(count, queries.height), seed=seed)
    needed = documents.filter(pl.col("item_id").is_in(drawn["item_id"].implode()))
    others = documents.filter(~pl.col("item_id").is_in(drawn["item_id"].implode()))
    others = others.sample(min(count, others.height), seed=seed)
    kept = pl.concat([needed, others]).sort("item_id")
    return with_target_row(drawn.with_columns(targets=pl.concat_list("item_id")), kept), kept


def recall_at_10(model: Any, queries: pl.DataFrame, documents: pl.DataFrame) -> float:
    """Recall@10 of `model` on sampled queries and documents, each document read once."""
    options = {"normalize_embeddings": True, "show_progress_bar": False, "batch_size": 64}
    q = model.encode_query(queries["text"].to_list(), **options)
    d = model.encode_document(documents["text"].to_list(), **options)
    ranks = target_ranks(q, d, queries["target"].to_numpy())
    return float((ranks <= 10).mean())


def gains(encoder: CachedEncoder, queries: pl.DataFrame, documents: pl.DataFrame) -> np.ndarray:
    """The gate's metric for every valid query over all documents of window `train`."""
    q = encoder.encode(queries["text"].to_list(), "query").dense
    d = encoder.encode_documents(documents["text"].to_list()).dense
    return reciprocal_gain(target_ranks(q, d, queries["target"].to_numpy()))


def compare(before: np.ndarray, after: np.ndarray, params: Evaluate, seed: int) -> dict[str, Any]:
    """Return the gate's metric of both encoders, their paired difference, and which is kept."""
    settings: dict[str, Any] = {
        "resamples": params.bootstrap,
        "level": params.level,
        "seed": seed,
    }
    difference = paired_difference(after, before, **settings)
    return {
        "base": interval(before, **settings),
        "difference": difference,
        "kept": "tuned" if difference["low"] > 0 else "base",
        "metric": GATE_METRIC,
        "tuned": interval(after, **settings),
    }
