"""What README and CONTRIBUTING name exists: targets, modules, files, settings, DVC's options."""

import ast
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from dvc.cli import parse_args
from dvc.parsing import ResolveError
from dvc.repo import Repo
from dvc.utils.hydra import apply_overrides

from stages.core import files
from stages.core.params import Params, load_params
from stages.prepare.sources.sample import generate

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text("utf-8")
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md")))
}
SAMPLE = yaml.safe_load((ROOT / "recipes" / "sample.yaml").read_text("utf-8"))
MADE = [path for path in vars(files).values() if isinstance(path, Path)]
"""Files and folders that a run makes; a fresh clone has none of them."""

TARGET = r"(?:`|^)make ([\w-]+)"
OTHERS = {"bentoml", "cp", "curl", "export", "git", "pip", "source"}
"""Programs of the README's commands that are not looked into."""


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands() -> list[list[str]]:
    """The words of every shell command, without the variables before it and the comment behind."""
    lines = "".join(blocks("bash")).replace("\\\n", " ").splitlines()
    split = [shlex.split(line, comments=True) for line in lines]
    bare = [[*_without_variables(words)] for words in split]
    return [words for words in bare if words]


def _without_variables(words: list[str]) -> list[str]:
    first = next((at for at, word in enumerate(words) if not re.match(r"[A-Z_]+=", word)), 0)
    return words[first:]


def named(pattern: str) -> list[tuple[str, str]]:
    """Pages and what the pattern finds in them; the table of parameters has a test of its own."""
    written = {
        page: re.sub(r"<!-- parameters -->.*<!-- /parameters -->", "", text, flags=re.DOTALL)
        for page, text in PAGES.items()
    }
    return sorted(
        {
            (page, found)
            for page, text in written.items()
            for found in re.findall(pattern, text, re.MULTILINE)
        }
    )


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_command_can_be_run(words: list[str]) -> None:
    program, *rest = words
    if program == "dvc":
        parse_args(rest)
    elif program == "python":
        assert rest[0] == "-m"
        assert importlib.util.find_spec(rest[1])
    else:
        assert program in OTHERS | {"make"}, f"{program}: say here how it is checked"


@pytest.mark.parametrize(
    "words", [words for words in commands() if words[0] == "curl"], ids=lambda words: words[2]
)
def test_request_is_one_that_the_service_takes(words: list[str]) -> None:
    """Its path and fields are those of `service.py`; users and items are the sample's."""
    fields = {
        ast.literal_eval(route.value): {argument.arg for argument in method.args.args[1:]}
        for method in ast.walk(ast.parse((ROOT / "service.py").read_text("utf-8")))
        if isinstance(method, ast.FunctionDef)
        for decorator in method.decorator_list
        if isinstance(decorator, ast.Call)
        for route in decorator.keywords
        if route.arg == "route"
    }
    body = json.loads(words[words.index("-d") + 1])
    path = urlsplit(next(word for word in words if word.startswith("http"))).path
    assert body.keys() <= fields[path]
    named = re.findall(r"sa_\w+", json.dumps(body))
    params = load_params(ROOT / "recipes" / "sample.yaml")
    if named:
        reviews = generate(params.ingest.sample, params.seed).events
        assert set(named) <= {*reviews["user_id"], *reviews["item_id"]}
        assert body.get("strategy", "ranked") in ("ranked", "blend", *params.retrievers)


def test_the_two_commands_come_first() -> None:
    assert [" ".join(words) for words in commands()[:2]] == ["make repro", "make test"]


