"""Recipes: each is a whole params file, and the one in use is the sample."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from stages.core.params import READS_HISTORY, Params, load_params
from stages.retrieve.retrievers import READS_VECTORS

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
def test_recipe_says_what_it_is_for_and_holds_every_section(recipe: Path) -> None:
    text = recipe.read_text("utf-8")
    assert text.startswith(f"# The `{recipe.stem}` recipe: ")
    written = yaml.safe_load(text)
    assert list(written) == list(Params.model_fields)
    assert all(section not in (None, {}) for section in written.values())
    assert set(written["fit"]) >= set(written["retrievers"])
    assert set(written["train"]) >= set(written["rankers"])


@pytest.mark.parametrize("recipe", [path for path in RECIPES if path.stem != "sample"])
def test_recipe_for_real_data_holds_every_parameter(recipe: Path) -> None:
    written = yaml.safe_load(recipe.read_text("utf-8"))
    assert sorted(names(written)) == sorted(names(Params().model_dump()))


@pytest.mark.parametrize("name", ["hm_retailrocket", "homepage_feed"])
def test_weights_that_a_comment_shows_can_be_set(name: str, tmp_path: Path) -> None:
    text = (ROOT / "recipes" / f"{name}.yaml").read_text("utf-8")
    commented = re.findall(r"^  # ((?:retrievers|weights): [\[{].*)$", text, re.MULTILINE)
    shown = yaml.safe_load("\n".join(commented))
    params = yaml.safe_load(text)
    params["retrievers"] = shown.get("retrievers", params["retrievers"])
    params["blend"]["weights"] = shown["weights"]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    assert load_params(tmp_path / "params.yaml").blend.weights == shown["weights"]


def test_sample_answers_words_and_who_asks_and_reads_all_its_pictures() -> None:
    sample = load_params(ROOT / "recipes" / "sample.yaml")
    assert set(sample.retrievers) > {"bm25", "dense", "popular"}
    learned = {*sample.retrievers} & {*READS_HISTORY} - {"popular"}
    assert learned & {*READS_VECTORS}, "nothing reads pictures, or tells what goes with an item"
    assert sample.pictures.encoder == "colour_shape"
    drawn, items = sample.ingest.sample.pictures, sample.ingest.sample.items
    assert drawn == items, "items without a picture"


def test_params_file_is_the_sample_recipe() -> None:
    used, sample = (
        yaml.safe_load((ROOT / name).read_text("utf-8"))
        for name in ("params.yaml", "recipes/sample.yaml")
    )
    assert used == sample, "commit params.yaml and recipes/sample.yaml with equal values"
