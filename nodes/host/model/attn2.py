"""The text cross-attention of a MODEL: its layers by the host's keys, and how the host attends."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import comfy.ldm.modules.attention as host_attention
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from torch import Tensor

from ....attndb.models.cross_attention import cross_attention_layers
from .families import family

BlockKey = tuple[str, int, int]
Attend = Callable[[Tensor, Tensor, Tensor, dict[str, Any]], Tensor]
"""The host's kind of replacement: projected q (B, P, E), k, v (B, T, E) and what it is told."""

_BLOCKS = {"input_blocks": "input", "middle_block": "middle", "output_blocks": "output"}
_NAMES_OPTIONS = (
    "transformer_options" in inspect.signature(host_attention.CrossAttention.forward).parameters
)


def attn2_layers(model: Any) -> dict[BlockKey, str]:
    """Name of each text cross-attention layer by the host's block key (kind, number, index)."""
    unet = model.model.diffusion_model
    supported = isinstance(unet, UNetModel) and not any(
        isinstance(module, host_attention.SpatialVideoTransformer) for module in unet.modules()
    )
    try:
        layers = cross_attention_layers(unet) if supported else []
    except ValueError:
        layers = []
    if not layers:
        raise ValueError(
            f"MODEL is {family(model)} ({type(unet).__name__}), which has no cross-attention to "
            "words (attn2) and no joint attention that is known. Supported: SD 1.5, SD 2.x, "
            "SDXL, SD 3, Flux, attndb-micro"
        )
    found = {}
    for layer in layers:
        kind, *rest, _, index, _ = layer.name.split(".")
        found[_BLOCKS[kind], int(rest[0]) if kind != "middle_block" else 0, int(index)] = layer.name
    return found


def patches_replaced(
    options: Mapping[str, Any], kind: str, replace: Callable[[dict[Any, Any]], dict[Any, Any]]
) -> dict[str, Any]:
    """A copy of the transformer options, its replacements of a kind (`attn2`, or `dit` for whole
    blocks of a transformer; by block key) handed through `replace`."""
    replaced = dict(options.get("patches_replace", {}))
    replaced[kind] = replace(replaced.get(kind, {}))
    return {**options, "patches_replace": replaced}


def registered(inner: Mapping[Any, Attend], block: Any) -> Attend | None:
    """What somebody registered for a layer, as the host looks it up: for it, else its block."""
    return inner.get(block, inner.get(block[:2])) if block is not None else None


def attend(
    inner: Attend | None, q: Tensor, k: Tensor, v: Tensor, extra_options: dict[str, Any]
) -> Tensor:
    """As if there were no replacement but `inner`: by that, or with the host's own arguments by
    its own attention."""
    if inner is not None:
        return inner(q, k, v, extra_options)
    named: dict[str, Any] = {"transformer_options": extra_options} if _NAMES_OPTIONS else {}
    return host_attention.optimized_attention(
        q,
        k,
        v,
        extra_options["n_heads"],
        attn_precision=extra_options.get("attn_precision"),
        **named,
    )
