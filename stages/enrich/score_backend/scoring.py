"""Keywords against labels: what counts as found, and precision, recall and F1 of it."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stages.core import metrics
from stages.core.log import UserError
from stages.enrich.text.languages import LANGUAGES, stemmer, stop_words
from stages.enrich.text.lines import has_characters

LABELLED = Path(__file__).with_name("reviews.jsonl")
"""Reviews written for this purpose, with the keywords that a careful reader would note."""

_WORD = re.compile(r"[^\W_]+")

Synonyms = Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]


class LabelledReview(BaseModel):
    """A review and its keywords, each the list of the ways to say it that are accepted."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    language: str
    product: str
    text: str
    who: list[Synonyms]
    when: list[Synonyms]
    why: list[Synonyms]

    @property
    def accepted(self) -> list[list[str]]:
        """All keywords of the review, each with its synonyms."""
        return [*self.who, *self.when, *self.why]


def read_labelled(path: Path = LABELLED) -> list[LabelledReview]:
    """Return the labelled reviews of a JSON Lines file, in its order.

    Raises:
        UserError: the file cannot be read or holds no review; or a line is no labelled review, has
            the id of another one, no text, or a language without a stemmer.
    """
    reviews: list[LabelledReview] = []
    lines: dict[str, int] = {}
    # Not `splitlines`: texts may hold U+2028, which JSON leaves as it is.
    for number, line in enumerate(_read(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            review = LabelledReview.model_validate_json(line)
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in problem["loc"]) or "line"
            raise UserError(f"{path}:{number}: {where}: {problem['msg']}; correct it") from error
        if review.language not in LANGUAGES:
            raise UserError(
                f"{path}:{number}: language {review.language!r} is none of "
                f"{', '.join(LANGUAGES)}; choose one of them"
            )
        if not pl.select(has_characters(pl.lit(review.text))).item():
            raise UserError(f"{path}:{number}: text is blank; write the review's text there")
        if lines.setdefault(review.id, number) != number:
            raise UserError(
                f"{path}:{number}: id {review.id!r} is that of line {lines[review.id]}; "
                "give each review an id of its own"
            )
        reviews.append(review)
    if not reviews:
        raise UserError(f"{path} holds no review; write one a line, labelled, as JSON")
    return reviews


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}); correct the name of the labelled reviews"
        ) from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}:{line}: not UTF-8; save the file as UTF-8") from error


def normal_forms(phrase: str, language: str) -> set[tuple[str, ...]]:
    """Return the stems of the phrase's words, stop words left out, in its language and in English.

    Two phrases are the same keyword when they share a form: case, punctuation, inflection and
    articles do not count, the order of words does, and a part of a phrase is not the phrase.
    English is tried too, for a keyword may be given in it whatever the review's language is.
    """
    words = tuple(_WORD.findall(phrase.lower()))
    forms = set()
    for tongue in (language, "en"):
        kept = [word for word in words if word not in stop_words(tongue)] or words
        forms.add(tuple(stemmer(tongue).stemWords(list(kept))))
    return forms - {()}


def count_found(keywords: Sequence[str], accepted: Sequence[Sequence[str]], language: str) -> int:
    """Return how many of the accepted keywords are among `keywords`, each counted once.

    Another synonym of a keyword that was found is one keyword too many, so precision pays for it.
    """
    given = set().union(*(normal_forms(keyword, language) for keyword in keywords))
    return sum(
        any(normal_forms(synonym, language) & given for synonym in synonyms)
        for synonyms in accepted
    )


def score(
    reviews: Sequence[LabelledReview], keywords: Sequence[Sequence[str]], valid: Sequence[bool]
) -> pl.DataFrame:
    """Return one row a review: id, language, valid, found, given, accepted, precision, recall, f1.

    * precision = found / given, null where nothing is given.
    * recall = found / accepted, null where nothing is to be found.
    * f1 = 2 found / (given + accepted), 1 where both are none: silence is then the right answer.

    Args:
        reviews: the labelled reviews.
        keywords: of each review, in order.
        valid: whether a review's answer was of the schema; one that was not has no keywords.
    """
    counts = pl.DataFrame(
        [
            (
                review.id,
                review.language,
                bool(right),
                count_found(given, review.accepted, review.language),
                len(given),
                len(review.accepted),
            )
            for review, given, right in zip(reviews, keywords, valid, strict=True)
        ],
        schema={
            "id": pl.String,
            "language": pl.String,
            "valid": pl.Boolean,
            "found": pl.Int64,
            "given": pl.Int64,
            "accepted": pl.Int64,
        },
        orient="row",
    )
    found, given, accepted = pl.col("found"), pl.col("given"), pl.col("accepted")
    return counts.with_columns(
        precision=pl.when(given > 0).then(found / given),
        recall=pl.when(accepted > 0).then(found / accepted),
        f1=pl.when(given + accepted > 0).then(2 * found / (given + accepted)).otherwise(1.0),
    )


def summarise(scored: pl.DataFrame, resamples: int = 2000, seed: int = 0) -> dict[str, Any]:
    """Return {"reviews", "valid", "macro", "micro"} of `score`, with 95 % bootstrap intervals.

    Macro figures are means over reviews, micro figures are of the reviews' counts added up
    (Manning, Raghavan and Schütze, "Introduction to Information Retrieval", 2008, section 13.6).
    """
    names = ["precision", "recall", "f1"]
    counts = scored.select("found", "given", "accepted").to_numpy().astype(np.float64)
    point = _micro(np.ones((1, len(counts))) @ counts)[0]
    draws = np.concatenate(
        [_micro(w @ counts) for w in metrics.resampled(len(counts), resamples, seed)]
    )
    low, high = np.nanquantile(draws, [0.025, 0.975], axis=0)
    return {
        "reviews": scored.height,
        "valid": scored["valid"].mean(),
        "macro": metrics.intervals(scored.select(names), resamples, 0.95, seed),
        "micro": {
            name: {"mean": float(point[at]), "low": float(low[at]), "high": float(high[at])}
            for at, name in enumerate(names)
        },
    }


def _micro(totals: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return precision, recall and F1, a row each, of rows of found, given and accepted."""
    found, given, accepted = totals.T
    below = np.stack([given, accepted, (given + accepted) / 2], axis=1)
    return np.divide(found[:, None], below, out=np.zeros_like(below), where=below > 0)
