"""Lets a script of this folder run with relative imports, without importing the pack's root.

The pack's folder must not be on sys.path: its `nodes/` would shadow ComfyUI's own `nodes` module.
So the pack becomes the package `attndb_pack`, whose `__init__.py` is never run.
"""

import importlib
import logging
import os
import sys
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "attndb_pack"


def install() -> None:
    """Make `attndb_pack.demo...` importable, and ComfyUI's tree from COMFYUI_PATH."""
    if PACKAGE not in sys.modules:
        package = types.ModuleType(PACKAGE)
        package.__path__ = [str(ROOT)]
        sys.modules[PACKAGE] = package
    here = {str(ROOT), str(ROOT / "demo"), ""}
    sys.path[:] = [entry for entry in sys.path if entry not in here]
    host = os.environ.get("COMFYUI_PATH", "").strip()
    if not host:
        found = sorted((ROOT / ".host").glob("ComfyUI-*"))
        host = str(found[-1]) if found else ""
    if host and host not in sys.path:
        sys.path.insert(0, host)


def module(name: str) -> types.ModuleType:
    """A module of the pack by its dotted name, e.g. the host's side of the micro model.

    demo/ does not depend on nodes/: only a running script reaches for it, by name.
    """
    return importlib.import_module(f"{PACKAGE}.{name}")


def run(name: str) -> int:
    """Run `main(arguments)` of a module of demo/ with the command line; its exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    install()
    arguments, sys.argv = sys.argv[1:], sys.argv[:1]  # ComfyUI reads the command line too
    return module(f"demo.{name}").main(arguments)
