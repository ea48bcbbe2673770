"""The README's table of parameters, written from `stages/core/params`, which alone defines them.

`python -m docs.parameter_table` puts it between its two marks in README.md.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from stages.core.log import UserError, run
from stages.core.params import Params
from stages.core.storage import write_text

OPENING, CLOSING = "<!-- parameters -->", "<!-- /parameters -->"
HEADER = "| parameter | default | values | meaning |\n|---|---|---|---|\n"
KINDS = {"integer": "integer", "number": "number", "string": "text"}
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def describe_parameters() -> str:
    """Return a Markdown table: each section with its meaning, then each parameter of it.

    The default is the value that stands when `params.yaml` does not name the parameter.
    """
    schema = Params.model_json_schema()
    return HEADER + "".join(
        "| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |\n"
        for row in _rows(schema, schema["$defs"])
    )


def put_between_marks(text: str, table: str) -> str:
    """Return `text` with `table` in place of what stands between the marks.

    Raises:
        UserError: a mark is missing or stands twice.
    """
    for mark in (OPENING, CLOSING):
        if text.count(mark) != 1:
            raise UserError(f"the mark {mark} stands {text.count(mark)} times; write it once")
    before, rest = text.split(OPENING)
    after = rest.split(CLOSING)[1]
    return f"{before}{OPENING}\n{table}{CLOSING}{after}"


def _rows(
    section: dict[str, Any], definitions: dict[str, Any], prefix: str = ""
) -> Iterator[tuple[str, str, str, str]]:
    nested = {}
    for name, field in section["properties"].items():
        if "$ref" in field:
            nested[f"{prefix}{name}"] = definitions[field["$ref"].rsplit("/", 1)[1]]
        else:
            yield f"`{prefix}{name}`", _default(field), _values(field), field["description"]
    for name, inner in nested.items():
        yield f"**`{name}`**", "", "", inner["description"]
        yield from _rows(inner, definitions, f"{name}.")


def _default(field: dict[str, Any]) -> str:
    value = field["default"]
    if isinstance(value, list):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _values(kind: dict[str, Any]) -> str:
    """Say in words and signs what a value may be."""
    if "anyOf" in kind:
        return " or ".join(_values(choice) for choice in kind["anyOf"])
    if "enum" in kind:
        return ", ".join(f"`{choice}`" for choice in kind["enum"])
    if "$ref" in kind:
        return "a mapping"
    if "const" in kind:
        return f"`{kind['const']}`"
    match kind["type"]:
        case "boolean":
            return "`true`, `false`"
        case "null":
            return "`null`"
        case "object":
            return f"a mapping to {_values(kind['additionalProperties'])}"
        case "array":
            least = "one or more" if kind.get("minItems") else "any number"
            return f"a list, {least}: {_values(kind['items'])}"
    if kind.get("format") == "path":
        return "path"
    bounds = [f"{sign} {kind[key]}" for key, sign in BOUNDS.items() if key in kind]
    if "minLength" in kind:
        bounds.append(f"≥ {kind['minLength']} characters")
    return " ".join([KINDS[kind["type"]], ", ".join(bounds)]).strip()


def main(
    readme: Annotated[Path, typer.Option(help="The file that holds the marks.")] = Path(
        "README.md"
    ),
) -> None:
    """Bring the README's table of parameters up to date."""
    if not readme.exists():
        raise UserError(f"{readme}: no such file; run this in the folder that holds README.md")
    write_text(readme, put_between_marks(readme.read_text("utf-8"), describe_parameters()))


if __name__ == "__main__":
    run(main)
