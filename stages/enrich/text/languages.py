"""Languages that reviews are told apart in: their stop words and stems."""

from collections.abc import Sequence
from functools import cache
from typing import Any

LANGUAGES = {"en": "english", "de": "german", "es": "spanish", "fr": "french", "it": "italian"}
"""Languages and the names of their Snowball stemmers."""


def detect_language(words: Sequence[str]) -> str:
    """Return the language that has most of the lower-case words as stop words, English by default.

    Of two that have as many, the one that stands first in `LANGUAGES`.
    """
    return max(LANGUAGES, key=lambda language: sum(w in stop_words(language) for w in words))


@cache
def stop_words(language: str) -> frozenset[str]:
    """Return the stop words of a language, by its ISO 639-1 code; none if YAKE lists none."""
    import yake

    listed_as = {"cs": "cz", "nb": "no", "nn": "no"}.get(language, language)
    return frozenset(yake.KeywordExtractor(lan=listed_as).stopword_set) - {""}


@cache
def stemmer(language: str) -> Any:
    """Return the Snowball stemmer of a language (`stemWord`, `stemWords`)."""
    import Stemmer

    return Stemmer.Stemmer(LANGUAGES[language])
