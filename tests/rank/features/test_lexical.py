"""Lexical overlap by hand: three items, of which one has no text at all."""

import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from stages.rank.features.lexical import LexicalOverlap

TEXTS = pl.DataFrame(
    {
        "title": ["Red guitar", "Blue drums", None],
        "categories": [["Guitars", "Red things"], [], []],
        "brand": [None, "Sonor", None],
        "text": ["[Title] Red guitar [Features] loud", "A blue guitar drum", None],
    }
)
ONE = math.log(1 + 3 / 1)  # a stem in one of three documents
TWO = math.log(1 + 3 / 2)
UNKNOWN = math.log(1 + 3)


@pytest.fixture(scope="module")
def overlap() -> LexicalOverlap:
    return LexicalOverlap().fit(TEXTS)


def features(overlap: LexicalOverlap, text: str | None) -> dict[str, list[float]]:
    """Features of one query against the three items."""
    found = overlap.overlap([text], np.zeros(3, int), np.arange(3))
    assert all(values.dtype == np.float32 for values in found.values())
    return {name: values.tolist() for name, values in found.items()}


def test_shares_of_weighted_words(overlap: LexicalOverlap) -> None:
    # Stems guitar (in two documents), loud (in one), xylophon (in none).
    found = features(overlap, "Guitars that are LOUD, a guitar xylophone")
    asked = TWO + ONE + UNKNOWN
    assert found["overlap_document"] == pytest.approx([(TWO + ONE) / asked, TWO / asked, 0])
    # Of the titles' own words: guitar of (red, guitar), nothing of (blue, drum), no words.
    assert found["overlap_title"] == pytest.approx([TWO / (ONE + TWO), 0, math.nan], nan_ok=True)
    # Categories: guitar of (guitar, red, thing); "thing" stands in no document.
    categories = TWO / (TWO + ONE + UNKNOWN)
    expected = [categories, math.nan, math.nan]
    assert found["overlap_categories"] == pytest.approx(expected, nan_ok=True)
    assert found["overlap_brand"] == pytest.approx([math.nan, 0, math.nan], nan_ok=True)
    assert found["query_words"] == [3, 3, 3]
    assert found["document_words"] == [3, 3, 0]


@pytest.mark.parametrize("text", [None, "", "the and of"])
def test_a_query_without_words_overlaps_with_nothing(
    overlap: LexicalOverlap, text: str | None
) -> None:
    found = features(overlap, text)
    assert all(math.isnan(value) for value in found["overlap_document"])
    assert found["overlap_title"][:2] == [0, 0]
    assert found["query_words"] == [0, 0, 0]


def test_everything_asked_for_is_one(overlap: LexicalOverlap) -> None:
    found = features(overlap, "loud red guitar")
    assert found["overlap_document"][0] == pytest.approx(1)
    assert found["overlap_title"][0] == pytest.approx(1)


def test_saved_and_loaded(overlap: LexicalOverlap, tmp_path: Path) -> None:
    overlap.save(tmp_path)
    loaded = LexicalOverlap.load(tmp_path)
    for text in ("Guitars, a loud xylophone", "drum", None):
        np.testing.assert_equal(features(loaded, text), features(overlap, text))
