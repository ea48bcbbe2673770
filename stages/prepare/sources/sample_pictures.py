"""Product pictures that show what an item is.

Background by department, outline by kind, colour by scent or shade, pattern by texture, and a mark
more for each price tier.
"""

import io
from typing import Any

SIDE = 96

BACKGROUNDS = ((226, 236, 248), (232, 246, 232), (252, 230, 238), (250, 242, 222))
SCENT_COLORS = (
    (214, 214, 214),
    (150, 123, 182),
    (240, 234, 214),
    (255, 179, 0),
    (243, 229, 171),
    (231, 84, 128),
    (62, 180, 137),
    (150, 111, 51),
    (119, 190, 119),
    (235, 150, 5),
    (178, 34, 52),
    (68, 120, 100),
)
SHADE_COLORS = (
    (190, 20, 40),
    (222, 184, 150),
    (255, 127, 80),
    (102, 30, 80),
    (95, 60, 40),
    (244, 154, 193),
)
OUTLINES: dict[str, tuple[tuple[int, int, int, int], tuple[int, int, int, int]]] = {
    "bottle": ((32, 30, 64, 86), (40, 14, 56, 30)),
    "jar": ((20, 46, 76, 84), (18, 34, 78, 46)),
    "tube": ((34, 12, 62, 74), (38, 74, 58, 86)),
    "spray": ((34, 34, 62, 86), (42, 12, 66, 34)),
    "dropper": ((36, 42, 60, 86), (44, 8, 52, 42)),
    "stick": ((40, 40, 56, 88), (42, 10, 54, 40)),
}
"""Body and cap of each outline: left, top, right, bottom in pixels."""


def draw(outline: str, department: int, scent: int, shade: int, texture: int, tier: int) -> bytes:
    """Return a PNG of `SIDE` pixels; codes are places in `sample_words`, `shade` -1 for none."""
    from PIL import Image, ImageDraw

    color = SHADE_COLORS[shade] if shade >= 0 else SCENT_COLORS[scent]
    dark = tuple(channel * 2 // 3 for channel in color)
    image = Image.new("RGB", (SIDE, SIDE), BACKGROUNDS[department])
    pencil = ImageDraw.Draw(image)
    body, cap = OUTLINES[outline]
    pencil.rectangle(cap, fill=dark)
    pencil.rounded_rectangle(body, radius=6, fill=color, outline=dark, width=2)
    _pattern(pencil, body, texture, dark)
    for mark in range(tier + 1):
        pencil.regular_polygon((8 + 12 * mark, 88, 5), 3, fill=dark)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _pattern(
    pencil: Any, body: tuple[int, int, int, int], texture: int, color: tuple[int, ...]
) -> None:
    """Dots, stripes across or stripes down, denser with the code, on the label."""
    left, top, right, bottom = body
    step, style = 4 + texture // 3 * 3, texture % 3
    label = (left + 5, top + (bottom - top) // 3, right - 5, bottom - 6)
    for y in range(label[1], label[3], step):
        if style == 0:
            pencil.line((label[0], y, label[2], y), fill=color)
            continue
        for x in range(label[0], label[2], step):
            if style == 1:
                pencil.ellipse((x, y, x + 1, y + 1), fill=color)
            else:
                pencil.line((x, label[1], x, label[3]), fill=color)
