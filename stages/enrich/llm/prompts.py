"""Prompts: files of instructions and worked examples, which a user may copy and change."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from stages.core.iso639 import LANGUAGE_NAMES, LanguageCode
from stages.core.log import UserError
from stages.enrich.llm.base import Conversation

_ROOT = Path(__file__).parents[3]
_PLACE = re.compile(r"\{\s*\w[\w\s.-]*\}")
"""Words in braces; JSON has quotes, colons or nothing in them."""
_SAID = Annotated[str, Field(min_length=1)]


@dataclass(frozen=True)
class Prompt:
    """What stands before every text that a model is asked about.

    Attributes:
        instructions: the system message.
        examples: texts and the JSON that they are rightly answered with.
    """

    instructions: str
    examples: tuple[tuple[str, str], ...] = ()

    @property
    def messages(self) -> Conversation:
        """The system message, then the examples as turns of user and assistant."""
        turns = [
            {"role": role, "content": said}
            for example in self.examples
            for role, said in zip(("user", "assistant"), example, strict=True)
        ]
        return [{"role": "system", "content": self.instructions}, *turns]


class _Example(BaseModel):
    model_config = ConfigDict(extra="forbid")

    language: LanguageCode
    text: _SAID
    answers: dict[LanguageCode, dict[str, Any]]

    @model_validator(mode="after")
    def _languages(self) -> Self:
        for language in (self.language, *self.answers):
            if language not in LANGUAGE_NAMES:
                raise ValueError(f"{language!r} is no code of ISO 639-1")
        if self.language not in self.answers:
            raise ValueError(f"answers: none in the text's own language, {self.language!r}")
        return self


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    system: _SAID
    examples: list[_Example] = []


def load_prompt(
    path: Path,
    form: type[BaseModel],
    language: str | None = None,
    fill: Mapping[str, str] | None = None,
    fits: Callable[[dict[str, Any]], bool] = lambda _: True,
) -> Prompt:
    """Read a prompt from a YAML file of `system` and `examples`.

    Args:
        path: of the file, from the folder of the run or, if it is not there, of the project.
        form: what each answer of an example must fill in.
        language: code of the language that answers are to be in, and that those of examples are
            taken in, where there are any; null for each text's own.
        fill: words that `system` must say in braces and what stands for them, beside "language".
        fits: whether an answer may be shown; examples without one are left out.

    Raises:
        UserError: there is no such file, or it is malformed; the place in it is named. So are words
            in braces for which nothing stands, as they would be sent as they are.
    """
    content = _read(path)
    if language is not None and "{language}" not in content.system:
        raise UserError(
            f"{path}: system does not say {{language}}, so answers cannot be asked for in "
            f"{LANGUAGE_NAMES[language]}; write it there, or let the language be null"
        )
    asked_for = "the language of the text" if language is None else LANGUAGE_NAMES[language]
    needed = {f"{{{word}}}": meaning for word, meaning in (fill or {}).items()}
    instructions = _filled(content.system.strip(), {"{language}": asked_for} | needed, path)
    if missing := [place for place in needed if place not in content.system]:
        raise UserError(
            f"{path}: system does not say {', '.join(missing)}, so the model is not told; "
            "write it there"
        )
    examples = []
    for number, example in enumerate(content.examples):
        answers = {
            spoken: _filled_in(answer, form, f"{path}: examples.{number}.answers.{spoken}")
            for spoken, answer in example.answers.items()
        }
        answer = answers.get(language or example.language)
        if answer is not None and fits(answer):
            examples.append((example.text.strip(), json.dumps(answer, ensure_ascii=False)))
    return Prompt(instructions, tuple(examples))


def _read(path: Path) -> _File:
    import yaml

    found = path if path.is_file() else _ROOT / path
    try:
        return _File.model_validate(yaml.safe_load(found.read_text(encoding="utf-8")))
    except OSError as error:
        raise UserError(
            f"{path} cannot be read as a prompt ({error.strerror}); copy one of "
            "stages/enrich/prompts there, or correct its name in the parameters"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        said = " ".join(str(error).split())
        raise UserError(f"{path} is no YAML ({said}); correct it") from error
    except ValidationError as error:
        raise UserError(f"{path}: {_first_problem(error)}; correct it") from error


def _filled(system: str, meanings: Mapping[str, str], path: Path) -> str:
    """Return the instructions with what stands for each place in braces."""
    strange = [place for place in _PLACE.findall(system) if place not in meanings]
    if strange:
        said = dict.fromkeys(" ".join(place.split()) for place in strange)
        raise UserError(
            f"{path}: system says {' and '.join(said)}, and only {', '.join(meanings)} "
            f"{'is' if len(meanings) == 1 else 'are'} filled in; correct it"
        )
    return _PLACE.sub(lambda place: meanings[place[0]], system)


def _filled_in(answer: dict[str, Any], form: type[BaseModel], where: str) -> dict[str, Any]:
    """Return the answer as the form has it, its fields in the form's order."""
    try:
        return form.model_validate(answer).model_dump()
    except ValidationError as error:
        raise UserError(f"{where}.{_first_problem(error)}; correct it") from error


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in problem["loc"])
    said = problem["msg"].removeprefix("Value error, ")
    return f"{where}: {said}" if where else said
