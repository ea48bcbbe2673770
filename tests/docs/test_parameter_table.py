"""The README's table of parameters: whole, in words, and current."""

from pathlib import Path

import pytest

from docs.parameter_table import (
    CLOSING,
    OPENING,
    describe_parameters,
    main,
    put_between_marks,
)
from stages.core.log import UserError
from stages.core.params import Params, Section

README = Path(__file__).parents[2] / "README.md"


def leaves(section: Section, prefix: str = "") -> set[str]:
    found: set[str] = set()
    for name in type(section).model_fields:
        value = getattr(section, name)
        is_section = isinstance(value, Section)
        found |= leaves(value, f"{prefix}{name}.") if is_section else {prefix + name}
    return found


def rows() -> dict[str, list[str]]:
    lines = describe_parameters().splitlines()[2:]
    cells = [line.replace(r"\|", "/").strip("| ").split(" | ") for line in lines]
    return {row[0].strip("*`"): row for row in cells}


def test_every_parameter_is_in_the_table_with_its_meaning() -> None:
    described = {name: row for name, row in rows().items() if not row[0].startswith("**")}
    assert set(described) == leaves(Params())
    for name, row in described.items():
        assert len(row) == 4, row
        assert all(row), f"{name} lacks a default, its values or a description"


@pytest.mark.parametrize(
    ("name", "default", "values"),
    [
        ("seed", "`7`", "integer ≥ 0, < 2147483648"),
        ("rankers", "`[lightgbm, xgboost]`", "a list, one or more: `lightgbm`, `xgboost`"),
        ("ingest.folder", "`data/raw`", "path"),
        ("ingest.amazon.metadata", "`[meta_*]`", "a list, any number: text"),
        ("split.train", "`0.8`", "number > 0, < 1"),
        ("split.train_end_ms", "`null`", "integer or `null`"),
        ("llm.gpus", "`[]`", "a list, any number: integer"),
        ("summaries.use_llm", "`false`", "`true`, `false`"),
        ("finetune.lr", "`2e-05`", "number > 0, ≤ 0.01"),
        ("embed.collection", "`beauty_products`", "text ≥ 3 characters"),
        ("pairs.max_pairs", "`null`", "integer ≥ 1 or `null`"),
        ("blend.weights", "`null`", "a mapping to number ≥ 0, ≤ 1000000.0 or `null`"),
        ("bundle.ranker", "`best`", "`lightgbm`, `xgboost` or `best`"),
    ],
)
def test_defaults_and_values_are_said_in_words(name: str, default: str, values: str) -> None:
    assert rows()[name][1:3] == [default, values]


def test_every_section_is_introduced_by_what_it_is() -> None:
    assert rows()["finetune"] == [
        "**`finetune`**",
        "",
        "",
        "Contrastive fine-tuning of the base encoder on `pairs`.",
    ]


def test_the_table_takes_the_place_of_an_older_one(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{OPENING}\nan older table\n{CLOSING}\nafter\n")
    main(readme)
    once = readme.read_text()
    assert once == f"before\n{OPENING}\n{describe_parameters()}{CLOSING}\nafter\n"
    main(readme)
    assert readme.read_text() == once


@pytest.mark.parametrize("text", ["none", f"{OPENING} only", f"{OPENING}{OPENING}{CLOSING}"])
def test_marks_must_stand_once(text: str) -> None:
    with pytest.raises(UserError, match="write it once"):
        put_between_marks(text, "table")


def test_the_readme_is_current() -> None:
    text = README.read_text("utf-8")
    assert text == put_between_marks(text, describe_parameters()), "run `make docs`"
