"""Keyphrases of short texts by YAKE (Campos et al., 2020), and the one form keywords have."""

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from stages.core.log import progress
from stages.core.store import Store, content_hash

LONGEST = 60
"""Characters of a keyword; what is longer is a URL or a run-on word."""

_WORD = re.compile(r"[^\W_]+(?:['\-./&+][^\W_]+)*")
_PER_TASK = 64
_PER_COMMIT = 512
_WORTH_A_PROCESS = 1000


def extract_phrases(
    texts: Sequence[str],
    max_keywords: int,
    max_words: int,
    store: Store | None = None,
    processes: int | None = None,
) -> list[list[str]]:
    """Return the keywords of each text, the most telling first, in the order of the texts.

    Args:
        texts: equal ones are read once.
        max_keywords: kept of one text.
        max_words: in one keyword.
        store: where keywords are kept by the hash of text, numbers and code, so that a run that
            was killed, or few changed texts, cost only what is new.
        processes: the result does not depend on it; None uses every core that this process may
            run on, when there are enough texts to pay for starting them.
    """
    keys = {text: content_hash(_code(), max_keywords, max_words, text) for text in texts}
    kept = {} if store is None else store.get_many(keys.values())
    known = {key: json.loads(entry) for key, entry in kept.items()}
    new = [text for text, key in keys.items() if key not in known]
    fresh: dict[str, bytes] = {}
    try:
        for text, found in zip(new, _read(new, max_keywords, max_words, processes), strict=True):
            known[keys[text]] = found
            fresh[keys[text]] = json.dumps(found).encode()
            if store is not None and len(fresh) >= _PER_COMMIT:
                store.put_many(fresh, "keywords by yake")
                fresh.clear()
    finally:
        if store is not None and fresh:
            store.put_many(fresh, "keywords by yake")
    return [known[keys[text]] for text in texts]


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


@cache
def _code() -> str:
    """Return what stands for the code that decides the keywords of a text."""
    return content_hash(version("yake"), Path(__file__).read_text(encoding="utf-8"))


def _read(
    texts: Sequence[str], max_keywords: int, max_words: int, processes: int | None
) -> Iterator[list[str]]:
    if processes is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        processes = min(cores or 1, len(texts) // _WORTH_A_PROCESS)
    bar = {"total": len(texts), "desc": "yake", "unit": "review"}
    if processes <= 1:
        _configure(max_keywords, max_words)
        yield from progress(map(_extract, texts), **bar)
        return
    with ProcessPoolExecutor(
        processes,
        mp_context=get_context("spawn"),
        initializer=_configure,
        initargs=(max_keywords, max_words),
    ) as pool:
        yield from progress(pool.map(_extract, texts, chunksize=_PER_TASK), **bar)


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
