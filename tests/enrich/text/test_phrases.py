"""Keyphrases and the form that keywords have."""

import contextlib
import gzip
import itertools
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from importlib.metadata import PathDistribution
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.core.iso639 import LANGUAGE_NAMES
from stages.core.log import UserError
from stages.core.store import Store
from stages.enrich.text import languages
from stages.enrich.text.batches import ADDED, MANY, WHOLE, Batches
from stages.enrich.text.languages import LANGUAGES, LISTED, stop_words
from stages.enrich.text.phrases import (
    LONGEST,
    Method,
    clean_phrases,
    extract_phrases,
    language_of,
)

ROOT = Path(__file__).parents[3]
METHODS = get_args(Method)

REVIEW = (
    "I bought this guitar strap for my son, who plays in the school band. The guitar strap is "
    "comfortable and holds the heavy bass during long gigs; no more neck pain!"
)


def found(
    texts: list[str],
    method: Method,
    max_keywords: int,
    max_words: int,
    store: Store | None = None,
    processes: int | None = None,
    max_chars: int = 2000,
) -> list[list[str]]:
    """Return the keywords of each text."""
    numbers = max_chars, max_keywords, max_words
    frame = extract_phrases(pl.Series(texts), method, *numbers, store, processes)
    return frame["keywords"].to_list()


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
    (keywords,) = found([REVIEW], "yake", 10, 2)
    assert keywords[:2] == ["school band", "guitar strap"]
    assert {"son", "neck pain", "long gigs"} <= set(keywords)
    assert len(keywords) == 10
    assert max(len(keyword.split()) for keyword in keywords) == 2


def test_words_and_keywords_are_capped() -> None:
    (keywords,) = found([REVIEW], "yake", 3, 1)
    assert len(keywords) == 3
    assert all(" " not in keyword for keyword in keywords)


@pytest.mark.parametrize("method", METHODS)
def test_text_without_words_gives_none(method: Method) -> None:
    assert found(["", "!!!", "😀", "1 2 3", "the and of"], method, 5, 2) == [[]] * 5


@pytest.mark.parametrize("method", METHODS)
def test_processes_do_not_change_the_result(method: Method) -> None:
    texts = [f"{REVIEW} Number {word} arrived." for word in ["one", "two", "three"] * 50]
    assert found(texts, method, 5, 2, processes=2) == found(texts, method, 5, 2, processes=1)


def test_text_is_read_as_one_line_that_is_cut() -> None:
    texts = ["A\x00 red\n\tmic.", "A red mic. A blue gig.", "A red\u2028mic!"]
    assert found(texts, "chunks", 5, 2, max_chars=9) == [["red mic"]] * 3


def test_no_text_has_no_keywords() -> None:
    none = extract_phrases(pl.Series([], dtype=pl.String), "chunks", 9, 5, 2)
    assert none.is_empty()
    assert none.schema == {"hash": pl.String, "keywords": pl.List(pl.String)}


def keep_instead(path: Path, keywords: list[str]) -> None:
    """Put other keywords into every batch of a store."""
    with sqlite3.connect(path) as entries:
        for key, value in entries.execute("SELECT key, value FROM entries").fetchall():
            file = BytesIO()
            pl.read_parquet(value).with_columns(keywords=pl.lit(keywords)).write_parquet(file)
            entries.execute("UPDATE entries SET value = ? WHERE key = ?", (file.getvalue(), key))


def test_kept_keywords_are_read_instead_of_the_text(tmp_path: Path) -> None:
    with Store(tmp_path / "s") as store:
        texts = [REVIEW, "A red mic.", REVIEW]
        first = found(texts, "yake", 5, 2, store)
        assert first == found(texts, "yake", 5, 2)
        assert [size.kind for size in store.sizes()] == ["keywords by yake"]
        keep_instead(tmp_path / "s", ["kept"])
        assert found(["A red mic.", "A blue mic.", REVIEW], "yake", 5, 2, store) == [
            ["kept"],
            ["blue mic", "mic", "blue"],
            ["kept"],
        ]
        # Other numbers, another method: read anew.
        assert found([REVIEW], "yake", 4, 2, store) == [first[0][:4]]
        assert found([REVIEW], "yake", 5, 2, store, max_chars=999) == [first[0]]
        assert found(["A red mic."], "chunks", 5, 2, store) == [["red mic"]]


READ = """
import sys
from pathlib import Path
import polars as pl
from stages.core.store import Store
from stages.enrich.text.phrases import extract_phrases
with Store(Path(sys.argv[1])) as store:
    found = extract_phrases(pl.Series(["A red mic."]), "chunks", 9, 5, 2, store)
    print(found["keywords"].to_list())
"""


def test_other_code_reads_anew(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "stages", tmp_path / "stages")
    command = [sys.executable, "-c", READ, str(tmp_path / "s")]

    def read() -> str:
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        return done.stdout + done.stderr

    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    assert read() == "[['red mic']]\n"
    keep_instead(tmp_path / "s", ["kept"])
    assert read() == "[['kept']]\n"
    with (tmp_path / "stages" / "enrich" / "text" / "chunks.py").open("a") as code:
        code.write("# Changed.\n")
    assert read() == "[['red mic']]\n"


def test_hash_is_of_text_method_and_numbers() -> None:
    texts = pl.Series(["A red mic.", "A blue mic.", "A red mic."])

    def hashes(method: Method, *numbers: int) -> list[str]:
        return extract_phrases(texts, method, *numbers)["hash"].to_list()

    first, second, third = hashes("chunks", 99, 5, 2)
    assert first == third != second
    others = [hashes("chunks", 98, 5, 2), hashes("chunks", 99, 4, 2), hashes("yake", 99, 5, 2)]
    assert len({first, *(one[0] for one in others)}) == 4


