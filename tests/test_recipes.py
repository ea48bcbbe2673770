"""Recipes: each is a whole params file, and the one in use is the sample."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from stages.core.params import Params, load_params

ROOT = Path(__file__).parent.parent
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))


def names(tree: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in tree.items():
        yield prefix + key
        if isinstance(value, dict):
            yield from names(value, f"{prefix}{key}.")


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_recipe_is_valid(recipe: Path) -> None:
    load_params(recipe)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_recipe_holds_every_parameter_and_says_what_it_is_for(recipe: Path) -> None:
    text = recipe.read_text("utf-8")
    assert sorted(names(yaml.safe_load(text))) == sorted(names(Params().model_dump()))
    assert text.startswith(f"# The `{recipe.stem}` recipe: ")


def test_params_file_is_the_sample_recipe() -> None:
    used, sample = (
        yaml.safe_load((ROOT / name).read_text("utf-8"))
        for name in ("params.yaml", "recipes/sample.yaml")
    )
    assert used == sample, "commit params.yaml and recipes/sample.yaml with equal values"
