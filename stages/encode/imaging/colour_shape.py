"""Colours, their places and the edges of a picture, counted: small, quick, and not learned."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from stages.core.store import content_hash

if TYPE_CHECKING:
    from PIL.Image import Image

_SIDE = 64
_CELLS = 4
"""Cells along a side, for the layout and for the edges."""
_ORIENTATIONS = 8
_BINS = (4, 6, 6)
"""Along L*, a* and b*."""
_LOW = np.array([0.0, -60.0, -60.0])
_HIGH = np.array([100.0, 60.0, 60.0])
_STANDS_OUT = 15.0
"""Difference of colour (CIE 1976) from the border at which a pixel is more product than ground."""
_GROUND = 0.05
"""What a pixel of the border's own colour still counts."""
_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
_D65 = np.array([0.95047, 1.0, 1.08883])


class ColourShapeEncoder:
    """Three hand-made descriptions of a picture, of equal weight.

    * A histogram of its colours in CIELAB, where distances are about as large as they look. Pixels
      unlike the border count most, since a product mostly stands on a plain ground.
    * The mean colour of each of 4 x 4 cells.
    * A histogram of edge orientations in each of these cells (Dalal and Triggs, 2005, with one
      block, the whole picture).

    It finds what looks alike at a glance: a like colour on a like outline. It knows nothing of what
    is shown. A coat and a dress of one cut and colour are the same to it; one dress on a hanger and
    on a model are not. Where there is a CLIP, take that.
    """

    dimension = _BINS[0] * _BINS[1] * _BINS[2] + _CELLS**2 * (3 + _ORIENTATIONS)
    side = _SIDE
    model_hash = content_hash("colour_shape", 1, _SIDE, _CELLS, _ORIENTATIONS, _BINS)

    def encode(self, pictures: "Sequence[Image]") -> np.ndarray:
        """Encode pictures; see `PictureEncoder`."""
        if not pictures:
            return np.empty((0, self.dimension), np.float32)
        # Resampling.BOX, the mean of what a pixel covers.
        shrunk = [np.asarray(picture.resize((_SIDE, _SIDE), 4), np.float64) for picture in pictures]
        lab = _lab(np.stack(shrunk) / 255)
        parts = [_colours(lab), _layout(lab), _edges(lab[..., 0])]
        joined = np.concatenate([_unit(part) for part in parts], axis=1)
        return _unit(joined).astype(np.float32)


def _lab(srgb: np.ndarray) -> np.ndarray:
    """Turn sRGB of 0 to 1 (IEC 61966-2-1) into CIELAB under D65, along the last axis."""
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    ratio = linear @ _XYZ.T / _D65
    root = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio * (29 / 6) ** 2 / 3 + 4 / 29)
    x, y, z = np.moveaxis(root, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def _colours(lab: np.ndarray) -> np.ndarray:
    """Square roots of a histogram, so that inner products are Bhattacharyya coefficients."""
    border = np.concatenate([lab[:, 0], lab[:, -1], lab[:, :, 0], lab[:, :, -1]], axis=1)
    ground = np.median(border, axis=1)[:, None, None]
    unlike = np.linalg.norm(lab - ground, axis=-1) / _STANDS_OUT
    weight = (1 - np.exp(-(unlike**2)) + _GROUND).reshape(len(lab), -1)
    share = ((lab - _LOW) / (_HIGH - _LOW)).reshape(len(lab), -1, 3)
    light, a, b = (_soft(share[..., axis], bins) for axis, bins in enumerate(_BINS))
    tints = (a[..., :, None] * b[..., None, :]).reshape(*a.shape[:2], -1)
    counted = (light * weight[..., None]).transpose(0, 2, 1) @ tints
    return np.sqrt(counted.reshape(len(lab), -1))


def _layout(lab: np.ndarray) -> np.ndarray:
    return _by_cell(lab / _HIGH).mean(axis=2).reshape(len(lab), -1)


def _edges(light: np.ndarray) -> np.ndarray:
    """Square roots of each cell's edges by orientation, an edge counted by its contrast."""
    down, across = (np.gradient(light, axis=axis) for axis in (1, 2))
    turn = np.arctan2(down, across) / np.pi % 1 * _ORIENTATIONS
    low = np.floor(turn)
    contrast = np.hypot(down, across)
    bins = np.arange(_ORIENTATIONS)
    first = (low[..., None] % _ORIENTATIONS == bins) * (1 - turn + low)[..., None]
    second = ((low[..., None] + 1) % _ORIENTATIONS == bins) * (turn - low)[..., None]
    cells = _by_cell((first + second) * contrast[..., None])
    return np.sqrt(cells.sum(axis=2).reshape(len(light), -1))


def _by_cell(values: np.ndarray) -> np.ndarray:
    """Cut (n, side, side, c) into (n, cells, pixels of a cell, c)."""
    n, wide, channels = len(values), _SIDE // _CELLS, values.shape[-1]
    cut = values.reshape(n, _CELLS, wide, _CELLS, wide, channels).transpose(0, 1, 3, 2, 4, 5)
    return cut.reshape(n, _CELLS**2, wide**2, channels)


def _soft(share: np.ndarray, bins: int) -> np.ndarray:
    """Divide each value of 0 to 1 between the two bins whose centres are next to it."""
    place = np.clip(share, 0, 1)[..., None] * (bins - 1)
    return np.maximum(1 - np.abs(place - np.arange(bins)), 0)


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
