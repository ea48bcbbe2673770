"""Words of any script."""

import unicodedata

import regex

_JOINERS = "\u200c\u200d"
"""Within words of Indic and Persian writing; they tell letters how to join."""
_MARK = r"[\p{M}--[\ufe00-\ufe0f]]"
"""Vowels of Indic and South-East Asian scripts are marks; those that pick an emoji are left out."""
LETTER = r"\p{L}\p{N}"
"""Letters and digits, within a class; regex counts marks among the characters of a word."""
WORD = rf"[{LETTER}]+(?:[{_JOINERS}]?{_MARK}+[{LETTER}]*|['\-./&+{_JOINERS}][{LETTER}]+)*"
"""Pattern (V1) of a word of `plain` text: letters and digits with their marks, joined by signs."""
_WORD = regex.compile(WORD, regex.V1)


def plain(text: str) -> str:
    """Return the text in lower case, composed (NFC), with straight apostrophes."""
    return unicodedata.normalize("NFC", text.lower().replace("’", "'"))


def words(text: str) -> list[str]:
    """Return the words of a text, as `plain` writes them."""
    return list(_WORD.findall(plain(text)))
