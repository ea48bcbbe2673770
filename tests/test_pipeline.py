"""Drift between dvc.yaml and the code: what a stage imports, reads, writes and is called."""

import re
import resource
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

from stages.core import files
from stages.core.params import Params
from tests.drift import ROOT, code_deps, imported_files, loaded_modules, read_sections

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def script(stage: str) -> Path:
    module = re.search(r"-m (stages\.\S+)", STAGES[stage]["cmd"])
    assert module, STAGES[stage]["cmd"]
    return ROOT / (module[1].replace(".", "/") + ".py")


def names(entries: list[object]) -> set[str]:
    """Paths of a list in which an entry may be a mapping of the path to its options."""
    return {next(iter(entry)) if isinstance(entry, dict) else str(entry) for entry in entries}


@pytest.mark.parametrize("stage", STAGES)
def test_deps_are_what_the_stage_imports(stage: str) -> None:
    listed = {
        dep
        for dep in names(STAGES[stage]["deps"])
        if dep.endswith(".py") or (dep.startswith("stages/") and (ROOT / dep).is_dir())
    }
    assert listed == code_deps(script(stage)), f"correct the deps of {stage} in dvc.yaml"


def test_what_is_imported_by_its_name_is_seen() -> None:
    seen = imported_files(script("fit"))
    assert {f"stages/retrieve/retrievers/{name}.py" for name in ("als", "lexical")} <= seen


@pytest.mark.parametrize("stage", STAGES)
def test_params_are_what_the_stage_reads(stage: str) -> None:
    listed = names(STAGES[stage].get("params", []))
    if "params.yaml" in listed:
        return
    assert {name.split(".")[0] for name in listed} == read_sections(script(stage))


@pytest.mark.parametrize("stage", STAGES)
def test_stage_file_and_description(stage: str) -> None:
    path = script(stage)
    assert path.stem == stage
    assert STAGES[stage]["desc"]
    assert path.read_text().startswith('"""')


def test_every_section_is_read_by_a_stage() -> None:
    read = {section for stage in STAGES for section in read_sections(script(stage))}
    assert set(Params.model_fields) <= read


def test_every_stage_script_is_a_stage() -> None:
    scripts = {
        path
        for path in ROOT.glob("stages/*/*.py")
        if path.parent.name != "core" and path.name != "__init__.py"
    }
    assert scripts == {script(stage) for stage in STAGES}


def test_paths_are_those_of_files() -> None:
    known = {str(value) for value in vars(files).values() if isinstance(value, Path)}
    for stage, about in STAGES.items():
        for kind in ("outs", "metrics", "plots"):
            for path in names(about.get(kind, [])):
                parents = {str(parent) for parent in Path(path).parents} - {"."}
                inside = any(Path(name).is_relative_to(path) for name in known)
                assert inside or parents & known, f"{stage}: {path} is not in core/files.py"


def test_rooms_import_only_rooms_before_them() -> None:
    rooms = ["core", "prepare", "enrich", "encode", "retrieve", "rank", "evaluate", "publish"]
    for path in ROOT.glob("stages/*/**/*.py"):
        room = path.relative_to(ROOT / "stages").parts[0]
        for module in re.findall(r"from stages\.(\w+)", path.read_text()):
            assert rooms.index(module) <= rooms.index(room), f"{path} imports stages.{module}"


@pytest.mark.parametrize("stage", STAGES)
def test_help_is_light(stage: str) -> None:
    """No stage loads a heavy library to say what it does."""
    module = ".".join(script(stage).relative_to(ROOT).with_suffix("").parts)
    heavy = "('torch', 'sentence_transformers', 'FlagEmbedding', 'vllm', 'bentoml', 'lightgbm')"
    code = (
        f"import sys, runpy; sys.argv = ['{module}', '--help']\n"
        f"try: runpy.run_module('{module}', run_name='__main__', alter_sys=True)\n"
        f"except SystemExit: pass\n"
        f"assert not [name for name in {heavy} if name in sys.modules]"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)


def test_help_is_quick() -> None:
    """`--help` costs little more processor time than what it must import, at the best of five."""

    def once(*what: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *what], cwd=ROOT, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    module = "-m", "stages.prepare.split", "--help"
    imports = "-c", "import numpy, polars, pydantic, typer"
    shown, imported = zip(*((once(*module), once(*imports)) for _ in range(5)), strict=True)
    assert min(shown) < 1.7 * min(imported)


def test_group_llm_holds_what_keywords_load() -> None:
    """`make test-llm` runs the stage in an environment of that group alone."""
    group = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["llm"]
    listed = {re.split(r"[=<>]", package)[0].lower() for package in group}
    own = {"stages", *sys.stdlib_module_names}
    loaded = {
        module.split(".")[0]
        for path in imported_files(script("keywords"))
        for module in loaded_modules(ROOT / path)
    }
    packages = packages_distributions()
    missing = [name for name in loaded - own if not listed & {*map(str.lower, packages[name])}]
    assert not missing, f"put {missing} into the group llm of pyproject.toml"


def test_lock_names_packages_and_versions_only() -> None:
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!_-]+( ; .+)?", line), line
    bento = yaml.safe_load((ROOT / "bentofile.yaml").read_text())["python"]["packages"]
    pinned = {
        line.split("==")[0].lower(): line.split("==")[1].split(" ")[0]
        for line in (ROOT / "constraints.txt").read_text().splitlines()
    }
    for package in bento:
        name, version = package.split("==")
        assert pinned[name.lower()] == version, f"{package} is not the version of constraints.txt"
