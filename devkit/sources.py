"""The pack's own source files, and what they import, read from their syntax trees."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

from .pack import PACK, ROOT

SHIPPED = ("attndb", "micro", "nodes", "headless")
"""Folders with Python that runs in a user's ComfyUI."""


@dataclass(frozen=True)
class Import:
    """One imported module, its relative dots resolved to a path from the repository root."""

    name: str
    line: int
    inside: bool
    """True for a module of this pack, named from the root: `attndb.config`."""

    @property
    def top(self) -> str:
        return self.name.split(".")[0]


def python_files(*folders: str) -> list[Path]:
    """Every Python file below these folders of the repository, sorted; no folder, no file."""
    found = (path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return sorted(path for path in found if "__pycache__" not in path.parts)


def module_name(path: Path) -> str:
    """`attndb/methods/oft.py` -> `attndb.methods.oft`; a package's `__init__` is the package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(source: str, path: Path) -> list[Import]:
    """What `source`, lying at `path`, imports anywhere in it, type-checking blocks included."""
    package = module_name(path).split(".") if module_name(path) else []
    if path.name != "__init__.py":
        package = package[:-1]
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [Import(alias.name, node.lineno, inside=False) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.append(Import(node.module or "", node.lineno, inside=False))
        elif isinstance(node, ast.ImportFrom):
            up = node.level - 1
            base = package[: len(package) - up] if up <= len(package) else ["<outside>"]
            stem = [*base, *((node.module or "").split(".") if node.module else [])]
            names = [".".join([*stem, alias.name]) for alias in node.names]
            known = [n for n in names if is_module(n)]
            found += [Import(n, node.lineno, inside=True) for n in known]
            if len(known) < len(names):
                found.append(Import(".".join(stem), node.lineno, inside=True))
    return [
        Import(i.name.removeprefix(f"{PACK}."), i.line, inside=True)
        if i.name.startswith(f"{PACK}.")
        else i
        for i in found
    ]


def is_module(name: str) -> bool:
    """Whether a dotted name from the root is a module or package of this pack."""
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or path.is_dir()
