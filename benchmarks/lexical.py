"""Top 100 by lexical weights, and FlagEmbedding's own score of every pair.

Documents and queries hold tokens drawn by Zipf's law, as words are, with weights as likely as not.
FlagEmbedding goes through the dictionaries of each pair; it is run for some of the queries, since
each costs it the same. Both give these the same scores, which is asserted. Seconds are of this
process, so that others on the machine count little; runs alternate, the table shows medians.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import numpy as np
import polars as pl
import typer

from stages.retrieve.retrievers.lexical import LexicalIndex

Weights = dict[str, float]


def drawn(texts: int, tokens: int, vocabulary: int, rng: np.random.Generator) -> list[Weights]:
    """Draw so many tokens a text, of which some fall together, and a weight for each."""
    share = 1 / np.arange(1, vocabulary + 1)
    edges = np.cumsum(share / share.sum())
    texts_drawn = []
    for row in np.searchsorted(edges, rng.random((texts, tokens))):
        held = np.unique(np.minimum(row, vocabulary - 1))
        values = rng.random(len(held), dtype=np.float32)
        texts_drawn.append(dict(zip(map(str, held.tolist()), values.tolist(), strict=True)))
    return texts_drawn


def column(documents: list[Weights]) -> pl.Series:
    """Return the documents' weights as the embeddings table holds them."""
    from stages.encode.embed import weights_column

    return weights_column(documents)


def found(index: LexicalIndex, queries: list[Weights]) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and scores of the 100 best documents of each query."""
    return index.search(index.queries(queries), 100)


def looped(queries: list[Weights], documents: list[Weights]) -> np.ndarray:
    """Score every pair by FlagEmbedding, shape (queries, documents)."""
    from FlagEmbedding.inference.embedder.encoder_only.m3 import M3Embedder

    return M3Embedder.compute_lexical_matching_score(None, queries, documents)


def timed(call: Callable[[], Any], seconds: list[float]) -> Any:
    """Run once and note the processor seconds that it took."""
    started = time.process_time()
    result = call()
    seconds.append(time.process_time() - started)
    return result


def agree(rows: np.ndarray, scores: np.ndarray, every: np.ndarray) -> bool:
    """Whether what was found has its scores, and nothing that was not found has a larger one."""
    own = np.take_along_axis(every, rows, 1)
    least = np.sort(every, axis=1)[:, ::-1][:, : rows.shape[1]]
    return bool(np.allclose(own, scores, atol=1e-4) and np.allclose(least, scores, atol=1e-4))


def main(
    documents: Annotated[int, typer.Option(help="Documents in the index.")] = 100_000,
    queries: Annotated[int, typer.Option(help="Queries that are asked.")] = 1_000,
    loops: Annotated[int, typer.Option(help="Queries that FlagEmbedding scores.")] = 10,
    rounds: Annotated[int, typer.Option(help="Times that each side runs.")] = 3,
    seed: Annotated[int, typer.Option(help="Decides tokens and weights.")] = 7,
) -> None:
    """Print a table of medians and the ratio."""
    rng = np.random.default_rng(seed)
    texts, asked = drawn(documents, 100, 50_000, rng), drawn(queries, 20, 50_000, rng)
    weights = column(texts)
    looped(asked[:1], texts[:1])  # Importing FlagEmbedding takes seconds.
    built: list[float] = []
    searched: list[float] = []
    scored: list[float] = []
    for _ in range(rounds):
        index = timed(lambda: LexicalIndex.of(weights), built)
        rows, scores = timed(partial(found, index, asked), searched)
        every = timed(lambda: looped(asked[:loops], texts), scored)
        assert agree(rows[:loops], scores[:loops], every), "FlagEmbedding scores otherwise"
    build, search, loop = (float(np.median(taken)) for taken in (built, searched, scored))
    typer.echo(
        f"{documents:,} documents of 100 tokens, {queries:,} queries of 20, top 100; processor "
        f"seconds, medians of {rounds} rounds\n\n"
        "| | seconds | queries/s |\n|---|---|---|\n"
        f"| `LexicalIndex.of` | {build:.2f} | |\n"
        f"| `LexicalIndex.search` | {search:.2f} | {queries / search:,.0f} |\n"
        f"| FlagEmbedding's `compute_lexical_matching_score` | {loop:.2f} | {loops / loop:,.1f} |"
        f"\n\nThe search is {queries / search / (loops / loop):,.0f} times as fast as the loop."
    )


if __name__ == "__main__":
    typer.run(main)
