"""Items' vectors of several kinds, made comparable and fused to one."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from stages.core.params import Content

_NOTHING = 1e-6
"""Distance from the mean, relative to the longest vector, under which a vector says nothing."""


def fuse(
    parts: Sequence[tuple[pl.DataFrame, float]], params: Content
) -> tuple[pl.Series, np.ndarray]:
    """Fuse vectors so that an inner product is a weighted sum of the parts' similarities.

    The cosines of one kind may be spread twice as wide as those of another, so each kind's weight
    is divided by the root mean square of its cosines. With the shares a and b of the weights so
    corrected, a + b = 1, an item that has both parts has the vector (sqrt(a) x, sqrt(b) y), where x
    and y are its `whitened` parts, and two such items have the similarity a cos(x, x') +
    b cos(y, y').

    A part that an item lacks is taken to be the mean one, which is 0, and the other part gets the
    whole length: (x, 0). So every item is of length 1 and most like itself. To an item with both
    parts it has the similarity sqrt(a) cos(x, x'), spread about as wide as that between two with
    both. `concatenated` keeps the `dims` principal components of these vectors.

    Args:
        parts: item_id and vector (Array) of each item that has the part, and the part's weight.
        params: `fusion`, `whitening` and `dims`.

    Returns:
        sorted ids, and float32 vectors of length 1; without items of which no part says anything.
    """
    made = [whitened(frame, params.whitening) for frame, _ in parts]
    every = pl.concat([ids for ids, _ in made]).unique().sort()
    places = [every.search_sorted(ids).to_numpy() for ids, _ in made]
    share = np.zeros((len(every), len(parts)))
    for part, ((_, weight), (_, vectors)) in enumerate(zip(parts, made, strict=True)):
        # A part without weight still speaks where it is alone.
        share[places[part], part] = max(weight, 1e-9) / _spread(vectors)
    share /= share.sum(axis=1, keepdims=True)
    fused = np.zeros((len(every), sum(vectors.shape[1] for _, vectors in made)), np.float32)
    start = 0
    for part, (_, vectors) in enumerate(made):
        stop = start + vectors.shape[1]
        fused[places[part], start:stop] = np.sqrt(share[places[part], part, None]) * vectors
        start = stop
    if params.fusion == "concatenated":
        fused = reduced(fused, params.dims)
    ids, vectors = _that_say_something(every, fused)
    return ids, vectors.astype(np.float32)


def whitened(frame: pl.DataFrame, power: float) -> tuple[pl.Series, np.ndarray]:
    """Centre vectors, even out their directions and bring them to length 1.

    Encoders put all texts into a narrow cone, in which everything is like everything (Ethayarajh,
    2019). Centring opens it. What is left is multiplied by the covariance to the power -power / 2:
    0 leaves it, 1 whitens it (Su et al., Whitening Sentence Representations, 2021). The covariance
    of few items is a guess: d more, as wide in each direction as these on average, are counted in.

    Args:
        frame: item_id and vector (Array), n rows of d.
        power: from 0 to 1.

    Returns:
        sorted ids, and float64 vectors of length 1; without items whose vector is the mean.
    """
    frame = frame.sort("item_id")
    vectors = frame["vector"].to_numpy().astype(np.float64)
    if not vectors.size:
        return frame["item_id"].clear(), np.empty((0, 0))
    count, width = vectors.shape
    longest = float(np.linalg.norm(vectors, axis=1).max())
    vectors -= vectors.mean(axis=0)
    vectors[np.linalg.norm(vectors, axis=1) <= _NOTHING * longest] = 0
    if power and vectors.any():
        values, directions = np.linalg.eigh(vectors.T @ vectors / count)
        values = np.maximum(values, 0) + values.mean() * width / count
        vectors = vectors @ (directions * (values / values[-1]) ** (-power / 2)) @ directions.T
    return _that_say_something(frame["item_id"], vectors)


def reduced(vectors: np.ndarray, dims: int) -> np.ndarray:
    """Project on the principal components, each so turned that its largest weight is positive.

    Args:
        vectors: shape (n, d).
        dims: components kept, the widest first.

    Returns:
        float64, shape (n, min(d, dims)).
    """
    wide = vectors.astype(np.float64, copy=False)
    _, directions = np.linalg.eigh(wide.T @ wide)
    kept = directions[:, ::-1][:, :dims]
    largest = np.abs(kept).argmax(axis=0) if kept.size else np.empty(0, int)
    return wide @ (kept * np.sign(kept[largest, np.arange(kept.shape[1])]))


def _spread(vectors: np.ndarray) -> float:
    """Root mean square of the cosines of different items, float64 rows of length 1."""
    count = len(vectors)
    if count < 2:
        return 1.0
    squares = float(np.square(vectors.T @ vectors).sum()) - count
    return float(np.sqrt(max(squares / (count * (count - 1)), 1e-6)))


def _that_say_something(ids: pl.Series, vectors: np.ndarray) -> tuple[pl.Series, np.ndarray]:
    lengths = np.linalg.norm(vectors, axis=1)
    says = lengths > _NOTHING * lengths.max(initial=0)
    made = vectors[says] / lengths[says, None]
    return ids.filter(pl.Series(says, dtype=pl.Boolean)), made
