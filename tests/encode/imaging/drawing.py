"""Pictures that tests draw."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw


def shape(
    colour: str, outline: str = "ellipse", ground: str = "white", box: Any = (20, 20, 76, 76)
) -> Image.Image:
    """One filled shape on a plain ground, 96 pixels wide and high."""
    picture = Image.new("RGB", (96, 96), ground)
    getattr(ImageDraw.Draw(picture), outline)(box, fill=colour)
    return picture


def noise(seed: int, width: int = 40, height: int = 50) -> Image.Image:
    drawn = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(drawn)


def content(picture: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def written(folder: Path, pictures: dict[str, Image.Image]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in pictures.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content(picture, "JPEG" if name.endswith("jpg") else "PNG"))
    return [folder / name for name in pictures]