def dry_run(target: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("target", sorted({name for _, name in named(TARGET)}))
def test_make_target_exists(target: str) -> None:
    shown = dry_run(target)
    assert shown.returncode == 0, shown.stderr
    modules = re.findall(r"\bpython -m ((?:stages|benchmarks)\.\S+)", shown.stdout)
    assert all(importlib.util.find_spec(module) for module in modules)


def test_make_target_is_taken_whole() -> None:
    """One that begins as another does is no other name of it."""
    (target,) = re.findall(TARGET, "Then `make test-nothing` does the rest.")
    shown = dry_run(target)
    assert shown.returncode != 0
    assert "No rule to make target 'test-nothing'" in shown.stderr
    assert {"test", "test-gpu", "test-llm"} <= {name for _, name in named(TARGET)}


@pytest.mark.parametrize(("page", "module"), named(r"python -m ([\w.]+)"))
def test_module_exists(page: str, module: str) -> None:
    assert importlib.util.find_spec(module), f"{page} names {module}"


@pytest.mark.parametrize(
    ("page", "path"),
    named(r"`((?:[\w-]+/)+[\w.-]*|[\w-]+\.(?:py|md|ya?ml|txt))`")
    + named(r"\]\((?!https?:)([^)#]+)\)"),
)
def test_path_exists(page: str, path: str) -> None:
    is_made = any(place in MADE for place in (Path(path), *Path(path).parents))
    assert is_made or (ROOT / path).exists(), f"{page} names {path}"


@pytest.mark.parametrize("text", blocks("yaml"))
def test_settings_are_valid(text: str) -> None:
    Params.model_validate(yaml.safe_load(text))


@pytest.mark.parametrize("text", blocks("yaml"))
def test_settings_are_enough_for_dvc(text: str, tmp_path: Path) -> None:
    """The sections, in place of those of the sample, say all that `dvc.yaml` reads."""
    assert stage_names(SAMPLE | yaml.safe_load(text), tmp_path) >= {"ingest", "keywords", "report"}


def test_parameters_that_dvc_reads_are_named(tmp_path: Path) -> None:
    said = re.search(r"DVC itself reads (.*?), so these six must be\s+named", README, re.DOTALL)
    assert said
    read = set(re.findall(r"\$\{(?!item)([\w.]+)\}", (ROOT / "dvc.yaml").read_text("utf-8")))
    assert set(re.findall(r"`([\w.]+)`", said[1])) == read
    with pytest.raises(ResolveError, match=r"Could not find 'keywords\.prompt'"):
        stage_names(SAMPLE | {"keywords": {}}, tmp_path)


def stage_names(params: dict[str, object], folder: Path) -> set[str]:
    """Return the stages of `dvc.yaml` with these parameters, as DVC resolves them."""
    shutil.copy(ROOT / "dvc.yaml", folder)
    (folder / "params.yaml").write_text(yaml.safe_dump(params), "utf-8")
    with Repo.init(str(folder), no_scm=True) as repo:
        return {stage.name.partition("@")[0] for stage in repo.stage.collect()}


@pytest.mark.parametrize("words", [words for words in commands() if "-S" in words], ids=" ".join)
def test_experiment_changes_params_to_valid_ones(words: list[str], tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    shutil.copy(ROOT / "recipes" / "sample.yaml", params)
    before = load_params(params)
    apply_overrides(params, [value for flag, value in pairwise(words) if flag == "-S"])
    assert load_params(params) != before


def test_named_parameters_exist() -> None:
    """Dotted names in code marks that begin with a section are parameters."""
    sections = "|".join(Params.model_fields)
    tree = Params().model_dump()
    for name in re.findall(rf"`((?:{sections})\.[a-z_.]+)(?::[^`]*)?`", README):
        place = tree
        for part in name.split("."):
            assert part in place, f"{name} is no parameter"
            place = place[part]


def test_picture_is_the_pipeline() -> None:
    command = [sys.executable, "-m", "dvc", "dag", "--md", "--collapse-foreach-matrix"]
    environment = os.environ | {"DVC_NO_ANALYTICS": "1"}
    shown = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert blocks("mermaid"), "the README has no picture"
    assert f"```mermaid\n{blocks('mermaid')[0]}```" == shown.strip(), (
        "put the output of `dvc dag --md --collapse-foreach-matrix` into the README"
    )
