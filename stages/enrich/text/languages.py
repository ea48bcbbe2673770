"""Languages that reviews are told apart in: their stop words and stems."""

import unicodedata
from collections.abc import Sequence
from functools import cache
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Any

from stages.core.log import UserError

LANGUAGES = {"en": "english", "de": "german", "es": "spanish", "fr": "french", "it": "italian"}
"""Languages and the names of their Snowball stemmers."""

_CODES = "ar bg cs da de el en es et fa fi fr hi hr hu hy id it lv nb nl pl pt ro ru sl sv tr uk"
LISTED = tuple(_CODES.split())
"""Languages whose stop words YAKE lists, but Chinese and Japanese, which part no words by spaces,
and those whose list is no good, see `stop_words`."""


def detect_language(words: Sequence[str]) -> str:
    """Return the language that has most of the lower-case words as stop words, English by default.

    Of two that have as many, the one that stands first in `LANGUAGES`.
    """
    return max(LANGUAGES, key=lambda language: sum(w in stop_words(language) for w in words))


def clear_language(words: Sequence[str]) -> str | None:
    """Return which of `LISTED` has clearly most of the lower-case words as stop words, if any has.

    Clearly means two at least, and half as many again as the next: Norwegian is not taken for
    Swedish.
    """
    counts = {language: sum(w in stop_words(language) for w in words) for language in LISTED}
    best, second = sorted(LISTED, key=lambda language: -counts[language])[:2]
    return best if counts[best] >= max(2, 1.5 * counts[second]) else None


@cache
def stop_words(language: str) -> frozenset[str]:
    """Return the stop words of a language, by its ISO 639-1 code; none if none are listed.

    Raises:
        UserError: the installed YAKE does not hold its lists where this code looks for them.
    """
    # To YAKE br is not Breton but Brazilian Portuguese, and it misreads the other two lists.
    if language in ("br", "lt", "sk"):
        return frozenset()
    listed_as = {"cs": "cz", "nb": "no", "nn": "no"}.get(language, language)
    # Importing YAKE takes as long as reading a thousand reviews by `chunks`.
    lists = Path(str(distribution("yake").locate_file("yake/core/StopwordsList")))
    if not lists.is_dir():
        raise UserError(
            f"YAKE {version('yake')} holds no stop words in {lists}; install the version of "
            "constraints.txt: `pip install -c constraints.txt yake`"
        )
    file = lists / f"stopwords_{listed_as}.txt"
    if not file.exists():
        return frozenset()
    listed = unicodedata.normalize("NFC", file.read_text(encoding="utf-8").lower())
    return frozenset(listed.split("\n")) - {""}


@cache
def stemmer(language: str) -> Any:
    """Return the Snowball stemmer of a language (`stemWord`, `stemWords`)."""
    import Stemmer

    return Stemmer.Stemmer(LANGUAGES[language])
