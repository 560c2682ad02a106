"""The pack, importable without putting the repository on `sys.path`.

The repository root is a custom-node pack with a `nodes/` package of its own, and the host has a
top-level `nodes` module. If the root were on `sys.path`, one would shadow the other. So the root
is registered under the package name `attndreambooth`, and everything in it is imported as
`attndreambooth.attndb...`, or relatively. Whoever starts from outside takes this file by its
folder: pytest has `devkit` on its path, and a program begins with

    if not __package__:
        sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "devkit"))
        from pack import run_program

        run_program(__file__)

which runs its `main(arguments)` as part of the package and does not return.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import logging
import sys
from pathlib import Path
from types import ModuleType
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[1]
PACK = "attndreambooth"


def load_pack() -> ModuleType:
    """Register the repository root as the package `attndreambooth`, once, and return it.

    The root's `__init__.py` is not run: it talks to the host, and the core must work without one.
    """
    if PACK in sys.modules:
        return sys.modules[PACK]
    spec = importlib.machinery.ModuleSpec(PACK, None, is_package=True)
    spec.submodule_search_locations = [str(ROOT)]
    package = importlib.util.module_from_spec(spec)
    sys.modules[PACK] = package
    return package


def run_program(file: str) -> NoReturn:
    """Run `main(arguments)` of a program of this repository with the command line, and exit."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    sys.path[:] = without_root(sys.path)
    load_pack()
    name = ".".join(Path(file).resolve().relative_to(ROOT).with_suffix("").parts)
    arguments, sys.argv = sys.argv[1:], sys.argv[:1]  # the host reads the command line, too
    raise SystemExit(importlib.import_module(f"{PACK}.{name}").main(arguments))


def without_root(path: list[str]) -> list[str]:
    """`path` less every spelling of the repository root ('' included when it is the cwd)."""
    return [entry for entry in path if Path(entry or ".").resolve() != ROOT]
