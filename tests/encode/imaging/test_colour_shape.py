"""What looks alike is alike: colour and outline, not the ground nor the size of the file."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.encode.imaging.colour_shape import ColourShapeEncoder, _lab
from tests.encode.imaging.drawing import noise, shape

ENCODER = ColourShapeEncoder()


def alike(*pictures: object) -> list[float]:
    """Cosines of the first picture with each of the others."""
    vectors = ENCODER.encode(pictures)  # type: ignore[arg-type]
    return (vectors[1:] @ vectors[0]).tolist()


def test_lab_of_known_colours() -> None:
    """Values of the CIE for sRGB primaries under D65."""
    known = {
        (255, 255, 255): (100, 0, 0),
        (0, 0, 0): (0, 0, 0),
        (255, 0, 0): (53.24, 80.09, 67.20),
        (0, 0, 255): (32.30, 79.19, -107.86),
        (119, 119, 119): (50.03, 0, 0),
    }
    found = _lab(np.array(list(known), float) / 255)
    np.testing.assert_allclose(found, np.array(list(known.values()), float), atol=0.02)


def test_the_colour_counts_and_so_does_the_outline() -> None:
    both, colour, outline, neither = alike(
        shape("crimson"),
        shape("firebrick"),
        shape("crimson", "rectangle"),
        shape("navy"),
        shape("navy", "rectangle"),
    )
    assert both > colour > neither
    assert both > outline > neither


def test_the_ground_counts_less_than_what_stands_on_it() -> None:
    ground, product = alike(
        shape("crimson", ground="white"), shape("crimson", ground="lavender"), shape("seagreen")
    )
    assert ground > product


def test_the_size_of_the_file_changes_little() -> None:
    small, large = noise(1, 64, 64), noise(1, 64, 64).resize((256, 256), 0)
    assert alike(small, large)[0] > 0.999


@given(
    st.lists(st.sampled_from(["red", "teal", "black", "white", "gold"]), min_size=1, max_size=4),
    st.integers(1, 200),
    st.integers(1, 200),
)
@settings(max_examples=20, deadline=None)
def test_every_picture_has_a_vector_of_length_1_which_others_do_not_change(
    colours: list[str], width: int, height: int
) -> None:
    pictures = [shape(colour).resize((width, height)) for colour in colours]
    vectors = ENCODER.encode(pictures)
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(colours), ENCODER.dimension)
    assert np.isfinite(vectors).all()
    for picture, vector in zip(pictures, vectors, strict=True):
        np.testing.assert_allclose(ENCODER.encode([picture])[0], vector, atol=1e-6)
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


def test_no_pictures_have_no_vectors() -> None:
    assert ENCODER.encode([]).shape == (0, ENCODER.dimension)
