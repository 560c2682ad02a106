"""A MODEL's U-Net as diffusers knows it: names of its weights, and the config that makes it."""

from __future__ import annotations

from typing import Any

import comfy.utils

from ....attndb.artifacts.diffusers_unet import Place
from .families import SUPPORTED, family
from .weights import UNET_PREFIX

KNOWN = ("SD 1.5", "SD 2.1-base", "SD 2.1-768")
"""Families that have a U-Net of the same layout in diffusers."""


def diffusers_places(model: Any) -> dict[str, Place]:
    """Name and shape of every U-Net weight by diffusers' name, by the host's own table. ValueError
    names a family that diffusers has no such U-Net for."""
    if family(model) not in KNOWN:
        raise ValueError(
            f"MODEL is {family(model)}, whose U-Net cannot be read or written in diffusers' layout "
            f"here. Supported: {', '.join(KNOWN)}"
        )
    shapes = {
        key.removeprefix(UNET_PREFIX): tuple(value.shape)
        for key, value in model.model.state_dict().items()
        if key.startswith(UNET_PREFIX)
    }
    table = comfy.utils.unet_to_diffusers(model.model.model_config.unet_config)
    places = {theirs: (ours, shapes[ours]) for theirs, ours in table.items() if ours in shapes}
    left = set(shapes) - {name for name, _ in places.values()}
    if left:
        raise ValueError(
            f"MODEL has {len(left)} weights that diffusers' U-Net does not have, e.g. "
            f"{min(left)}: connect the MODEL of a plain checkpoint ({SUPPORTED})"
        )
    return places
