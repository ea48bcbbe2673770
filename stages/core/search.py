"""Exact top-k search by inner product, in blocks that fit the cache."""

from typing import Any, Literal

import numpy as np

_GROUP = 64
"""Items whose best score decides whether any of them is looked at."""


def top_k(
    queries: np.ndarray,
    items: np.ndarray,
    k: int,
    block: int = 512,
    device: Literal["cpu", "cuda"] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the k items of largest inner product for each query, exactly.

    One matrix product a block of queries, then selection in two steps: the maximum of each group of
    64 items (one pass over memory), the k groups of largest maximum, and the k best inside those.
    No item outside them can be among the k best, since k groups each hold one at least as good; a
    full sort or heap over all items, which costs more than the product itself, is never made.

    Ties go to the smaller row number.

    Args:
        queries: float32, shape (n, d).
        items: float32, shape (m, d).
        k: results a query; more than m gives m.
        block: queries scored at once; n x m scores are never held together.
        device: where it runs; None for CUDA where it is there.

    Returns:
        rows of `items` (int64) and scores (float32), each of shape (n, min(k, m)), best first.
    """
    import torch

    from stages.core.determinism import torch_device

    k = min(k, len(items))
    found = np.empty((len(queries), k), np.int64)
    scores = np.empty((len(queries), k), np.float32)
    if k == 0 or len(queries) == 0:
        return found, scores
    where = device or torch_device()
    count = len(items)
    padding = -count % _GROUP
    padded = np.pad(np.asarray(items, np.float32), ((0, padding), (0, 0)))
    matrix = torch.from_numpy(padded).to(where).T
    buffer = torch.empty((min(block, len(queries)), count + padding), device=where)
    with torch.inference_mode():
        for start in range(0, len(queries), block):
            part = torch.from_numpy(np.ascontiguousarray(queries[start : start + block])).to(where)
            every = torch.mm(part, matrix, out=buffer[: len(part)])
            every[:, count:] = -torch.inf
            rows, values = _select(every, k, count)
            found[start : start + len(part)] = rows
            scores[start : start + len(part)] = values
    return found, scores


def _select(padded: Any, k: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Pick the best k of each row and order them by score, then row number."""
    groups = padded.view(len(padded), -1, _GROUP)
    # One more than k, so that a tie on the cut is seen.
    wanted = min(k + 1, count)
    if groups.shape[1] > 2 * wanted:
        best = groups.amax(dim=2).topk(wanted, dim=1, sorted=False).indices
        inside = groups.gather(1, best[:, :, None].expand(-1, -1, _GROUP)).flatten(1)
        values, place = inside.topk(wanted, dim=1)
        rows = best.gather(1, place // _GROUP) * _GROUP + place % _GROUP
    else:
        values, rows = padded.topk(wanted, dim=1)
    values_np = values.cpu().numpy()
    rows_np = rows.cpu().numpy()
    if wanted > k:
        for row in np.flatnonzero(values_np[:, k - 1] == values_np[:, k]):
            full = padded[row, :count].cpu().numpy()
            order = np.lexsort((np.arange(count), -full))[:wanted]
            rows_np[row], values_np[row] = order, full[order]
    order = np.lexsort((rows_np, -values_np), axis=1)[:, :k]
    return np.take_along_axis(rows_np, order, 1), np.take_along_axis(values_np, order, 1)
