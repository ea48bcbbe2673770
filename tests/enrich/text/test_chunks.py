"""Phrases between the words that every review has, worked out by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.enrich.text.chunks import REVIEW_WORDS, chunk_phrases
from stages.enrich.text.languages import LANGUAGES, detect_language, stemmer, stop_words
from stages.enrich.text.words import plain


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        # Stop words, review words in any inflection, and punctuation end a phrase.
        ("I bought this for my mother's dry skin.", ["mother's dry", "dry skin"]),
        ("We recommended the red mic, stand and cable", ["red mic", "stand", "cable"]),
        ("Stays in tune", ["tune"]),
        # Of a run longer than two words, every two in a row.
        ("long outdoor summer gigs", ["long outdoor", "outdoor summer", "summer gigs"]),
        # What is said twice stands first, though it comes later.
        ("Soft brush. Thick hair; yes, thick hair!", ["thick hair", "soft brush"]),
        ("1/4 inch jack-plug, 20 of them", ["inch jack-plug"]),
        ("Don’t sting", ["sting"]),
        ("Great product, 5 stars!!!", []),
        ("", []),
        # Other languages by their own stop words and review words.
        ("Für meine Tochter gekauft, sie hat trockene Haut", ["tochter", "trockene haut"]),
        ("Lo compré para mi madre y su piel seca", ["madre", "piel seca"]),
        ("Acheté pour ma fille et la peau sensible", ["fille", "peau sensible"]),
        ("Ho comprato questo per la pelle secca di mia madre", ["pelle secca", "madre"]),
    ],
)
def test_phrases_of_a_text(text: str, phrases: list[str]) -> None:
    assert chunk_phrases(text, max_words=2) == phrases


def test_number_of_words_is_that_asked_for() -> None:
    text = "long outdoor summer gigs"
    assert chunk_phrases(text, 1) == ["long", "outdoor", "summer", "gigs"]
    assert chunk_phrases(text, 3) == ["long outdoor summer", "outdoor summer gigs"]
    assert chunk_phrases(text, 9) == [text]


@given(st.text(max_size=200), st.integers(1, 4))
def test_phrases_are_runs_of_the_text_without_stop_words(text: str, max_words: int) -> None:
    phrases = chunk_phrases(text, max_words)
    assert len(phrases) == len(set(phrases))
    for phrase in phrases:
        words = phrase.split(" ")
        assert 1 <= len(words) <= max_words
        assert all(word in plain(text) for word in words)
        assert not any(all(w in stop_words(tongue) for tongue in LANGUAGES) for w in words)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("the cat is on my bed", "en"),
        ("die katze ist auf meinem bett", "de"),
        ("el gato está en mi cama", "es"),
        ("le chat est sur mon lit", "fr"),
        ("il gatto è sul mio letto", "it"),
        ("", "en"),
        ("xyzzy", "en"),
    ],
)
def test_language(text: str, language: str) -> None:
    assert detect_language(text.split()) == language


@pytest.mark.parametrize("language", LANGUAGES)
def test_review_words_are_each_written_once(language: str) -> None:
    words = REVIEW_WORDS[language].split()
    assert len(words) == len(set(words))
    assert all(stemmer(language).stemWord(word) for word in words)
