"""Retrievers by name; each answers the same queries."""

from pathlib import Path
from pkgutil import resolve_name

from stages.core.params import ENCODER_OF, Fit, RetrieverName
from stages.core.parts import Parts
from stages.retrieve.retrievers.base import (
    READS_BESIDES,
    READS_VECTORS,
    TRAINS,
    Retriever,
    TrainingData,
)
from stages.retrieve.retrievers.history import KnowsItems
from stages.retrieve.retrievers.parts import (
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
    "TRAINS",
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


_CLASSES: dict[RetrieverName, str] = {
    "popular": "stages.retrieve.retrievers.popular:PopularRetriever",
    "item_knn": "stages.retrieve.retrievers.item_knn:ItemKnnRetriever",
    "als": "stages.retrieve.retrievers.als:AlsRetriever",
    "two_tower": "stages.retrieve.retrievers.two_tower:TwoTowerRetriever",
    "content": "stages.retrieve.retrievers.content:ContentRetriever",
    "bm25": "stages.retrieve.retrievers.bm25:Bm25Retriever",
    "dense_base": "stages.retrieve.retrievers.dense:DenseBaseRetriever",
    "dense": "stages.retrieve.retrievers.dense:DenseRetriever",
    "sparse": "stages.retrieve.retrievers.sparse:SparseRetriever",
    "multi_vector": "stages.retrieve.retrievers.multi_vector:MultiVectorRetriever",
}
"""Where each is, imported when it is asked for: some take torch, others FAISS or `implicit`."""


def class_of(name: RetrieverName) -> type[Retriever]:
    """Return the class of the retriever of that name."""
    found: type[Retriever] = resolve_name(_CLASSES[name])
    return found


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
    return class_of(name)(getattr(params, name), seed)


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


def _in_parts(name: RetrieverName) -> type[PartsRetriever]:
    return PartsKnowingItems if issubclass(class_of(name), KnowsItems) else PartsRetriever
