"""The pack and its host, importable without putting the repository on `sys.path`.

The repository root is a custom-node pack with a `nodes/` package of its own, and the host has a
top-level `nodes` module. If the root were on `sys.path`, one would shadow the other. So the root
is registered under the package name `attndreambooth`:

    import sys
    from pathlib import Path
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # scripts only: the tests/ folder
    from support.pack import host_on_path, load_pack

    load_pack()      # then: from attndreambooth.attndb.regularizer import ...
    host_on_path()   # then: import comfy.sd, nodes (the host's), folder_paths ...

Under pytest, `tests/conftest.py` has done the first two lines and `load_pack()` already.
"""

import importlib.machinery
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
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


def load_dev() -> ModuleType:
    """`dev.py` as a module: what it knows about the host has one place."""
    name = f"{PACK}_dev"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, ROOT / "dev.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


def host_root() -> Path:
    """Folder of the ComfyUI to test with: `COMFYUI_PATH`, else the one `dev.py setup` fetched.

    Raises FileNotFoundError, with the remedy, if there is no ComfyUI in that folder.
    """
    root: Path = load_dev().host_folder(os.environ)
    if not (root / "main.py").is_file():
        raise FileNotFoundError(
            f"no ComfyUI in {root}: run `python dev.py setup`, or set COMFYUI_PATH to your own"
        )
    return root


def without_root(path: list[str]) -> list[str]:
    """`path` less every spelling of the repository root ('' included when it is the cwd)."""
    return [entry for entry in path if Path(entry or ".").resolve() != ROOT]


def host_on_path(*, cpu: bool = True) -> Path:
    """Make the host's modules (`comfy`, `nodes`, `folder_paths`, ...) importable in this process.

    cpu: run the host on the CPU; decided once, before its model management is imported.
    Returns the host's folder. Command-line arguments of this process are not shown to the host.
    """
    root = host_root()
    sys.path[:] = [str(root), *(entry for entry in without_root(sys.path) if entry != str(root))]
    from comfy.cli_args import args

    if "comfy.model_management" in sys.modules:
        if args.cpu != cpu:
            raise RuntimeError("the host is already running on another device in this process")
        return root
    args.cpu = cpu
    return root
