"""Scores of keywords against labels, worked out by hand, and the command that prints them."""

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from chat_server import ChatServer

from stages.core.log import UserError
from stages.core.params import Keywords
from stages.enrich.score_backend.scoring import (
    LabelledReview,
    count_found,
    normal_forms,
    read_labelled,
    score,
    summarise,
)
from stages.enrich.text.languages import LANGUAGES

ROOT = Path(__file__).parents[2]


def labelled(name: str, *keywords: list[str], language: str = "en") -> LabelledReview:
    about = {"id": name, "language": language, "product": "toys", "text": "words of a review"}
    return LabelledReview.model_validate(about | {"who": list(keywords), "when": [], "why": []})


@pytest.mark.parametrize(
    ("keyword", "synonym", "language"),
    [
        ("Dry Skin", "dry skin", "en"),
        ("curly hairs", "curly hair", "en"),
        ("for my mother", "mother", "en"),
        ("non-greasy", "non greasy", "en"),
        ("Anfängern", "anfänger", "de"),
        ("für die Tochter", "tochter", "de"),
        ("beginner", "beginners", "de"),
        ("pique-nique", "pique-niques", "fr"),
    ],
)
def test_same_keyword(keyword: str, synonym: str, language: str) -> None:
    assert normal_forms(keyword, language) & normal_forms(synonym, language)


@pytest.mark.parametrize(
    ("keyword", "synonym"),
    [
        ("skin", "dry skin"),
        ("very dry skin type", "dry skin"),
        ("skin dry", "dry skin"),
        ("!", "?"),
    ],
)
def test_other_keyword(keyword: str, synonym: str) -> None:
    assert not normal_forms(keyword, "en") & normal_forms(synonym, "en")


def test_phrase_of_stop_words_alone_keeps_them() -> None:
    assert normal_forms("the one", "en") == {("the", "one")}
    assert normal_forms("...", "en") == set()


def test_each_accepted_keyword_is_found_once() -> None:
    accepted = [["mother", "mom"], ["dry skin"]]
    assert count_found(["mom", "Mothers", "oily skin"], accepted, "en") == 1
    assert count_found(["dry skin", "mom"], accepted, "en") == 2
    assert count_found([], accepted, "en") == 0


def test_score_of_each_kind_of_review() -> None:
    reviews = [
        labelled("half", ["mother", "mom"], ["dry skin"], ["bed"], ["winter"]),
        labelled("silent, rightly"),
        labelled("talks of nothing"),
        labelled("misses all", ["kids"]),
    ]
    keywords = [["mom", "dry skin", "mother", "box"], [], ["box"], []]
    scored = score(reviews, keywords, [True, True, True, False])
    assert scored.select("found", "given", "accepted").rows() == [
        (2, 4, 4),
        (0, 0, 0),
        (0, 1, 0),
        (0, 0, 1),
    ]
    assert scored["precision"].to_list() == [0.5, None, 0.0, None]
    assert scored["recall"].to_list() == [0.5, None, None, 0.0]
    assert scored["f1"].to_list() == [0.5, 1.0, 0.0, 0.0]


def test_macro_is_of_reviews_and_micro_of_counts() -> None:
    reviews = [labelled("a", ["kids"], ["bed"], ["gym"]), labelled("b", ["dogs"])]
    scored = score(reviews, [["kids", "box"], ["dogs"]], [True, False])
    summary = summarise(scored, resamples=200)
    assert (summary["reviews"], summary["valid"]) == (2, 0.5)
    macro = {name: figure["mean"] for name, figure in summary["macro"].items()}
    assert macro == pytest.approx({"precision": 3 / 4, "recall": 2 / 3, "f1": 7 / 10})
    micro = {name: figure["mean"] for name, figure in summary["micro"].items()}
    assert micro == pytest.approx({"precision": 2 / 3, "recall": 1 / 2, "f1": 4 / 7})
    # A resample holds one of the reviews twice, or both: F1 0.4, 1 or 4/7.
    assert (summary["micro"]["f1"]["low"], summary["micro"]["f1"]["high"]) == (0.4, 1.0)
    assert summary == summarise(scored, resamples=200)


