"""What kohya's sd-scripts call the layers of a Stable Diffusion U-Net: the names that every program
knows in a LoRA.

A layer is called by its path behind `lora_unet_`, with underscores for dots. Of SD 1.x and 2.x it
is the path in diffusers' U-Net, of SDXL that in the checkpoint itself, as our paths are.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator

from ..config.family import FAMILIES

_PREFIX = "lora_unet_"
_DEPTHS = {"sd": (1, 1, 1, 0), "sdxl": (0, 10, 10)}
"""Transformer blocks at each level of the published U-Nets; of SDXL the most that a family has."""
_BLOCKS = 2
"""Residual blocks of a level on its way down; there is one more on the way up."""
_EDGES = (
    ("time_embed.0", "time_embedding.linear_1"),
    ("time_embed.2", "time_embedding.linear_2"),
    ("label_emb.0.0", "add_embedding.linear_1"),
    ("label_emb.0.2", "add_embedding.linear_2"),
    ("input_blocks.0.0", "conv_in"),
    ("out.0", "conv_norm_out"),
    ("out.2", "conv_out"),
)
_RESIDUAL = (
    ("in_layers.0", "norm1"),
    ("in_layers.2", "conv1"),
    ("emb_layers.1", "time_emb_proj"),
    ("out_layers.0", "norm2"),
    ("out_layers.3", "conv2"),
    ("skip_connection", "conv_shortcut"),
)
_AROUND = ("norm", "proj_in", "proj_out")
_ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
_TRANSFORMER = (
    *("norm1", "norm2", "norm3", "ff.net.0.proj", "ff.net.2"),
    *(f"{attention}.{layer}" for attention in ("attn1", "attn2") for layer in _ATTENTION),
)


def kohya_names(paths: Iterable[str], family: str) -> dict[str, str]:
    """The names of these layers of a U-Net, by path; empty where one of them has none: the U-Net is
    of another family, or not laid out as the published ones."""
    layout = FAMILIES[family].layout if family in FAMILIES else ""
    known, paths = _names(layout), list(paths)
    return {path: known[path] for path in paths} if known.keys() >= set(paths) else {}


def kohya_path(name: str) -> str | None:
    """The path of the layer that has this name; None if it is no such name."""
    return _paths().get(name)


@functools.cache
def _names(layout: str) -> dict[str, str]:
    pairs = _layers(_DEPTHS[layout]) if layout else ()
    return {ours: _name(theirs if layout == "sd" else ours) for ours, theirs in pairs}


@functools.cache
def _paths() -> dict[str, str]:
    return {name: path for layout in _DEPTHS for path, name in _names(layout).items()}


def _name(path: str) -> str:
    return _PREFIX + path.replace(".", "_")


def _layers(depths: tuple[int, ...]) -> Iterator[tuple[str, str]]:
    """The checkpoint's and diffusers' path of every layer that has a weight."""
    yield from _EDGES
    for level, depth in enumerate(depths):
        first = 1 + level * (_BLOCKS + 1)
        for block in range(_BLOCKS):
            yield from _block(f"input_blocks.{first + block}", f"down_blocks.{level}", block, depth)
        ours = f"input_blocks.{first + _BLOCKS}.0.op"
        yield ours, f"down_blocks.{level}.downsamplers.0.conv"
    yield from _residual("middle_block.0", "mid_block.resnets.0")
    yield from _transformer("middle_block.1", "mid_block.attentions.0", max(depths))
    yield from _residual("middle_block.2", "mid_block.resnets.1")
    for level, depth in enumerate(reversed(depths)):
        first = level * (_BLOCKS + 1)
        for block in range(_BLOCKS + 1):
            yield from _block(f"output_blocks.{first + block}", f"up_blocks.{level}", block, depth)
        ours = f"output_blocks.{first + _BLOCKS}.{2 if depth else 1}.conv"
        yield ours, f"up_blocks.{level}.upsamplers.0.conv"


def _block(ours: str, theirs: str, number: int, depth: int) -> Iterator[tuple[str, str]]:
    yield from _residual(f"{ours}.0", f"{theirs}.resnets.{number}")
    if depth:
        yield from _transformer(f"{ours}.1", f"{theirs}.attentions.{number}", depth)


def _residual(ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    for layer, name in _RESIDUAL:
        yield f"{ours}.{layer}", f"{theirs}.{name}"


def _transformer(ours: str, theirs: str, depth: int) -> Iterator[tuple[str, str]]:
    inner = (f"transformer_blocks.{n}.{layer}" for n in range(depth) for layer in _TRANSFORMER)
    for layer in (*_AROUND, *inner):
        yield f"{ours}.{layer}", f"{theirs}.{layer}"
