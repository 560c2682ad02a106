"""What differs between host versions, asked in one place."""

from __future__ import annotations

import torch


def host_version() -> str:
    """ComfyUI's version, or `unknown`."""
    try:
        import comfyui_version
    except ImportError:
        return "unknown"
    return str(comfyui_version.__version__)


def versions() -> dict[str, str]:
    """Versions that a training record names."""
    return {"comfyui": host_version(), "torch": torch.__version__}
