"""What a stage's code imports and which parameters it reads, found in the source."""

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
_NAMED = re.compile(r"(stages(?:\.\w+)+):\w+")
"""What `pkgutil.resolve_name` imports, which stands in the source as text."""


def imported_files(script: Path) -> set[str]:
    """Every project file that `script` imports, directly or not, itself among them."""
    found: set[str] = set()
    waiting = [script]
    while waiting:
        path = waiting.pop()
        name = path.relative_to(ROOT).as_posix()
        if name in found:
            continue
        found.add(name)
        waiting += [ROOT / other for other in _direct(path)]
    return found


def loaded_modules(path: Path) -> set[str]:
    """Every module that a file imports as it is loaded, and not first in a function."""
    modules: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules.add(node.module)
    return modules


@cache
def _direct(path: Path) -> frozenset[str]:
    modules: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules.add(node.module)
            modules |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            modules |= set(_NAMED.findall(node.value))
    files: set[str] = set()
    for module in modules:
        parts = module.split(".")
        if parts[0] != "stages":
            continue
        for depth in range(1, len(parts) + 1):
            base = ROOT.joinpath(*parts[:depth])
            if (base / "__init__.py").exists():
                files.add((base / "__init__.py").relative_to(ROOT).as_posix())
            elif base.with_suffix(".py").exists():
                files.add(base.with_suffix(".py").relative_to(ROOT).as_posix())
    return frozenset(files)


def read_sections(script: Path) -> set[str]:
    """The sections of `params` that a stage's main reads: `params.split.train` gives "split"."""
    tree = ast.parse(script.read_text())
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "params"
        and _in_main(tree, node)
    }


def _in_main(tree: ast.Module, node: ast.AST) -> bool:
    mains = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "main"]
    return any(node is inner for main in mains for inner in ast.walk(main))


def code_deps(script: Path) -> set[str]:
    """What `deps` of a stage lists of its code.

    `stages/core`, on which every stage stands, and a room's library are listed by their folder,
    stage scripts by file: DVC reads and checks every line on every run. An `__init__.py` that says
    what the package is about, or only imports, decides nothing itself.
    """
    listed = set()
    for name in imported_files(script):
        path = Path(name)
        depth = 2 if path.parts[1] == "core" else 3
        says = ast.parse((ROOT / path).read_text()).body[1:]
        if path.name == "__init__.py" and all(isinstance(node, ast.Import) for node in says):
            continue
        listed.add(Path(*path.parts[:depth]).as_posix() if len(path.parts) > depth else name)
    return listed
