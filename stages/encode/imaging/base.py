"""What every picture encoder does, and how a file becomes a picture."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from stages.core.log import UserError
from stages.core.params import Pictures

if TYPE_CHECKING:
    from PIL.Image import Image

_WHITE = (255, 255, 255, 255)


class PictureEncoder(Protocol):
    """A model that gives pictures vectors."""

    @property
    def model_hash(self) -> str:
        """Hash of the weights and of every setting that changes a vector."""
        ...

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        ...

    @property
    def side(self) -> int:
        """Pixels to which it shrinks the shorter side of a picture."""
        ...

    def encode(self, pictures: "Sequence[Image]") -> np.ndarray:
        """Return float32, shape (n, dimension), rows of length 1, in the order given."""
        ...


def make_encoder(params: Pictures) -> PictureEncoder:
    """Load the encoder that the parameters name.

    Raises:
        UserError: they name none, or its model cannot be loaded.
    """
    if params.encoder == "clip":
        from stages.encode.imaging.clip import ClipEncoder

        return ClipEncoder(params)
    if params.encoder == "colour_shape":
        from stages.encode.imaging.colour_shape import ColourShapeEncoder

        return ColourShapeEncoder()
    raise UserError("pictures.encoder is none, which encodes nothing; take clip or colour_shape")


def open_picture(content: bytes, side: int) -> "Image | None":
    """Decode a picture to RGB, upright, what is transparent on white; None where it is broken.

    A JPEG much larger than `side` is decoded at a half, quarter or eighth of its size, though never
    under twice `side`, which is several times as fast.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(content)) as opened:
            opened.draft("RGB", (2 * side, 2 * side))
            upright = ImageOps.exif_transpose(opened)
            if not upright.has_transparency_data:
                return upright.convert("RGB")
            painted = upright.convert("RGBA")
        ground = Image.new("RGBA", painted.size, _WHITE)
        return Image.alpha_composite(ground, painted).convert("RGB")
    except Exception:  # A damaged file may raise anything in a decoder.
        return None
