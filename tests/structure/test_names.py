"""A name has one place to be imported from: where it is defined, or the face of its package."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from attndreambooth.devkit.pack import PACK, ROOT
from attndreambooth.devkit.sources import is_module, module_name, python_files

CHECKED = python_files(
    *("attndb", "micro", "nodes", "headless", "devkit", "demo", "benchmarks", "tests")
)


@cache
def tree_of(module: str) -> ast.Module:
    path = ROOT.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(file.read_text(encoding="utf-8") if file.is_file() else "")


@cache
def defined_in(module: str) -> frozenset[str]:
    """Names that a module makes itself, at any depth."""
    names: set[str] = set()
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return frozenset(names)


@cache
def face_of(package: str) -> frozenset[str]:
    """Names that a package's `__init__` shows of its modules: those of its `__all__`."""
    if not ROOT.joinpath(*package.split(".")).is_dir():
        return frozenset()
    for node in tree_of(package).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return frozenset(ast.literal_eval(node.value))
    return frozenset()


def imported(source: str, path: Path) -> Iterator[tuple[int, str, str]]:
    """Line, module of this pack, and name, of every `from module import name`."""
    package = module_name(path).split(".")[: None if path.name == "__init__.py" else -1]
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ImportFrom):
            continue
        stem = (node.module or "").split(".") if node.module else []
        if node.level:
            stem = [*package[: len(package) - node.level + 1], *stem]
        elif stem[:1] == [PACK]:
            stem = stem[1:]
        elif stem[:1] == ["support"]:
            stem = ["tests", *stem]
        else:  # somebody else's, e.g. the host's `nodes`
            continue
        module = ".".join(stem)
        if module and is_module(module):
            yield from ((node.lineno, module, alias.name) for alias in node.names)


def astray(source: str, path: Path) -> list[str]:
    """Every name in `source` that is imported from where it is not at home."""
    found, place = [], module_name(path)
    for line, module, name in imported(source, path):
        if is_module(f"{module}.{name}"):
            continue
        face = module.rpartition(".")[0]
        if name in face_of(face) and not f"{place}.".startswith(f"{face}."):
            found.append(f"{line}: {name} comes from {face}")
        elif name not in defined_in(module) | face_of(module):
            found.append(f"{line}: {module} does not define {name}")
    return found


def test_a_name_is_imported_from_one_place():
    wrong = {
        path.relative_to(ROOT).as_posix(): found
        for path in CHECKED
        if (found := astray(path.read_text(encoding="utf-8"), path))
    }
    assert wrong == {}


def test_a_name_from_elsewhere_is_seen():
    path = ROOT / "nodes" / "x.py"
    assert astray("from ..attndb.training.session import StageRequest", path) == [
        "1: attndb.training.session does not define StageRequest"
    ]
    assert astray("from ..micro.world.scene import Scene", path) == [
        "1: Scene comes from micro.world"
    ]
    assert astray("from ..micro.world import Scene\nfrom .host import paths", path) == []
    inside = ROOT / "micro" / "world" / "x.py"
    assert astray("from .scene import Scene", inside) == []
