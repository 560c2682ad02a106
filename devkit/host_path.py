"""The host of this process: where ComfyUI is, and its modules importable."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from .hosts import host_folder
from .pack import without_root


def host_root() -> Path:
    """Folder of the ComfyUI to test with: `COMFYUI_PATH`, else the one `dev.py setup` fetched.

    Raises FileNotFoundError, with the remedy, if there is no ComfyUI in that folder.
    """
    root = host_folder(os.environ)
    if not (root / "main.py").is_file():
        raise FileNotFoundError(
            f"no ComfyUI in {root}: run `python dev.py setup`, or set COMFYUI_PATH to your own"
        )
    return root


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
