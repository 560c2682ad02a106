"""A MODEL's U-Net as diffusers knows it: names of its weights, and the config that makes it."""

from __future__ import annotations

from typing import Any

import comfy.utils

from ....attndb.artifacts.diffusers_unet import UNET_CLASS, Place
from ....attndb.config.family import FAMILIES, SD21_768, SDXL
from .families import SUPPORTED, family
from .size_conditioning import SIZE_WIDTH
from .weights import UNET_PREFIX, weight_shapes

KNOWN = tuple(name for name, known in FAMILIES.items() if known.in_diffusers)
"""Families that have a U-Net of the same layout in diffusers."""
_CLASSES = "class_embedding."
"""In the host's table a second name of SDXL's `add_embedding.`, which diffusers' SDXL lacks."""


def diffusers_places(model: Any) -> dict[str, Place]:
    """Name and shape of every U-Net weight by diffusers' name, by the host's own table. ValueError
    names a family that diffusers has no such U-Net for."""
    if family(model) not in KNOWN:
        raise ValueError(
            f"MODEL is {family(model)}, whose U-Net cannot be read or written in diffusers' layout "
            f"here. Supported: {', '.join(KNOWN)}"
        )
    shapes = {
        key.removeprefix(UNET_PREFIX): shape
        for key, shape in weight_shapes(model, UNET_PREFIX).items()
    }
    table = comfy.utils.unet_to_diffusers(model.model.model_config.unet_config)
    places = {
        theirs: (ours, shapes[ours])
        for theirs, ours in table.items()
        if ours in shapes and not theirs.startswith(_CLASSES)
    }
    left = set(shapes) - {name for name, _ in places.values()}
    if left:
        raise ValueError(
            f"MODEL has {len(left)} weights that diffusers' U-Net does not have, e.g. "
            f"{min(left)}: connect the MODEL of a plain checkpoint ({SUPPORTED})"
        )
    return places


def diffusers_config(model: Any) -> dict[str, Any]:
    """What diffusers' `UNet2DConditionModel` is made from, as in the published checkpoints'
    `unet/config.json`. ValueError if such a U-Net has no such layout."""
    config = model.model.model_config.unet_config
    channels = [config["model_channels"] * by for by in config["channel_mult"]]
    layers, depths = list(config["num_res_blocks"]), _depths(config)
    width = config.get("num_head_channels", -1)
    kind = family(model)
    velocity = kind == SD21_768.name
    sizes: dict[str, Any] = {}
    if kind == SDXL.name:
        sizes = {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": SIZE_WIDTH,
            "projection_class_embeddings_input_dim": config["adm_in_channels"],
        }
    if max(depths) > 1:
        sizes["transformer_layers_per_block"] = [depth or 1 for depth in depths]
    return {
        **sizes,
        "_class_name": UNET_CLASS,
        "act_fn": "silu",
        # diffusers' historical name: this is the number of heads
        "attention_head_dim": [c // width for c in channels] if width > 0 else config["num_heads"],
        "block_out_channels": channels,
        "center_input_sample": False,
        "cross_attention_dim": config["context_dim"],
        "down_block_types": ["CrossAttnDownBlock2D" if d else "DownBlock2D" for d in depths],
        "downsample_padding": 1,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "in_channels": config.get("in_channels", 4),
        "layers_per_block": layers[0] if len(set(layers)) == 1 else layers,
        "mid_block_scale_factor": 1,
        "norm_eps": 1e-05,
        "norm_num_groups": 32,
        "out_channels": config.get("out_channels", 4),
        "sample_size": FAMILIES[kind].latent_side if kind in FAMILIES else 64,
        "up_block_types": ["CrossAttnUpBlock2D" if d else "UpBlock2D" for d in depths[::-1]],
        "upcast_attention": velocity,
        "use_linear_projection": bool(config.get("use_linear_in_transformer")),
    }


def _depths(config: dict[str, Any]) -> list[int]:
    """Transformer layers of each block on the way down; diffusers knows one number for a block, and
    the same on the way up. ValueError if the MODEL has others."""
    layers = list(config["num_res_blocks"])
    going_down = iter(config["transformer_depth"])
    going_up = reversed(config["transformer_depth_output"])
    down = [[next(going_down) for _ in range(count)] for count in layers]
    up = [[next(going_up) for _ in range(count + 1)] for count in reversed(layers)]
    depths = [block[0] for block in down]
    even = all(len(set(block)) == 1 for block in (*down, *up))
    middle = config["transformer_depth_middle"] in (depths[-1], depths[-1] or 1)
    if even and middle and [block[0] for block in reversed(up)] == depths:
        return depths
    raise ValueError(
        f"MODEL has transformers {down} in its blocks, which diffusers' U-Net cannot have: "
        f"connect the MODEL of a plain checkpoint ({SUPPORTED})"
    )
