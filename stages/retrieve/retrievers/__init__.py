"""Retrievers by name; each answers the same queries."""

from pathlib import Path

from stages.core.params import Fit, RetrieverName
from stages.encode.encoders import Encoders
from stages.retrieve.retrievers.base import Retriever, TrainingData

__all__ = ["Retriever", "TrainingData", "load_retriever", "make_retriever"]


def make_retriever(name: RetrieverName, params: Fit, encoders: Encoders) -> Retriever:
    """Return the unfitted retriever of that name."""
    if name == "bm25":
        from stages.retrieve.retrievers.bm25 import Bm25Retriever

        return Bm25Retriever(params.bm25)
    if name == "sparse":
        from stages.retrieve.retrievers.sparse import SparseRetriever

        return SparseRetriever(params.sparse, encoders)
    from stages.retrieve.retrievers.dense import DenseRetriever

    if name == "dense":
        return DenseRetriever("dense", "tuned", params.dense, encoders)
    return DenseRetriever("dense_base", "base", params.dense_base, encoders)


def load_retriever(name: RetrieverName, folder: Path, encoders: Encoders) -> Retriever:
    """Load a fitted retriever from the folder to which `save` wrote it."""
    if name == "bm25":
        from stages.retrieve.retrievers.bm25 import Bm25Retriever

        return Bm25Retriever.load(folder, encoders)
    if name == "sparse":
        from stages.retrieve.retrievers.sparse import SparseRetriever

        return SparseRetriever.load(folder, encoders)
    from stages.retrieve.retrievers.dense import DenseRetriever

    return DenseRetriever.load(folder, encoders)
