"""A file becomes an upright RGB picture, or nothing."""

import numpy as np
import pytest
from PIL import Image

from stages.encode.imaging.base import open_picture
from tests.encode.imaging.drawing import content, noise, shape


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "CMYK", "I;16", "F"])
def test_any_mode_becomes_rgb(mode: str) -> None:
    form = "TIFF" if mode in ("CMYK", "F") else "PNG"
    drawn = shape("black").convert("L").convert("I").convert(mode) if mode == "I;16" else None
    opened = open_picture(content(drawn or shape("black").convert(mode), form), 64)
    assert opened is not None
    assert opened.mode == "RGB"
    assert opened.size == (96, 96)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_white(mode: str) -> None:
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    clear.putpixel((3, 4), (200, 200, 200, 255))
    opened = open_picture(content(clear.convert(mode)), 64)
    assert opened is not None
    assert opened.getpixel((0, 0)) == (255, 255, 255)
    assert max(opened.getpixel((3, 4))) < 220


def test_a_photo_on_its_side_is_turned() -> None:
    tall = shape("red", "rectangle", box=(0, 0, 95, 10))
    exif = Image.Exif()
    exif[0x0112] = 6  # To be turned by a quarter clockwise.
    opened = open_picture(content(tall, "JPEG", exif=exif, quality=95), 96)
    assert opened is not None
    expected = tall.rotate(-90)
    assert np.abs(np.asarray(opened, float) - np.asarray(expected, float)).mean() < 4


def test_a_large_jpeg_is_decoded_no_smaller_than_twice_the_side() -> None:
    big = noise(1, 1200, 800)
    opened = open_picture(content(big, "JPEG"), 64)
    assert opened is not None
    assert min(opened.size) == 200
    assert open_picture(content(big, "PNG"), 64).size == (1200, 800)


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: b"<html>not found</html>",
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:30] + b"\0" * 40 + whole[70:],
    ],
    ids=["empty", "a page", "cut off", "overwritten"],
)
def test_a_broken_file_is_no_picture(damage: object) -> None:
    assert open_picture(damage(content(noise(2))), 64) is None  # type: ignore[operator]
