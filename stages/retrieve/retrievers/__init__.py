"""Retrievers by name; each answers the same queries."""

from pathlib import Path

from stages.core.params import Fit, RetrieverName
from stages.retrieve.retrievers.base import ENCODER_OF, READS_VECTORS, Retriever, TrainingData
from stages.retrieve.retrievers.history import KnowsItems

__all__ = [
    "ENCODER_OF",
    "READS_VECTORS",
    "KnowsItems",
    "Retriever",
    "TrainingData",
    "counts_log",
    "load_retriever",
    "make_retriever",
]


def make_retriever(name: RetrieverName, params: Fit, seed: int = 0) -> Retriever:
    """Return the unfitted retriever of that name; `seed` decides what it draws."""
    if name == "popular":
        from stages.retrieve.retrievers.popular import PopularRetriever

        return PopularRetriever(params.popular)
    if name == "item_knn":
        from stages.retrieve.retrievers.item_knn import ItemKnnRetriever

        return ItemKnnRetriever(params.item_knn)
    if name == "als":
        from stages.retrieve.retrievers.als import AlsRetriever

        return AlsRetriever(params.als, seed)
    if name == "content":
        from stages.retrieve.retrievers.content import ContentRetriever

        return ContentRetriever(params.content)
    if name == "two_tower":
        from stages.retrieve.retrievers.two_tower import TwoTowerRetriever

        return TwoTowerRetriever(params.two_tower, seed)
    if name == "bm25":
        from stages.retrieve.retrievers.bm25 import Bm25Retriever

        return Bm25Retriever(params.bm25)
    if name == "sparse":
        from stages.retrieve.retrievers.sparse import SparseRetriever

        return SparseRetriever(params.sparse)
    from stages.retrieve.retrievers.dense import DenseRetriever

    return DenseRetriever(name, params.dense if name == "dense" else params.dense_base)


def counts_log(name: RetrieverName, params: Fit) -> bool:
    """Whether the retriever only counts what happened, and can do so from disk."""
    return name == "popular" and not params.popular.segments


def load_retriever(name: RetrieverName, folder: Path, store: Path | None = None) -> Retriever:
    """Load a fitted retriever from the folder to which `save` wrote it.

    Args:
        name: which one.
        folder: a window's folder; the encoder, where it needs one, lies beside it as `encoder`.
        store: where query vectors are kept; None keeps none.
    """
    if name == "popular":
        from stages.retrieve.retrievers.popular import PopularRetriever

        return PopularRetriever.load(folder)
    if name == "item_knn":
        from stages.retrieve.retrievers.item_knn import ItemKnnRetriever

        return ItemKnnRetriever.load(folder)
    if name == "als":
        from stages.retrieve.retrievers.als import AlsRetriever

        return AlsRetriever.load(folder)
    if name == "content":
        from stages.retrieve.retrievers.content import ContentRetriever

        return ContentRetriever.load(folder)
    if name == "two_tower":
        from stages.retrieve.retrievers.two_tower import TwoTowerRetriever

        return TwoTowerRetriever.load(folder)
    if name == "bm25":
        from stages.retrieve.retrievers.bm25 import Bm25Retriever

        return Bm25Retriever.load(folder)
    if name == "sparse":
        from stages.retrieve.retrievers.sparse import SparseRetriever

        return SparseRetriever.load(folder, store)
    from stages.retrieve.retrievers.dense import DenseRetriever

    return DenseRetriever.load(folder, store)
