"""Retrievers by name; each answers the same queries."""

from pathlib import Path

from stages.core.params import Fit, RetrieverName
from stages.retrieve.retrievers.base import (
    ENCODER_OF,
    READS_BESIDES,
    READS_VECTORS,
    Retriever,
    TrainingData,
)
from stages.retrieve.retrievers.history import KnowsItems
from stages.retrieve.retrievers.parts import (
    Parts,
    PartsKnowingItems,
    PartsRetriever,
    folder_of,
    folders_of,
    is_in_parts,
)

__all__ = [
    "ENCODER_OF",
    "READS_BESIDES",
    "READS_VECTORS",
    "KnowsItems",
    "Parts",
    "Retriever",
    "TrainingData",
    "class_of",
    "counts_log",
    "folder_of",
    "folders_of",
    "load_retriever",
    "make_retriever",
]


def make_retriever(
    name: RetrieverName, params: Fit, seed: int = 0, parts: Parts | None = None
) -> Retriever:
    """Return the unfitted retriever of that name.

    Args:
        name: which one.
        params: of all retrievers.
        seed: decides what it draws.
        parts: whose items are kept apart; None where the shop is one.
    """
    if parts is not None:
        return _in_parts(name)(name, parts, params, seed)
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
    if name == "multi_vector":
        from stages.retrieve.retrievers.multi_vector import MultiVectorRetriever

        return MultiVectorRetriever(params.multi_vector)
    if name == "dense":
        from stages.retrieve.retrievers.dense import DenseRetriever

        return DenseRetriever(params.dense)
    from stages.retrieve.retrievers.dense import DenseBaseRetriever

    return DenseBaseRetriever(params.dense_base)


def counts_log(name: RetrieverName, params: Fit) -> bool:
    """Whether the retriever only counts what happened, and can do so from disk."""
    return name == "popular" and not params.popular.segments


def load_retriever(name: RetrieverName, folder: Path, store: Path | None = None) -> Retriever:
    """Load a fitted retriever from the folder to which `save` wrote it.

    Args:
        name: which one.
        folder: a window's folder; the encoder, where it needs one, lies beside it as `encoder`,
            and which part is whose, where the shop has some, as `parts`.
        store: where query vectors are kept; None keeps none.
    """
    kind = _in_parts(name) if is_in_parts(folder) else class_of(name)
    return kind.load(folder, store)


def class_of(name: RetrieverName) -> type[Retriever]:
    """Return the class of the retriever of that name, imported when asked for."""
    if name == "popular":
        from stages.retrieve.retrievers.popular import PopularRetriever

        return PopularRetriever
    if name == "item_knn":
        from stages.retrieve.retrievers.item_knn import ItemKnnRetriever

        return ItemKnnRetriever
    if name == "als":
        from stages.retrieve.retrievers.als import AlsRetriever

        return AlsRetriever
    if name == "content":
        from stages.retrieve.retrievers.content import ContentRetriever

        return ContentRetriever
    if name == "two_tower":
        from stages.retrieve.retrievers.two_tower import TwoTowerRetriever

        return TwoTowerRetriever
    if name == "bm25":
        from stages.retrieve.retrievers.bm25 import Bm25Retriever

        return Bm25Retriever
    if name == "sparse":
        from stages.retrieve.retrievers.sparse import SparseRetriever

        return SparseRetriever
    if name == "multi_vector":
        from stages.retrieve.retrievers.multi_vector import MultiVectorRetriever

        return MultiVectorRetriever
    if name == "dense":
        from stages.retrieve.retrievers.dense import DenseRetriever

        return DenseRetriever
    from stages.retrieve.retrievers.dense import DenseBaseRetriever

    return DenseBaseRetriever


def _in_parts(name: RetrieverName) -> type[PartsRetriever]:
    return PartsKnowingItems if issubclass(class_of(name), KnowsItems) else PartsRetriever
