"""Words of queries and documents, as the lexical retriever and the lexical features see them."""

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

_WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)?")
_TAG = re.compile(r"\[(?:Title|Review Keywords|Description Summary|Features|Reviews)\]")


@cache
def _stopwords() -> frozenset[str]:
    from bm25s.stopwords import STOPWORDS_EN_PLUS

    return frozenset(STOPWORDS_EN_PLUS)


@cache
def _stemmer() -> Any:
    import Stemmer

    return Stemmer.Stemmer("english")


def stems(texts: Sequence[str]) -> list[list[str]]:
    """Split texts into lower-case Snowball stems, without stop words and tags, in order."""
    stopwords, stemmer = _stopwords(), _stemmer()
    return [
        stemmer.stemWords(
            [word for word in _WORD.findall(_TAG.sub(" ", text).lower()) if word not in stopwords]
        )
        for text in texts
    ]
