"""Keyphrases and the form that keywords have."""

import gzip
import itertools
import json
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.core.iso639 import LANGUAGE_NAMES
from stages.core.store import Store
from stages.enrich.text.languages import LANGUAGES, LISTED, stop_words
from stages.enrich.text.phrases import (
    LONGEST,
    Method,
    clean_phrases,
    extract_phrases,
    language_of,
)

METHODS = get_args(Method)

REVIEW = (
    "I bought this guitar strap for my son, who plays in the school band. The guitar strap is "
    "comfortable and holds the heavy bass during long gigs; no more neck pain!"
)


@pytest.mark.parametrize(
    ("phrase", "keyword"),
    [
        ("  Pop Filter ", "pop filter"),
        ("for my son", "son"),
        ("It's for the KIDS!", "kids"),
        ("curly, frizzy hair", "curly frizzy hair"),
        ("D’Addario", "d'addario"),
        ("AC/DC", "ac/dc"),
        ("E-string", "e-string"),
        ("1/4 inch jack", "1/4 inch jack"),
        ("guitar for kids", "guitar for kids"),
        ("Haarfön für Ältere", "haarfön für ältere"),
        ("かわいい", "かわいい"),
    ],
)
def test_clean_phrase(phrase: str, keyword: str) -> None:
    assert clean_phrases([phrase], 9) == [keyword]


@pytest.mark.parametrize(
    "phrase", ["", " ", "!!!", "the", "It's the", "2014", "1/4", "_", "x" * 99]
)
def test_phrase_that_says_nothing_is_left_out(phrase: str) -> None:
    assert clean_phrases([phrase, "mic"], 9) == ["mic"]


def test_phrases_are_unique_in_order_and_capped_after_that() -> None:
    assert clean_phrases(["Mic", "gig", "MIC.", "pick", "amp"], 3) == ["mic", "gig", "pick"]


@given(st.lists(st.text(max_size=80), max_size=8), st.integers(1, 5))
def test_clean_phrases_have_one_form(phrases: list[str], limit: int) -> None:
    cleaned = clean_phrases(phrases, limit)
    assert len(cleaned) == len(set(cleaned)) <= limit
    assert clean_phrases(cleaned, limit) == cleaned
    for keyword in cleaned:
        assert keyword == keyword.lower() == " ".join(keyword.split())
        assert 0 < len(keyword) <= LONGEST
        assert "," not in keyword
        assert "\n" not in keyword


def test_review_gives_its_phrases() -> None:
    (keywords,) = extract_phrases([REVIEW], "yake", max_keywords=10, max_words=2)
    assert keywords[:2] == ["school band", "guitar strap"]
    assert {"son", "neck pain", "long gigs"} <= set(keywords)
    assert len(keywords) == 10
    assert max(len(keyword.split()) for keyword in keywords) == 2


def test_words_and_keywords_are_capped() -> None:
    (keywords,) = extract_phrases([REVIEW], "yake", max_keywords=3, max_words=1)
    assert len(keywords) == 3
    assert all(" " not in keyword for keyword in keywords)


@pytest.mark.parametrize("method", METHODS)
def test_text_without_words_gives_none(method: Method) -> None:
    assert extract_phrases(["", "!!!", "😀", "1 2 3", "the and of"], method, 5, 2) == [[]] * 5


@pytest.mark.parametrize("method", METHODS)
def test_processes_do_not_change_the_result(method: Method) -> None:
    texts = [f"{REVIEW} Number {word} arrived." for word in ["one", "two", "three"] * 50]

    def found(processes: int) -> list[list[str]]:
        return extract_phrases(texts, method, 5, 2, processes=processes)

    assert found(2) == found(1)


def test_kept_keywords_are_read_instead_of_the_text(tmp_path: Path) -> None:
    with Store(tmp_path / "s") as store:
        first = extract_phrases([REVIEW, "A red mic.", REVIEW], "yake", 5, 2, store)
        assert first == extract_phrases([REVIEW, "A red mic.", REVIEW], "yake", 5, 2)
        assert len(store) == 2
        with sqlite3.connect(tmp_path / "s") as entries:
            entries.execute("UPDATE entries SET value = ?", (b'["kept"]',))
        assert extract_phrases(["A red mic.", REVIEW], "yake", 5, 2, store) == [["kept"], ["kept"]]
        # Other words, other numbers, another method: read anew.
        assert extract_phrases(["A blue mic."], "yake", 5, 2, store) == [
            ["blue mic", "mic", "blue"]
        ]
        assert extract_phrases([REVIEW], "yake", 4, 2, store) == [first[0][:4]]
        assert extract_phrases(["A red mic."], "chunks", 5, 2, store) == [["red mic"]]


