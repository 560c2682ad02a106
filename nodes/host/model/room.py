"""Room on a device for a training: what the host has loaded there goes back to main memory."""

from __future__ import annotations

import comfy.model_management
import torch


def make_room(device: torch.device) -> None:
    """Takes all that the host has loaded off a device, and gives freed memory back. The host loads
    again what it is asked for. On a CPU there is nowhere to take it."""
    if device.type != "cpu":
        comfy.model_management.unload_all_models()
        comfy.model_management.soft_empty_cache()