def test_labelled_reviews_are_many_various_and_well_formed() -> None:
    reviews = read_labelled()
    assert len(reviews) >= 60
    assert len({review.id for review in reviews}) == len({r.text for r in reviews}) == len(reviews)
    assert {review.language for review in reviews} == set(LANGUAGES)
    assert len({review.product for review in reviews}) >= 6
    assert sum(not review.accepted for review in reviews) >= 5
    for review in reviews:
        seen: set[tuple[str, ...]] = set()
        for synonyms in review.accepted:
            forms = set().union(*(normal_forms(one, review.language) for one in synonyms))
            assert forms
            assert not forms & seen, f"{review.id}: {synonyms} share a form with another keyword"
            seen |= forms


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "reviews.jsonl:2: line: Invalid JSON"),
        ('{"id": "x"}', "reviews.jsonl:2: language: Field required"),
        (
            labelled("x").model_copy(update={"language": "xx"}).model_dump_json(),
            "reviews.jsonl:2: language 'xx' is none of en, de, es, fr, it; choose one of them",
        ),
        (
            labelled("x").model_copy(update={"text": " \u2028\t"}).model_dump_json(),
            "reviews.jsonl:2: text is blank; write the review's text there",
        ),
        (
            labelled("a").model_dump_json(),
            "reviews.jsonl:2: id 'a' is that of line 1; give each review an id of its own",
        ),
    ],
)
def test_bad_labels_are_named(line: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "reviews.jsonl"
    file.write_text(f"{labelled('a').model_dump_json()}\n{line}\n", "utf-8")
    with pytest.raises(UserError) as error:
        read_labelled(file)
    assert message in str(error.value)


def test_lines_end_at_line_feeds_alone(tmp_path: Path) -> None:
    """JSON leaves U+2028 in a text as it is; empty lines and a byte order mark say nothing."""
    texts = ["one\u2028two", "three\u0085four", "five"]
    reviews = [labelled(text).model_copy(update={"text": text}) for text in texts]
    one, two, three = (json.dumps(r.model_dump(), ensure_ascii=False) for r in reviews)
    file = tmp_path / "reviews.jsonl"
    file.write_bytes(f"\ufeff{one}\r\n\n{two}\n{three}".encode())
    assert read_labelled(file) == reviews


def command(*options: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "stages.enrich.score_backend", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def costs(output: str) -> dict[str, str]:
    """Return what the only language model cost, by the names of the columns."""
    lines = iter(output.splitlines())
    header = next(line for line in lines if line.startswith("| cost |")).strip("|").split(" | ")
    next(lines)
    row = next(lines).strip("|").split(" | ")
    return dict(zip([name.strip() for name in header], [c.strip() for c in row], strict=True))


def cells(output: str, backend: str) -> list[str]:
    row = next(line for line in output.splitlines() if line.startswith(f"| {backend} |"))
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_default_backend_is_clearly_better_than_yake() -> None:
    assert Keywords().backend == "chunks"
    done = command("--backend", "yake", "--backend", "chunks", "--part", "report")
    assert done.returncode == 0, done.stderr
    difference = cells(done.stdout, "chunks - yake")[1]
    assert float(difference.partition("(")[2].partition(" ")[0]) > 0.05
    assert float(cells(done.stdout, "chunks")[3].split()[0]) > 0.5
    assert float(cells(done.stdout, "chunks")[-1].replace(",", "")) > 300


def test_language_model_is_scored_by_its_answers(chat_server: ChatServer, tmp_path: Path) -> None:
    """The server answers with the first three words, a word a field, or with no JSON at all."""
    reviews = [
        labelled("a", ["kids"], ["winter"]).model_copy(
            update={"text": "Kids like winter and so do we"}
        ),
        labelled("b", ["dogs"]).model_copy(update={"text": "Dogs bark BROKEN"}),
    ]
    file = tmp_path / "reviews.jsonl"
    file.write_text("".join(f"{json.dumps(r.model_dump())}\n" for r in reviews), "utf-8")
    params = tmp_path / "params.yaml"
    params.write_text(
        f"llm: {{model: tiny, base_url: '{chat_server.url}', max_retries: 0}}\n", "utf-8"
    )
    options = ["--params", str(params), "--backend", "openai", "--labelled", str(file)]
    options += ["--store", str(tmp_path / "answers.sqlite")]
    done = command(*options)
    assert done.returncode == 0, done.stderr
    row = cells(done.stdout, "openai")
    # Of "kids" and "winter" ("like" is a stop word and goes) both are right; the other is invalid.
    assert row[1] == "0.500"
    assert [cell.split()[0] for cell in row[2:8]] == [
        "1.000",
        "0.500",
        "0.500",
        "1.000",
        "0.667",
        "0.800",
    ]
    paid = costs(done.stdout)
    assert (paid["asked"], paid["asked again"], paid["from store"]) == ("2", "1", "0")
    assert (paid["tokens in"], paid["tokens out"]) == ("30", "9")

    again = command(*options)
    assert again.returncode == 0, again.stderr
    assert cells(again.stdout, "openai")[:-1] == row[:-1]
    assert cells(again.stdout, "openai")[-1] == ""  # nothing to measure the speed of
    assert len(chat_server.asked) == 3
    free = costs(again.stdout)
    assert (free["asked"], free["from store"]) == ("0", "2")
    assert (free["tokens in"], free["seconds"]) == ("0", "0.0")
    assert (free["tokens in store"], free["tokens out store"]) == ("30", "9")


def test_prompts_are_compared_with_the_first(chat_server: ChatServer, tmp_path: Path) -> None:
    """The server answers each prompt alike, and is asked by each."""
    file, params = tmp_path / "reviews.jsonl", tmp_path / "params.yaml"
    review = labelled("a", ["kids"], ["winter"]).model_copy(update={"text": "Kids like winter"})
    file.write_text(f"{json.dumps(review.model_dump())}\n", "utf-8")
    params.write_text(
        f"llm: {{model: tiny, base_url: '{chat_server.url}', max_retries: 0}}\n", "utf-8"
    )
    prompts = [tmp_path / "short.yaml", tmp_path / "long.yaml"]
    for path in prompts:
        path.write_text(f"system: Answer in a {path.stem} way.\n", "utf-8")
    options = [word for path in prompts for word in ("--prompt", str(path))]
    backends = ("--backend", "openai", "--backend", "chunks")
    options += ["--store", str(tmp_path / "answers.sqlite")]
    done = command("--params", str(params), "--labelled", str(file), *backends, *options)
    assert done.returncode == 0, done.stderr
    assert [one["body"]["messages"][0]["content"] for one in chat_server.asked] == [
        "Answer in a short way.",
        "Answer in a long way.",
    ]
    short, long = (f"openai {path}" for path in prompts)
    assert cells(done.stdout, short)[1:9] == cells(done.stdout, long)[1:9]
    assert cells(done.stdout, f"{long} - {short}")[1] == "0.000 (0.000 to 0.000)"
    assert cells(done.stdout, f"chunks - {short}")


def test_language_without_labels_is_refused(tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    params.write_text("keywords: {backend: openai, language: pt}\n", "utf-8")
    done = command("--params", str(params))
    assert done.returncode == 1
    assert "keywords.language is 'pt', and keywords are labelled in" in done.stderr
    params.write_text("keywords: {backend: openai, language: en}\n", "utf-8")
    assert command("--params", str(params), "--backend", "chunks").returncode == 0


@pytest.mark.parametrize("options", [("--backend", "best"), ("--part", "some")])
def test_unknown_choice_is_one_sentence(options: tuple[str, str]) -> None:
    done = command(*options)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {options[0]} '{options[1]}' is n")
    assert len(done.stderr.splitlines()) == 1


GOOD = f"{labelled('a').model_dump_json()}\n".encode()


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (None, (), "{file} cannot be read (No such file or directory); correct the name"),
        (b"", (), "{file} holds no review; write one a line, labelled, as JSON"),
        (b"", ("--part", "report"), "{file} holds no review; write one a line"),
        (GOOD, ("--part", "report"), "{file} holds one review, and --part report is every other"),
        (GOOD + b'{"id": "caf\xe9"}\n', (), "{file}:2: not UTF-8; save the file as UTF-8"),
        (GOOD + GOOD, (), "{file}:2: id 'a' is that of line 1;"),
        (GOOD.replace(b"words of a review", b" "), (), "{file}:1: text is blank;"),
    ],
    ids=["missing", "empty", "empty, a part", "one line, a part", "Latin 1", "same id", "blank"],
)
def test_a_bad_file_is_one_sentence(
    content: bytes | None, options: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    file = tmp_path / "reviews.jsonl"
    if content is not None:
        file.write_bytes(content)
    done = command("--backend", "chunks", "--labelled", str(file), *options)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {message.format(file=file)}")
    assert len(done.stderr.splitlines()) == 1


def test_one_review_is_enough(tmp_path: Path) -> None:
    file = tmp_path / "reviews.jsonl"
    file.write_bytes(GOOD)
    done = command("--backend", "chunks", "--labelled", str(file), "--part", "choose")
    assert done.returncode == 0, done.stderr
    assert cells(done.stdout, "chunks")[1] == "1.000"


def test_scored_columns_are_typed_without_reviews() -> None:
    assert score([], [], []).schema["f1"] == pl.Float64
