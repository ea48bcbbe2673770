"""Prompts in files: the packaged ones hold to their forms, malformed ones are named."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from stages.core.log import UserError
from stages.core.params import Keywords, Summaries
from stages.enrich.keywords import keywords_task
from stages.enrich.llm.forms import ReviewKeywords, json_schema, summary_form
from stages.enrich.llm.prompts import load_prompt
from stages.enrich.score_backend.scoring import read_labelled
from stages.enrich.summaries import summaries_task
from stages.enrich.text.languages import LANGUAGES

ROOT = Path(__file__).parents[3]
EXAMPLE: dict[str, Any] = {
    "language": "de",
    "text": "Für Anfänger.",
    "answers": {
        "de": {"who": ["anfänger"], "when": [], "why": []},
        "en": {"when": [], "why": [], "who": ["beginners"]},
    },
}
PROMPT = {"system": "Say it in {language}.", "examples": [EXAMPLE]}


def written(folder: Path, content: Any) -> Path:
    path = folder / "mine.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), "utf-8")
    return path


@pytest.mark.parametrize(
    ("path", "form"),
    [
        (Keywords().prompt, ReviewKeywords),
        (Summaries().prompt, summary_form(300)),
    ],
    ids=["keywords", "summaries"],
)
def test_packaged_prompt_describes_its_form_and_shows_it(path: Path, form: Any) -> None:
    content = yaml.safe_load((ROOT / path).read_text("utf-8"))
    assert all(f'"{field}"' in content["system"] for field in json_schema(form)["properties"])
    languages = [example["language"] for example in content["examples"]]
    assert len(languages) >= 3
    assert languages.count("en") >= 2
    assert set(languages) != {"en"}
    for example in content["examples"]:
        for answer in example["answers"].values():
            form.model_validate(answer)


def test_packaged_examples_of_keywords_are_answered_in_every_language_that_is_told_apart() -> None:
    spoken = {language: load_keywords(language) for language in (None, *LANGUAGES)}
    assert {len(prompt.examples) for prompt in spoken.values()} == {4}
    answers = {language: prompt.examples[2][1] for language, prompt in spoken.items()}
    assert len({*answers.values()}) == 5
    assert answers[None] == answers["de"]


def test_no_example_is_a_review_that_scores_prompts() -> None:
    labelled = {review.text for review in read_labelled()}
    assert not labelled & {text for text, _ in load_keywords(None).examples}


def load_keywords(language: str | None) -> Any:
    return keywords_task(Keywords(backend="openai", language=language)).prompt


def test_keywords_are_asked_for_in_the_language_of_the_review_or_in_a_named_one() -> None:
    assert "Write every phrase in the language of the text." in load_keywords(None).instructions
    assert "Write every phrase in English." in load_keywords("en").instructions
    portuguese = load_keywords("pt")
    assert "Write every phrase in Portuguese." in portuguese.instructions
    assert portuguese.examples == ()


def test_messages_are_the_instructions_and_the_examples_as_turns(tmp_path: Path) -> None:
    prompt = load_prompt(written(tmp_path, PROMPT), ReviewKeywords, "en")
    assert prompt.messages == [
        {"role": "system", "content": "Say it in English."},
        {"role": "user", "content": "Für Anfänger."},
        {"role": "assistant", "content": '{"who": ["beginners"], "when": [], "why": []}'},
    ]


def test_summaries_are_shown_that_are_no_longer_than_is_asked_for() -> None:
    for limit, count in ((300, 3), (190, 2), (10, 0)):
        prompt = summaries_task(Summaries(max_chars=limit)).prompt
        assert f"{limit} characters at most" in prompt.instructions
        lengths = [len(json.loads(answer)["summary"]) for _, answer in prompt.examples]
        assert len(lengths) == count
        assert all(length <= limit for length in lengths)


def test_file_of_the_folder_of_the_run_comes_before_that_of_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Keywords().prompt
    packaged = load_prompt(path, ReviewKeywords)
    path.parent.mkdir(parents=True)
    path.write_text("system: Be brief.\n", "utf-8")
    assert load_prompt(path, ReviewKeywords).instructions == "Be brief."
    assert len(packaged.examples) == 4


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("system: [", "is no YAML (while parsing"),
        ("", "Input should be a valid dictionary"),
        ({"examples": []}, "system: Field required"),
        ({"system": ""}, "system: String should have at least 1 character"),
        (PROMPT | {"model": "x"}, "model: Extra inputs are not permitted"),
        ({"system": "x", "examples": [{**EXAMPLE, "text": ""}]}, "examples.0.text: String should"),
        (
            {"system": "x", "examples": [EXAMPLE, {**EXAMPLE, "language": "deutsch"}]},
            "examples.1: 'deutsch' is no code of ISO 639-1",
        ),
        (
            {"system": "x", "examples": [{**EXAMPLE, "language": "fr"}]},
            "examples.0: answers: none in the text's own language, 'fr'",
        ),
        (
            {"system": "x", "examples": [{**EXAMPLE, "answers": {"de": {"who": []}}}]},
            "examples.0.answers.de.when: Field required",
        ),
    ],
)
def test_malformed_file_is_one_sentence_that_names_it_and_the_place(
    tmp_path: Path, content: Any, said: str
) -> None:
    path = written(tmp_path, content)
    with pytest.raises(UserError) as caught:
        load_prompt(path, ReviewKeywords)
    message = str(caught.value)
    assert message.startswith(f"{path}")
    assert said in message
    assert message.endswith("correct it")
    assert "\n" not in message


def test_missing_file_is_named_with_what_to_copy(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.yaml cannot be read .*copy one of"):
        load_prompt(tmp_path / "nowhere.yaml", ReviewKeywords)


def test_language_that_the_instructions_do_not_ask_for_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, {"system": "Say it."})
    assert load_prompt(path, ReviewKeywords).instructions == "Say it."
    with pytest.raises(UserError, match=r"does not say \{language\}, so answers cannot .*English"):
        load_prompt(path, ReviewKeywords, "en")


@pytest.mark.parametrize(
    "place",
    [
        *("{langauge}", "{max_chars}", "{ language }", "{Language}"),
        *("{max chars}", "{max-chars}", "{the language of the text}", "{langauge} and {max chars}"),
    ],
)
def test_place_for_which_nothing_stands_is_refused(tmp_path: Path, place: str) -> None:
    path = written(tmp_path, {"system": f"Say it in {{language}}, {place} at most."})
    with pytest.raises(UserError) as caught:
        load_prompt(path, ReviewKeywords)
    said = f"{path}: system says {place}, and only {{language}} is filled in; correct it"
    assert str(caught.value) == said


def test_place_is_named_once_and_on_one_line(tmp_path: Path) -> None:
    path = written(tmp_path, {"system": "{max chars}, {max\n  chars}, {max chars}."})
    with pytest.raises(UserError, match=r"system says \{max chars\}, and only"):
        load_prompt(path, ReviewKeywords)


def test_what_a_task_fills_in_must_be_said(tmp_path: Path) -> None:
    path = written(tmp_path, {"system": "Be brief, in {language}."})
    with pytest.raises(UserError, match=r"mine\.yaml: system does not say \{max_chars\}, so the "):
        summaries_task(Summaries(prompt=path))
    written(tmp_path, {"system": "Be brief: {max_char} characters."})
    with pytest.raises(UserError, match=r"only \{language\}, \{max_chars\} are filled in"):
        summaries_task(Summaries(prompt=path))


def test_json_in_braces_is_no_place(tmp_path: Path) -> None:
    system = 'Answer {"who": ["kids"], "when": [], "why": {}} or {} or { "who": [] } or {who: []}.'
    example = {**EXAMPLE, "text": "Say {langauge} or {who}."}
    path = written(tmp_path, {"system": system, "examples": [example]})
    prompt = load_prompt(path, ReviewKeywords)
    assert prompt.instructions == system
    assert prompt.examples[0][0] == "Say {langauge} or {who}."


def test_norwegian_examples(tmp_path: Path) -> None:
    answer = "{who: [nybegynnere], when: [], why: []}"
    path = written(
        tmp_path,
        f"""
        system: Say it in {{language}}.
        examples:
          - {{language: 'no', text: For nybegynnere., answers: {{'no': {answer}}}}}
        """,
    )
    prompt = load_prompt(path, ReviewKeywords, "no")
    assert prompt.instructions == "Say it in Norwegian."
    assert prompt.examples == (
        ("For nybegynnere.", '{"who": ["nybegynnere"], "when": [], "why": []}'),
    )
