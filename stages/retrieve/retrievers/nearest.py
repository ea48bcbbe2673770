"""Nearest items by inner product: exactly, or by FAISS or Chroma, whose finds are scored again.

Douze et al., The Faiss library, 2024; Malkov and Yashunin, Efficient and robust approximate nearest
neighbor search using Hierarchical Navigable Small World graphs, 2018.
"""

from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from stages.core.search import FlatIndex
from stages.retrieve.retrievers.collection import Collection

Kind = Literal["exact", "flat", "ivf", "hnsw", "chroma"]

_EXACT_UP_TO = 100_000
_IVF_UP_TO = 200_000
_LINKS = 32
"""Neighbours of a node in an HNSW graph."""
_BUILDING = 80
"""Nodes looked at to place a new one."""
_LOOKED_AT = 2
"""Nodes looked at by a search of a graph, times k; 128 at least."""
_TRAINED_ON = 39
"""Vectors a list, below which FAISS finds that its centres mean little."""
_PROBED = 8
"""One list of an IVF index in so many is searched; of few lists 32."""
_RESCORED = 1 << 24
"""Numbers of float64 that are held at once to score again."""


def kind_for(items: int) -> Kind:
    """Return what `auto` stands for: exact, then IVF, then HNSW.

    Measured on 256 numbers an item around a thousand centres, for the best 100, on one thread of a
    busy machine; queries one by one and a thousand at once:

    | items | index | seconds of CPU to build | ms a query | queries a second | recall@100 |
    |---|---|---|---|---|---|
    | 100,000 | exact | | 32 | 392 | 1 |
    | 100,000 | ivf | 9 | 1.9 | 305 | 0.9998 |
    | 100,000 | hnsw | 42 | 1.5 | 536 | 0.9952 |
    | 300,000 | exact | | 270 | 48 | 1 |
    | 300,000 | ivf | 61 | 12.2 | 71 | 1.0000 |
    | 300,000 | hnsw | 134 | 2.5 | 272 | 0.9999 |

    IVF looks through an eighth of all items, HNSW at about as many however many there are. At
    100,000 HNSW saves little, misses more and takes more than four times as long to build; at
    300,000 it answers several times as fast at the same recall for twice the building, on the one
    thread on which it gives the same graph every time. The change lies between them; more items
    than these were not measured.
    """
    if items <= _EXACT_UP_TO:
        return "exact"
    return "ivf" if items <= _IVF_UP_TO else "hnsw"


class NearestIndex:
    """Vectors of length 1, laid out for search.

    `exact` is `FlatIndex`. The others are made by FAISS: `flat` multiplies all pairs, `ivf` the
    lists around the nearest centres of k-means, `hnsw` walks a graph. `chroma` walks the graph of a
    Chroma collection. What these three miss is the price of their speed; what they find has its
    exact score, and the same order wherever it is found. Building depends on the vectors alone,
    which for `hnsw` means on one thread; Chroma's graph is another each time (see `Collection`).
    """

    def __init__(
        self, vectors: np.ndarray, kind: Literal["auto"] | Kind = "auto", built: Any = None
    ) -> None:
        """Take the vectors that are searched.

        Args:
            vectors: float32, shape (n, d), rows of length 1.
            kind: see above; auto decides by n.
            built: the index of FAISS or the collection, where it has been made before.
        """
        self.vectors = np.ascontiguousarray(vectors, np.float32)
        self.kind: Kind = kind_for(len(vectors)) if kind == "auto" else kind
        self._index: Any = built
        if self._index is None:
            self._index = self._built()

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the k items of largest inner product for each query, or what is taken for them.

        Args:
            queries: float32, shape (n, d), rows of length 1.
            k: results a query; more than there are items gives as many as there are.

        Returns:
            rows of the items (int64) and scores (float32), best first, ties by row; where `ivf`,
            `hnsw` or `chroma` finds fewer than k, row 0 and a score of -inf.
        """
        k = min(k, len(self.vectors))
        if self.kind == "exact":
            rows, scores = self._index.search(queries, k)
            return rows, scores
        if k == 0 or len(queries) == 0:
            return np.empty((len(queries), k), np.int64), np.empty((len(queries), k), np.float32)
        looked_at = max(_LOOKED_AT * k, 128)
        asked = np.ascontiguousarray(queries, np.float32)
        if self.kind == "chroma":
            # Which of those of equal scores come k-th is nobody's choice: more are asked for.
            rows = self._index.search(asked, min(looked_at, len(self.vectors)))
        else:
            if self.kind == "hnsw":
                self._index.hnsw.efSearch = looked_at
            _, rows = self._index.search(asked, k)
        rows.sort(axis=1)
        scores = self._scores(queries, rows)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        rows = np.maximum(rows, 0)
        return np.take_along_axis(rows, order, 1), np.take_along_axis(scores, order, 1)

    def save(self, folder: Path) -> None:
        """Write the vectors, and what took time to build, into an existing folder."""
        np.save(folder / "vectors.npy", self.vectors)
        if self.kind in ("ivf", "hnsw"):
            import faiss

            faiss.write_index(self._index, str(folder / f"{self.kind}.faiss"))
        elif self.kind == "chroma":
            self._index.save(folder)

    @classmethod
    def load(cls, folder: Path, kind: Literal["auto"] | Kind) -> Self:
        """Read what `save` wrote for an index of that kind."""
        vectors = np.load(folder / "vectors.npy")
        kind = kind_for(len(vectors)) if kind == "auto" else kind
        if kind == "chroma":
            return cls(vectors, kind, Collection(folder))
        if kind not in ("ivf", "hnsw"):
            return cls(vectors, kind)
        import faiss

        return cls(vectors, kind, faiss.read_index(str(folder / f"{kind}.faiss")))

    def _built(self) -> Any:
        if self.kind == "exact":
            return FlatIndex(self.vectors)
        if self.kind == "chroma":
            return Collection.of(self.vectors)
        import faiss

        count, width = self.vectors.shape
        index: Any
        if self.kind == "flat":
            index = faiss.IndexFlatIP(width)
        elif self.kind == "ivf":
            lists = max(min(round(4 * count**0.5), count // _TRAINED_ON), 1)
            centres = faiss.IndexFlatIP(width)
            index = faiss.IndexIVFFlat(centres, width, lists, faiss.METRIC_INNER_PRODUCT)
            index.nprobe = max(lists // _PROBED, 32)
            if count:
                index.train(self.vectors)
            else:
                return index
        else:
            index = faiss.IndexHNSWFlat(width, _LINKS, faiss.METRIC_INNER_PRODUCT)
            index.hnsw.efConstruction = _BUILDING
        threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1 if self.kind == "hnsw" else threads)
        index.add(self.vectors)
        faiss.omp_set_num_threads(threads)
        return index

    def _scores(self, queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Multiply in float64 what was found; -inf where the row is -1."""
        scores = np.empty(rows.shape, np.float32)
        step = max(_RESCORED // (rows.shape[1] * self.vectors.shape[1]), 1)
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            near = self.vectors[rows[part]].astype(np.float64)
            scores[part] = (near @ queries[part, :, None].astype(np.float64))[..., 0]
        scores[rows < 0] = -np.inf
        return scores
