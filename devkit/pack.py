"""The pack and its host, importable without putting the repository on `sys.path`.

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
import os
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


def host_root() -> Path:
    """Folder of the ComfyUI to test with: `COMFYUI_PATH`, else the one `dev.py setup` fetched.

    Raises FileNotFoundError, with the remedy, if there is no ComfyUI in that folder.
    """
    from .hosts import host_folder

    root = host_folder(os.environ)
    if not (root / "main.py").is_file():
        raise FileNotFoundError(
            f"no ComfyUI in {root}: run `python dev.py setup`, or set COMFYUI_PATH to your own"
        )
    return root


def without_root(path: list[str]) -> list[str]:
    """`path` less every spelling of the repository root ('' included when it is the cwd)."""
    return [entry for entry in path if Path(entry or ".").resolve() != ROOT]


def on_cpu() -> bool:
    """Whether tests keep their models on the CPU: unless ATTNDB_DEVICE says `cuda`."""
    return os.environ.get("ATTNDB_DEVICE", "cpu") != "cuda"


def host_on_path(*, cpu: bool | None = None) -> Path:
    """Make the host's modules (`comfy`, `nodes`, `folder_paths`, ...) importable in this process.

    cpu: run the host on the CPU (default: as `on_cpu` says); decided once, before its model
    management is imported.
    Returns the host's folder. Command-line arguments of this process are not shown to the host.
    """
    cpu = on_cpu() if cpu is None else cpu
    root = host_root()
    sys.path[:] = [str(root), *(entry for entry in without_root(sys.path) if entry != str(root))]
    from comfy.cli_args import args

    if "comfy.model_management" in sys.modules:
        if args.cpu != cpu:
            raise RuntimeError("the host is already running on another device in this process")
        return root
    args.cpu = cpu
    return root
