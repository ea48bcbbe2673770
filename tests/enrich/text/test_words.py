"""Words of any script, worked out by hand."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.enrich.text.chunks import chunk_phrases
from stages.enrich.text.phrases import clean_phrases
from stages.enrich.text.words import words


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("त्वचा के लिए।", ["त्वचा", "के", "लिए"]),
        ("স্কিনের জন্য", ["স্কিনের", "জন্য"]),
        ("র\u200d্যাম কিনেছি", ["র\u200d্যাম", "কিনেছি"]),
        ("สำหรับ ผิวแห้ง", ["สำหรับ", "ผิวแห้ง"]),
        ("Be\u0301be\u0301 a\u0300 bord", ["bébé", "à", "bord"]),
        ("İstanbul", ["i\u0307stanbul"]),
        ("می\u200cخواهم", ["می\u200cخواهم"]),
        ("1\ufe0f\u20e3 love❤\ufe0fit", ["1", "love", "it"]),
        ("D’Addario's AC/DC_1/4 e-", ["d'addario's", "ac/dc", "1/4", "e"]),
        ("\u0301 '-' _", []),
        ("葛\U000e0100城", ["葛\U000e0100城"]),
    ],
)
def test_words_of_a_text(text: str, found: list[str]) -> None:
    assert words(text) == found


@given(st.text(st.characters(max_codepoint=0x17F)))
def test_words_of_composed_latin_are_letters_digits_and_what_joins_them(text: str) -> None:
    lower = text.replace("İ", "").lower()
    assert words(lower) == re.findall(r"[^\W_]+(?:['\-./&+][^\W_]+)*", lower)


def test_keywords_keep_their_marks() -> None:
    assert clean_phrases(["त्वचा के लिए"], 5, "hi") == ["त्वचा के"]
    assert clean_phrases(["ผิวแห้ง", "স্কিনের জন্য"], 5) == ["ผิวแห้ง", "স্কিনের জন্য"]
    assert clean_phrases(["be\u0301be\u0301", "bébé"], 5, "fr") == ["bébé"]
    assert chunk_phrases("सूखी त्वचा। बाल", 2) == ["सूखी त्वचा", "बाल"]
    assert chunk_phrases("Peau de be\u0301be\u0301", 2) == ["peau", "bébé"]