KILLED = """
import sys
from pathlib import Path
from stages.core.store import Store
from stages.enrich.text.phrases import extract_phrases
with Store(Path(sys.argv[1])) as store:
    texts = [f"A red mic for kid number {n}." for n in range(100_000)]
    extract_phrases(texts, "yake", 5, 2, store, processes=1)
"""


def test_kill_loses_little_of_what_was_read(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / "s")])
    with Store(tmp_path / "s") as store:
        deadline = time.monotonic() + 60
        while len(store) < 1000 and time.monotonic() < deadline:
            time.sleep(0.02)
        process.kill()
        process.wait()
        kept = len(store)
        assert kept >= 1000
        extract_phrases(
            [f"A red mic for kid number {n}." for n in range(kept + 10)], "yake", 5, 2, store
        )
        assert len(store) == kept + 10


@pytest.mark.slow
@pytest.mark.parametrize(("method", "at_least"), [("chunks", 300), ("yake", 167)])
def test_real_reviews_a_second_on_two_cores(
    method: Method, at_least: float, real_data: Path
) -> None:
    file = real_data / "amazon_musical_instruments_2014" / "Musical_Instruments_5.json.gz"
    with gzip.open(file) as lines:
        reviews = [json.loads(line) for line in itertools.islice(lines, 2500)]
    texts = [review["reviewText"][:2000] for review in reviews]
    start = time.process_time()
    keywords = extract_phrases(texts, method, max_keywords=10, max_words=2, processes=1)
    seconds = time.process_time() - start
    assert 2 * len(texts) / seconds > at_least
    assert sum(map(bool, keywords)) > 0.98 * len(texts)
    everything = [keyword for found in keywords for keyword in found]
    assert everything.count("guitar") > 200


@pytest.mark.parametrize("language", ["en", "de", "pt", "cs", "nb"])
def test_stop_words_of_a_language_are_not_those_of_another(language: str) -> None:
    word = {"en": "the", "de": "nach", "pt": "uma", "cs": "který", "nb": "ikke"}[language]
    assert word in stop_words(language)
    assert clean_phrases([f"{word} X1 {word}"], 5, language) == ["x1"]
    assert "" not in stop_words(language)


@pytest.mark.parametrize("language", ["is", "br"])
def test_language_without_a_list_has_no_stop_words(language: str) -> None:
    assert stop_words(language) == frozenset()
    assert clean_phrases(["the X1", "para a pele"], 5, language) == ["the x1", "para a pele"]


def test_no_language_no_stop_words() -> None:
    assert clean_phrases(["for the kids", "!"], 5, None) == ["for the kids"]


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The cat is on my bed", "en"),
        ("Die Haut ist in einer Woche besser", "de"),
        ("Ottimo per la pelle", "it"),
        ("Comprei para a minha mãe que tem a pele muito seca", "pt"),
        ("Gekocht voor mijn dochter, ze heeft een droge huid", "nl"),
        ("Kupiłam dla mojej mamy, która ma suchą skórę", "pl"),
        ("मुझे त्वचा के लिए यह पसंद है", "hi"),
        # Danish, which could be Norwegian, and Catalan, of which there is no list.
        ("Jeg købte den til min mor, som har tør hud", None),
        ("El vaig comprar per a la meva mare que té la pell seca i li encanta", None),
        # One stop word is no proof.
        ("My skin", None),
        ("xyzzy", None),
        ("", None),
    ],
)
def test_language_of_a_text_where_it_is_clear(text: str, language: str | None) -> None:
    assert language_of(text) == language


@pytest.mark.parametrize("language", ["br", "lt", "sk"])
def test_lists_that_are_of_another_language_or_misread_cut_nothing(language: str) -> None:
    assert clean_phrases(["para a minha mãe", "kad oda"], 5, language) == [
        "para a minha mãe",
        "kad oda",
    ]


def test_every_language_listed_has_stop_words() -> None:
    assert all(len(stop_words(language)) > 30 for language in LISTED)
    assert set(LANGUAGES) < set(LISTED) < set(LANGUAGE_NAMES)
