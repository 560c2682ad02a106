"""What differs between host versions, asked in one place."""

from __future__ import annotations

import re

import torch

OLDEST = "0.16.3"
"""The first host that passes the tests (docs/host.md)."""


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


def check_host() -> None:
    """ImportError, with both versions, on a ComfyUI that is older than what was tested; one that
    does not say its version is taken."""
    found = host_version()
    if found != "unknown" and _numbers(found) < _numbers(OLDEST):
        raise ImportError(
            f"AttnDreamBooth needs ComfyUI {OLDEST} or newer, and this is {found}: update ComfyUI"
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])
