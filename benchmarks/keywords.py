"""Keywords by ways of ranking phrases that were alternatives to `chunks`, on the labelled reviews.

Phrases are what stands between stop words and punctuation, of up to `keywords.max_words` words.
They are kept as they stand or ranked: by MiniLM's similarity to the review or to anchors, or by how
much more their words are said in the review than in all others. How many are kept is chosen on the
half of the labelled reviews that choices are made by, and F1 is that of the other half. The anchors
were not chosen by labels.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import polars as pl
import regex
import typer

from stages.core import metrics
from stages.core.params import Encoder, Keywords
from stages.encode.encoders import TextEncoder, load_encoder
from stages.enrich.score_backend.__main__ import PARTS
from stages.enrich.score_backend.scoring import LabelledReview, read_labelled, score
from stages.enrich.text.chunks import chunk_phrases
from stages.enrich.text.languages import detect_language, stemmer, stop_words
from stages.enrich.text.phrases import Method, clean_phrases, extract_phrases
from stages.enrich.text.words import LETTER, WORD, plain

SETTINGS = Keywords()
ANCHORS = ("beginners", "curly hair", "outdoor gigs", "before bed", "stays in tune", "dry skin")
"""What the prompt of a language model names as examples of whom, when and why."""
PRIOR = 50.0
"""Words that the prior of the log-odds weighs as much as: about a review's."""

RESAMPLES = 2000

_TOKEN = regex.compile(rf"{WORD}|[^{LETTER}_\s]", regex.V1)

Phrases = list[str]
Rank = Callable[[Sequence[str], Sequence[Phrases]], list[Phrases]]
"""From texts and their phrases to those phrases, the best first."""


def between_stop_words(text: str, max_words: int) -> Phrases:
    """Return the runs of words between punctuation and stop words, as `chunk_phrases` does."""
    tokens = _TOKEN.findall(plain(text))
    common = stop_words(detect_language(tokens))
    phrases: Counter[str] = Counter()
    run: list[str] = []
    for token in [*tokens, "."]:
        is_word = any(character.isalpha() for character in token)
        if is_word and token not in common and token.partition("'")[0] not in common:
            run.append(token)
            continue
        last = max(1, len(run) - max_words + 1)
        phrases.update(" ".join(run[at : at + max_words]) for at in range(last if run else 0))
        run = []
    return [phrase for phrase, _ in phrases.most_common()]


def candidates(texts: Iterable[str], phrases_of: Callable[[str, int], Phrases]) -> list[Phrases]:
    """Return every phrase of each text, clean."""
    return [clean_phrases(phrases_of(text, SETTINGS.max_words), len(text)) for text in texts]


def by_method(texts: Sequence[str], method: Method) -> list[Phrases]:
    """Return the keywords of each text by a backend that asks no language model."""
    limits = SETTINGS.max_review_chars, SETTINGS.max_keywords, SETTINGS.max_words
    return extract_phrases(pl.Series(texts), method, *limits)["keywords"].to_list()


def as_they_stand(_: Sequence[str], phrases: Sequence[Phrases]) -> list[Phrases]:
    """Rank nothing."""
    return list(phrases)


@cache
def _encoder() -> TextEncoder:
    return load_encoder(Encoder())


def _vectors(texts: Sequence[str]) -> npt.NDArray[np.float32]:
    return _encoder().encode(list(texts), "document").dense


def by_review(texts: Sequence[str], phrases: Sequence[Phrases]) -> list[Phrases]:
    """Rank by similarity to the text (KeyBERT: Grootendorst, 2020, without its diversity)."""
    pairs = zip(texts, phrases, strict=True)
    return _ranked(phrases, [_of(own, _vectors([text])) for text, own in pairs])


def by_anchors(_: Sequence[str], phrases: Sequence[Phrases]) -> list[Phrases]:
    """Rank by similarity to the nearest of the anchors."""
    anchors = _vectors(ANCHORS)
    return _ranked(phrases, [_of(own, anchors) for own in phrases])


