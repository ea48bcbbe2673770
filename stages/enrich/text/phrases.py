"""Keyphrases of short texts by YAKE (Campos et al., 2020), and the one form keywords have."""

import os
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from typing import Any

from stages.core.log import progress

LONGEST = 60
"""Characters of a keyword; what is longer is a URL or a run-on word."""

_WORD = re.compile(r"[^\W_]+(?:['\-./&+][^\W_]+)*")
_PER_TASK = 64
_WORTH_A_PROCESS = 1000


def extract_phrases(
    texts: Sequence[str], max_keywords: int, max_words: int, processes: int | None = None
) -> list[list[str]]:
    """Return the keywords of each text, the most telling first, in the order of the texts.

    The result does not depend on `processes`; None uses every core that this process may run on
    when there are enough texts to pay for starting them.
    """
    if processes is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        processes = min(cores or 1, len(texts) // _WORTH_A_PROCESS)
    bar = {"total": len(texts), "desc": "keywords", "unit": "review"}
    if processes <= 1:
        _configure(max_keywords, max_words)
        return list(progress(map(_extract, texts), **bar))
    with ProcessPoolExecutor(
        processes,
        mp_context=get_context("spawn"),
        initializer=_configure,
        initargs=(max_keywords, max_words),
    ) as pool:
        return list(progress(pool.map(_extract, texts, chunksize=_PER_TASK), **bar))


def clean_phrases(phrases: Iterable[str], limit: int) -> list[str]:
    """Return up to `limit` phrases in lower case, without punctuation, each once, order kept.

    Words between which punctuation stood are joined by one space; stop words at either end go
    ("for my son" is "son"), and a phrase of which no letter is left goes with them.
    """
    cleaned = (_clean(phrase) for phrase in phrases)
    return list(dict.fromkeys(phrase for phrase in cleaned if phrase))[:limit]


def _clean(phrase: str) -> str:
    words = _WORD.findall(phrase.lower().replace("’", "'"))
    stop_words = _stop_words()
    while words and words[0] in stop_words:
        words.pop(0)
    while words and words[-1] in stop_words:
        words.pop()
    cleaned = " ".join(words)
    named = any(character.isalpha() for character in cleaned)
    return cleaned if named and len(cleaned) <= LONGEST else ""


@cache
def _stop_words() -> frozenset[str]:
    import yake

    return frozenset(yake.KeywordExtractor(lan="en").stopword_set)


_extractor: Any = None
_limit = 0


def _configure(max_keywords: int, max_words: int) -> None:
    import yake

    global _extractor, _limit
    # Twice as many are asked for, since lower case makes some of them equal.
    _extractor = yake.KeywordExtractor(lan="en", n=max_words, top=2 * max_keywords)
    _limit = max_keywords


def _extract(text: str) -> list[str]:
    return clean_phrases((phrase for phrase, _ in _extractor.extract_keywords(text)), _limit)
