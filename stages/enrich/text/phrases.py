"""Keyphrases of short texts without a language model, and the one form that keywords have."""

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import polars as pl

from stages.core.log import progress
from stages.core.store import Store, content_hash
from stages.core.threads import CORES
from stages.enrich.text.batches import Batches, text_hashes
from stages.enrich.text.chunks import chunk_phrases
from stages.enrich.text.languages import clear_language, stop_words
from stages.enrich.text.lines import one_line
from stages.enrich.text.words import words

Method = Literal["chunks", "yake"]
"""`chunk_phrases`, or YAKE (Campos et al., 2020) for English."""

LONGEST = 60
"""Characters of a keyword; what is longer is a URL or a run-on word."""

_PER_TASK = 64
_WORTH_A_PROCESS: dict[Method, int] = {"chunks": 20_000, "yake": 1_000}
"""Texts that take longer to read than a process to start."""


def extract_phrases(
    texts: pl.Series,
    method: Method,
    max_chars: int,
    max_keywords: int,
    max_words: int,
    store: Store | None = None,
    processes: int | None = None,
) -> pl.DataFrame:
    """Return the hash and the keywords of each text, the most telling first, in their order.

    Args:
        texts: none null; equal ones are read once, each as one line.
        method: how they are read.
        max_chars: of that line that are read.
        max_keywords: kept of one text.
        max_words: in one keyword.
        store: where keywords are kept by text, numbers and code, so that a run that was killed, or
            few changed texts, cost only what is new.
        processes: the result does not depend on it; None uses every core that this process may
            run on, when there are enough texts to pay for starting them.

    Returns:
        hash, of text, method and numbers; keywords, a list.
    """
    decided = method, max_chars, max_keywords, max_words
    asked = pl.DataFrame({"text": texts, "hash": text_hashes(texts, *decided)})
    family = content_hash(_code(), *decided)
    with Batches(store, family, f"keywords by {method}") as batches:
        found = asked.join(batches.known, on="hash", how="left", maintain_order="left")
        new = found.filter(pl.col("keywords").is_null()).unique("hash", maintain_order=True)
        line = one_line(pl.col("text")).fill_null("").str.slice(0, max_chars)
        lines = new.select(line)["text"].to_list()
        read = _read(lines, method, max_keywords, max_words, processes)
        for text_hash, keywords in zip(new["hash"].to_list(), read, strict=True):
            batches.add(text_hash, keywords)
        return found.drop("text").update(batches.added(), on="hash")


def clean_phrases(phrases: Iterable[str], limit: int, language: str | None = "en") -> list[str]:
    """Return up to `limit` phrases in lower case, without punctuation, each once, order kept.

    Words between which punctuation stood are joined by one space; stop words of `language` at
    either end go ("for my son" is "son"), and a phrase of which no letter is left goes with them.
    Of no language, no word goes.
    """
    common = frozenset[str]() if language is None else stop_words(language)
    cleaned = (_clean(phrase, common) for phrase in phrases)
    return list(dict.fromkeys(phrase for phrase in cleaned if phrase))[:limit]


def language_of(text: str) -> str | None:
    """Return the language of a text where its stop words tell it clearly."""
    return clear_language(words(text))


def _clean(phrase: str, common: frozenset[str]) -> str:
    kept = words(phrase)
    while kept and kept[0] in common:
        kept.pop(0)
    while kept and kept[-1] in common:
        kept.pop()
    cleaned = " ".join(kept)
    named = any(character.isalpha() for character in cleaned)
    return cleaned if named and len(cleaned) <= LONGEST else ""


@cache
def _code() -> str:
    """Return what stands for the code that decides the keywords of a text."""
    files = (
        Path(__file__).with_name(f"{name}.py")
        for name in ("phrases", "chunks", "languages", "lines", "words")
    )
    code = [file.read_text(encoding="utf-8") for file in files]
    marks = unicodedata.unidata_version
    return content_hash(version("yake"), version("PyStemmer"), marks, code)


def _read(
    texts: Sequence[str],
    method: Method,
    max_keywords: int,
    max_words: int,
    processes: int | None,
) -> Iterator[list[str]]:
    if not texts:
        return
    if processes is None:
        processes = min(CORES, len(texts) // _WORTH_A_PROCESS[method])
    bar = {"total": len(texts), "desc": method, "unit": "review"}
    if processes <= 1:
        _configure(method, max_keywords, max_words)
        yield from progress(map(_extract, texts), **bar)
        return
    with ProcessPoolExecutor(
        processes,
        mp_context=get_context("spawn"),
        initializer=_configure,
        initargs=(method, max_keywords, max_words),
    ) as pool:
        yield from progress(pool.map(_extract, texts, chunksize=_PER_TASK), **bar)


_phrases: Callable[[str], Iterable[str]]
_limit = 0


def _configure(method: Method, max_keywords: int, max_words: int) -> None:
    global _phrases, _limit
    _limit = max_keywords
    if method == "chunks":
        _phrases = partial(chunk_phrases, max_words=max_words)
        return
    import yake

    # Twice as many are asked for, since lower case makes some of them equal.
    extractor = yake.KeywordExtractor(lan="en", n=max_words, top=2 * max_keywords)

    def ranked(text: str) -> Iterator[str]:
        return (phrase for phrase, _ in extractor.extract_keywords(text))

    _phrases = ranked


def _extract(text: str) -> list[str]:
    return clean_phrases(_phrases(text), _limit)
