"""Where a layer of diffusers' U-Net lies in ComfyUI's, whatever the blocks of each level are.

The host's own table (comfy.utils.unet_to_diffusers) takes every level to have as many blocks as its
first: true of Stable Diffusion, not of the embedded model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def diffusers_layers(config: Mapping[str, Any]) -> dict[str, str]:
    """Name in diffusers' state dict -> name in that of ComfyUI's UNetModel of a configuration."""
    import comfy.utils

    names = {theirs: ours for ours, theirs in comfy.utils.UNET_MAP_BASIC}
    for theirs, ours in _blocks(config):
        if ".attentions." in theirs:
            for part in comfy.utils.UNET_MAP_ATTENTIONS:
                names[f"{theirs}.{part}"] = f"{ours}.{part}"
            for part in comfy.utils.TRANSFORMER_BLOCKS:  # one in a layer, in all sizes here
                inner = f"transformer_blocks.0.{part}"
                names[f"{theirs}.{inner}"] = f"{ours}.{inner}"
        elif ".resnets." in theirs:
            for part, named in comfy.utils.UNET_MAP_RESNET.items():
                names[f"{theirs}.{named}"] = f"{ours}.{part}"
        else:
            names |= {f"{theirs}.{part}": f"{ours}.{part}" for part in ("weight", "bias")}
    return names


def _blocks(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Layers of both, in the order of ComfyUI's: the blocks that come in, the middle, those out."""
    blocks, depth = list(config["num_res_blocks"]), list(config["transformer_depth"])
    number, last = 1, len(blocks) - 1
    for level, count in enumerate(blocks):
        for i in range(count):
            yield f"down_blocks.{level}.resnets.{i}", f"input_blocks.{number}.0"
            if depth.pop(0):
                yield f"down_blocks.{level}.attentions.{i}", f"input_blocks.{number}.1"
            number += 1
        if level < last:
            yield f"down_blocks.{level}.downsamplers.0.conv", f"input_blocks.{number}.0.op"
            number += 1
    yield "mid_block.resnets.0", "middle_block.0"
    yield "mid_block.attentions.0", "middle_block.1"
    yield "mid_block.resnets.1", "middle_block.2"
    depth, number = list(config["transformer_depth_output"]), 0
    for level, count in enumerate(reversed(blocks)):
        for i in range(count + 1):
            yield f"up_blocks.{level}.resnets.{i}", f"output_blocks.{number}.0"
            attends = bool(depth.pop())
            if attends:
                yield f"up_blocks.{level}.attentions.{i}", f"output_blocks.{number}.1"
            if i == count and level < last:
                place = f"output_blocks.{number}.{1 + attends}.conv"
                yield f"up_blocks.{level}.upsamplers.0.conv", place
            number += 1