KILLED = """
import sys
from pathlib import Path
import polars as pl
from stages.core.store import Store
from stages.enrich.text.phrases import extract_phrases
with Store(Path(sys.argv[1])) as store:
    texts = pl.Series([f"A red mic for kid number {n}." for n in range(100_000)])
    extract_phrases(texts, "yake", 2000, 5, 2, store, processes=1)
"""


def rows_of(path: Path) -> int:
    """How many texts a store knows."""
    with sqlite3.connect(path) as entries:
        values = entries.execute("SELECT value FROM entries").fetchall()
    return sum(pl.read_parquet(value).height for (value,) in values)


def test_kill_loses_little_of_what_was_read(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / "s")])
    with Store(tmp_path / "s") as store:
        deadline = time.monotonic() + 60
        while len(store) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        process.kill()
        process.wait()
        kept = rows_of(tmp_path / "s")
        assert kept >= 1000
        found([f"A red mic for kid number {n}." for n in range(kept + 10)], "yake", 5, 2, store)
        assert rows_of(tmp_path / "s") == kept + 10


def test_what_was_read_before_an_error_is_kept(tmp_path: Path) -> None:
    with Store(tmp_path / "s") as store:
        with contextlib.suppress(KeyboardInterrupt), Batches(store, "family", "kind") as batches:
            batches.add("a", ["1"])
            batches.add("b", [])
            raise KeyboardInterrupt
        assert Batches(store, "family", "kind").known.rows() == [("a", ["1"]), ("b", [])]
        assert Batches(store, "famil", "kind").known.is_empty()


some_numbers = st.dictionaries(st.integers(0, 99), st.none(), min_size=1, max_size=9)


@settings(deadline=None, max_examples=20)
@given(st.lists(some_numbers, min_size=MANY, max_size=3 * MANY))
def test_every_row_is_found_once_however_many_batches(runs: list[dict[int, None]]) -> None:
    added: dict[str, list[str]] = {}
    with TemporaryDirectory() as folder, Store(Path(folder) / "s") as store:
        for run in runs:
            with Batches(store, "family", "numbers") as batches:
                assert dict(batches.known.rows()) == added
                assert batches.known.height == len(added)
                for n in run:
                    batches.add(f"h{n}", [str(n)] * (n % 3))
                assert set(batches.added()["hash"]) == {f"h{n}" for n in run}
            added |= {f"h{n}": [str(n)] * (n % 3) for n in run}
            assert len(store) <= MANY


def test_whole_batches_are_not_written_anew(tmp_path: Path) -> None:
    with Store(tmp_path / "s") as store:
        with Batches(store, "family", "numbers") as batches:
            for n in range(WHOLE + ADDED):
                batches.add(f"h{n}", [])
        (whole,) = store.get_family("family")
        for n in range(MANY + 1):
            with Batches(store, "family", "numbers") as batches:
                batches.add(f"i{n}", ["i"])
        assert whole in store.get_family("family")
        assert len(store) == 2
        assert Batches(store, "family", "numbers").known.height == WHOLE + ADDED + MANY + 1


def test_rows_that_a_whole_batch_holds_are_not_joined(tmp_path: Path) -> None:
    hashes = [f"h{n}" for n in range(WHOLE)]
    rows = pl.DataFrame({"hash": hashes, "keywords": [["k"]] * WHOLE})
    file = BytesIO()
    rows.write_parquet(file)
    with Store(tmp_path / "s") as store:
        store.put_many({"family:small": file.getvalue()}, "numbers")
        for n in range(MANY + 1):
            small = BytesIO()
            rows.slice(n, 9).write_parquet(small)
            store.put_many({f"family:{n}": small.getvalue()}, "numbers")
        with Batches(store, "family", "numbers") as batches:
            batches.add("new", [])
        assert rows_of(tmp_path / "s") == WHOLE + 1
        assert len(store) == 2


def test_batches_stay_apart_where_the_store_cannot_be_written_to(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Store(tmp_path / "s") as store:
        for n in range(MANY + 1):
            file = BytesIO()
            pl.DataFrame({"hash": [f"h{n}"], "keywords": [["k"]]}).write_parquet(file)
            store.put_many({f"family:{n}": file.getvalue()}, "numbers")
        store._connection.execute("PRAGMA query_only = ON")
        with Batches(store, "family", "numbers") as batches:
            assert batches.known.height == MANY + 1
        assert "33 batches of numbers stay apart" in caplog.text
        assert len(store) == MANY + 1


def test_batches_of_two_machines_come_together(tmp_path: Path) -> None:
    texts = [f"A red mic for kid number {n}." for n in range(6)]
    for name, read in (("here", texts[:4]), ("there", texts[2:])):
        with Store(tmp_path / name) as store:
            found(read, "chunks", 5, 2, store)
    with Store(tmp_path / "here") as store:
        assert [store.merge(tmp_path / "there") for _ in range(2)] == [1, 0]
        keep_instead(tmp_path / "here", ["kept"])
        assert found(texts, "chunks", 5, 2, store) == [["kept"]] * 6


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
    keywords = found(texts, method, 10, 2, processes=1)
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


def test_lists_that_are_not_there_are_no_empty_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = PathDistribution(tmp_path / "yake-9.dist-info")
    monkeypatch.setattr(languages, "distribution", lambda _: other)
    with pytest.raises(UserError, match=r"pip install -c constraints\.txt yake"):
        stop_words.__wrapped__("en")


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
