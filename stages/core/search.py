"""Exact top-k search by inner product: all pairs in low precision, the few that matter again."""

from typing import Any, Literal

import numpy as np

_TILE = 2048
"""Items multiplied at once: their scores stay in the cache while they are looked through."""
_GROUP = 64
"""Items whose best score decides whether any of them is looked at."""
_LOOKED_AT = 1 << 14
"""Groups that are looked into at once."""
_RESCORED = 2048
"""Pairs multiplied again at once: their vectors stay in the cache."""
_TOO_MANY = 4
"""Times k near pairs a query, beyond which bfloat16 costs more than it saves."""
_FP32_MEANT = {"tf32": 2.0**-9, "bf16": 2.0**-6}
"""Where float32 is told to be faster than it is exact: twice the rounding of a pair of inputs."""


class FlatIndex:
    """Vectors laid out for exact search.

    A search has two steps. All pairs are multiplied in a precision that is cheap here, bfloat16 on
    processors that have it, else float32. The error of each such score has an upper bound (of the
    rounded inputs by the Cauchy-Schwarz inequality, of the sum and of the result by their unit
    roundoff; Higham, Accuracy and Stability of Numerical Algorithms, 2002, chapter 3), so whatever
    may be among the k best is known: some pairs more than k. Those are multiplied again in float64
    and ordered. What comes out is therefore exact, and does not depend on the block or the number
    of threads; another device may differ in a score's last bit, by the order of a float64 sum.

    Which pairs may be among the k best is seen by the maximum of each group of 64 items, in one
    pass instead of a sort: k groups each hold an item at least as good as the k-th largest maximum.
    """

    def __init__(
        self,
        items: np.ndarray,
        device: Literal["cpu", "cuda"] | None = None,
        precision: Literal["auto", "fp32", "bf16"] = "auto",
    ) -> None:
        """Take the vectors that are searched.

        Args:
            items: float32, shape (m, d).
            device: where it runs; None for CUDA where it is there.
            precision: of the first step; "auto" for what is cheapest here, "bf16" on the CPU only:
                CUDA may add up in bfloat16 too.

        Raises:
            ValueError: a vector is not finite, or bfloat16 is asked of CUDA.
        """
        import torch

        from stages.core.determinism import cpu_has_bf16, torch_device

        self._device: Any = device or torch_device()
        if precision == "bf16" and self._device != "cpu":
            raise ValueError(f"precision bf16 is for the CPU, and the device is {self._device}")
        self._items = torch.from_numpy(np.require(items, np.float32, ["C", "W"])).to(self._device)
        norms = _norms(self._items)
        if not norms.isfinite().all():
            row = int(norms.isfinite().logical_not().nonzero()[0])
            raise ValueError(f"the vector of item {row} is not finite")
        if precision == "auto":
            precision = "bf16" if self._device == "cpu" and cpu_has_bf16() else "fp32"
        self._dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self._tiles = self._items.to(self._dtype).split(_TILE) if len(items) else ()
        self._norm = float(norms.max()) if len(items) else 0.0
        rounded = zip(self._items.split(_TILE), self._tiles, strict=False)
        self._lost = max((float(_norms(a - b.float()).max()) for a, b in rounded), default=0.0)
        self._precise: FlatIndex | None = None

    def search(
        self, queries: np.ndarray, k: int, block: int = 512
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the k items of largest inner product for each query.

        Ties, by the score as float32, go to the smaller row number.

        Args:
            queries: float32, shape (n, d).
            k: results a query; more than m gives m.
            block: queries scored at once; n x m scores are never held together.

        Returns:
            rows of the items (int64) and scores (float32), each of shape (n, min(k, m)), best
            first.

        Raises:
            ValueError: a query is not finite.
        """
        import torch

        k = min(k, len(self._items))
        rows = np.empty((len(queries), k), np.int64)
        scores = np.empty((len(queries), k), np.float32)
        if k == 0 or len(queries) == 0:
            return rows, scores
        if not np.isfinite(queries).all():
            row = int(np.flatnonzero(~np.isfinite(queries).all(axis=1))[0])
            raise ValueError(f"the vector of query {row} is not finite")
        index, space = self, None
        with torch.inference_mode():
            for start in range(0, len(queries), block):
                part = np.require(queries[start : start + block], np.float32, ["C", "W"])
                asked = torch.from_numpy(part).to(self._device)
                if space is None:
                    space = index._space(len(asked))
                query, item = index._near(asked, k, space)
                if index is self and len(query) > _TOO_MANY * k * len(asked):
                    index = self._as_fp32()
                    space = space if index is self else None
                best = self._best(asked, query, item, k)
                rows[start : start + len(part)], scores[start : start + len(part)] = best
        return rows, scores

    def _as_fp32(self) -> "FlatIndex":
        """The same index with a first step in float32, made when it is first of use."""
        if self._dtype.itemsize == 4:
            return self
        if self._precise is None:
            self._precise = FlatIndex(self._items.cpu().numpy(), self._device, "fp32")
        return self._precise

    def _space(self, block: int) -> Any:
        """Room for the scores of a block, shape (tiles, block, tile): a product fills one tile."""
        import torch

        shape = (len(self._tiles), block, min(_TILE, _up(len(self._items), _GROUP)))
        return torch.empty(shape, dtype=self._dtype, device=self._device)

    def _near(self, queries: Any, k: int, space: Any) -> tuple[Any, Any]:
        """Return all pairs that may be among the k best of their query: its row, the item's row.

        Pairs are sorted by query, then item.
        """
        import torch

        asked = len(queries)
        tiles, block, tile = space.shape
        # Maxima of groups, or, where there are too few groups to tell k items, the scores.
        group = _GROUP if len(self._items) > 2 * k * _GROUP else 1
        best = torch.empty((asked, tiles, tile // group), device=self._device)
        rounded = queries.to(self._dtype)
        exact = torch.empty((asked, tile), device=self._device)
        for place, items in enumerate(self._tiles):
            scores = space[place, :asked]
            torch.mm(rounded, items.T, out=scores[:, : len(items)])
            scores[:, len(items) :] = -torch.inf
            exact.copy_(scores)
            best[:, place] = exact.view(asked, -1, group).amax(2) if group > 1 else exact
        best = best.flatten(1)
        least = self._least(queries, rounded, best.topk(k, dim=1).values[:, -1])
        query, place = (best >= least[:, None]).nonzero(as_tuple=True)
        if group == 1:
            return query, place
        in_tile = tile // group
        groups = space.view(-1, group)
        found = [(query[:0], place[:0])]
        for q, p in zip(query.split(_LOOKED_AT), place.split(_LOOKED_AT), strict=True):
            inside = groups[(p // in_tile * block + q) * in_tile + p % in_tile]
            pair, item = (inside >= least[q, None]).nonzero(as_tuple=True)
            found.append((q[pair], p[pair] * group + item))
        return torch.cat([q for q, _ in found]), torch.cat([i for _, i in found])

    def _least(self, queries: Any, rounded: Any, kth: Any) -> Any:
        """Return the score from which on an item may be as good as one that scored `kth`.

        A score x, before it is rounded, is within e of the exact one, and `kth` is within u |kth|
        of the x that it was rounded from. So what may be as good has x >= kth - u |kth| - 2e, and
        rounds to no less than that does.

        Args:
            queries: shape (n, d).
            rounded: the same in the precision of the first step.
            kth: shape (n,).
        """
        import torch

        back = rounded.float()
        length = _norms(back)
        # A product and a sum of each of d terms, and as much again for the rounding of this bound.
        of_sum = 4 * queries.shape[1] * 2.0**-24 * length * (self._norm + self._lost)
        error = _norms(queries - back) * self._norm + length * self._lost + of_sum
        if self._dtype.itemsize == 4:
            of_sum += self._fp32_unit() * length * self._norm
        unit = torch.finfo(self._dtype).eps / 2
        return (kth - unit * kth.abs() - 2 * error).to(self._dtype).float()

    def _fp32_unit(self) -> float:
        """How far off a product of two numbers may be where float32 is not meant as such."""
        import torch

        backend = torch.backends.cuda if self._device == "cuda" else torch.backends.mkldnn
        return _FP32_MEANT.get(backend.matmul.fp32_precision, 0.0)

    def _best(self, queries: Any, query: Any, item: Any, k: int) -> tuple[Any, Any]:
        """Multiply pairs in float64 and return the k best items of each query, and their scores.

        Args:
            queries: shape (n, d).
            query: rows of `queries`, ascending, each at least k times.
            item: rows of the items, ascending within a query.
            k: results a query.
        """
        import torch

        counts = query.bincount(minlength=len(queries))
        place = torch.arange(len(query), device=query.device) - (counts.cumsum(0) - counts)[query]
        most = int(counts.max())
        items = query.new_zeros((len(queries), most))
        items[query, place] = item
        scores = torch.full((len(queries), most), -torch.inf, device=query.device)
        wide = queries.double()[:, :, None]
        # Queries with about as many pairs together, so that few places stay empty.
        order, width = counts.argsort(), queries.shape[1]
        for part in order.split(max(_RESCORED // most, 1)):
            held = int(counts[part[-1]])
            near = self._items.index_select(0, items[part, :held].flatten()).double()
            product = torch.bmm(near.view(len(part), held, width), wide[part])
            scores[part, :held] = product[:, :, 0].float()
        scores[torch.arange(most, device=query.device) >= counts[:, None]] = -torch.inf
        ranked = scores.sort(dim=1, descending=True, stable=True)
        rows = items.gather(1, ranked.indices[:, :k])
        return rows.cpu().numpy(), ranked.values[:, :k].cpu().numpy()


def top_k(
    queries: np.ndarray,
    items: np.ndarray,
    k: int,
    block: int = 512,
    device: Literal["cpu", "cuda"] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Search once; see `FlatIndex`, which answers again without laying out the items again."""
    return FlatIndex(items, device).search(queries, k, block)


def _norms(rows: Any) -> Any:
    return rows.norm(dim=1)


def _up(count: int, step: int) -> int:
    return -(-count // step) * step