def _of(phrases: Phrases, others: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return (_vectors(phrases) @ others.T).max(axis=1) if phrases else np.empty(0, np.float32)


def by_log_odds(texts: Sequence[str], phrases: Sequence[Phrases]) -> list[Phrases]:
    """Rank by the mean over a phrase's words of their log-odds against all other texts, as z.

    Monroe, Colaresi and Quinn, "Fightin' Words", 2008: log-odds with an informative Dirichlet
    prior, here the words' shares in all texts. Words are stems.
    """
    said = [Counter(_stems(plain(text), text)) for text in texts]
    everything = sum(said, Counter())
    total = everything.total()
    scores = []
    for text, own, mine in zip(texts, phrases, said, strict=True):
        size = mine.total()

        def z(word: str, mine: Counter[str] = mine, size: int = size) -> float:
            prior = PRIOR * max(everything[word], 1) / total
            here, there = mine[word] + prior, everything[word] - mine[word] + prior
            rest = total - size + PRIOR - there
            odds = np.log(here / (size + PRIOR - here)) - np.log(there / rest)
            return float(odds / np.sqrt(1 / here + 1 / there))

        scores.append([float(np.mean([z(word) for word in _stems(one, text)])) for one in own])
    return _ranked(phrases, scores)


def _stems(said: str, text: str) -> list[str]:
    """Return the stems of what is said in the language of a text."""
    language = detect_language(_TOKEN.findall(plain(text)))
    return list(stemmer(language).stemWords(regex.findall(WORD, said, regex.V1)))


def _ranked(phrases: Sequence[Phrases], scores: Iterable[Any]) -> list[Phrases]:
    """Return phrases by falling score; of equal ones the first."""
    orders = (np.argsort(-np.asarray(one), kind="stable") for one in scores)
    return [[own[at] for at in order] for own, order in zip(phrases, orders, strict=True)]


def f1(reviews: Sequence[LabelledReview], keywords: Sequence[Phrases]) -> pl.Series:
    """Return the F1 of each review."""
    return score(reviews, keywords, [True] * len(reviews))["f1"]


def best_number(reviews: Sequence[LabelledReview], ranked: Sequence[Phrases]) -> int:
    """Return how many phrases give the best mean F1, the fewest of equal ones."""
    numbers = range(1, SETTINGS.max_keywords + 1)
    return max(numbers, key=lambda n: (f1(reviews, [one[:n] for one in ranked]).mean(), -n))


def main() -> None:
    """Print F1 of each way, and paired against YAKE."""
    reviews = read_labelled()
    texts = [" ".join(review.text.split())[: SETTINGS.max_review_chars] for review in reviews]
    between, chunks = (candidates(texts, how) for how in (between_stop_words, chunk_phrases))
    choose, report = PARTS["choose"], PARTS["report"]
    found: dict[str, tuple[int, list[Phrases]]] = {
        f"`{method}`": (SETTINGS.max_keywords, by_method(texts, method))
        for method in get_args(Method)
    }
    ways: dict[str, tuple[list[Phrases], Rank]] = {
        "phrases as they stand": (between, as_they_stand),
        "similarity to the review, MiniLM": (between, by_review),
        "similarity to anchors, MiniLM": (between, by_anchors),
        "log-odds against all other reviews": (between, by_log_odds),
        "`chunks`, similarity to anchors": (chunks, by_anchors),
    }
    for name, (phrases, rank) in ways.items():
        ranked = rank(texts, phrases)
        found[name] = best_number(reviews[choose], ranked[choose]), ranked
    f1_of = {
        name: f1(reviews[report], [one[:number] for one in ranked[report]])
        for name, (number, ranked) in found.items()
    }
    typer.echo(
        f"{len(reviews[report])} of {len(reviews)} reviews; the number of phrases was chosen on "
        "the others, those of `chunks` and `yake` are the default\n"
    )
    typer.echo("| ranked by | phrases | F1 | against yake |\n|---|---|---|---|")
    for name, (number, _) in found.items():
        own = metrics.intervals(f1_of[name].to_frame(), RESAMPLES, 0.95, 0)["f1"]
        against = metrics.paired_difference(f1_of[name], f1_of["`yake`"], RESAMPLES)
        typer.echo(f"| {name} | {number} | {_interval(own, '')} | {_interval(against, '+')} |")


def _interval(figure: metrics.Interval, sign: str) -> str:
    low, high = figure["low"], figure["high"]
    return f"{figure['mean']:{sign}.3f} ({low:.3f} to {high:.3f})"


if __name__ == "__main__":
    typer.run(main)
