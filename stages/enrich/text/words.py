"""Words of any script."""

import re
import unicodedata

_JOINERS = "\u200c\u200d"
"""Within words of Indic and Persian writing; they tell letters how to join."""


def _combining_marks() -> str:
    r"""Return the marks (categories Mn and Mc) as ranges of a character class.

    `\w` knows none of them, though vowels of Indic and South-East Asian scripts are marks. Those
    that choose between a sign and its emoji are no part of a word; the others all stand in the
    first two planes.
    """
    marks = [
        code
        for code in range(0x20000)
        if unicodedata.category(chr(code)) in ("Mn", "Mc")
        and not unicodedata.name(chr(code), "").startswith("VARIATION SELECTOR")
    ]
    starts = [code for before, code in zip([-1, *marks], marks, strict=False) if code > before + 1]
    ends = [code for code, after in zip(marks, [*marks[1:], -1], strict=True) if after != code + 1]
    return "".join(f"{chr(a)}-{chr(b)}" for a, b in zip(starts, ends, strict=True))


WORD = rf"[^\W_]+(?:[{_JOINERS}]?[{_combining_marks()}]+[^\W_]*|['\-./&+{_JOINERS}][^\W_]+)*"
"""Pattern of a word of `plain` text: letters and digits with their marks, parts joined by signs."""


def plain(text: str) -> str:
    """Return the text in lower case, composed (NFC), with straight apostrophes."""
    return unicodedata.normalize("NFC", text.lower().replace("’", "'"))


def words(text: str) -> list[str]:
    """Return the words of a text, as `plain` writes them."""
    return _WORD.findall(plain(text))


_WORD = re.compile(WORD)
