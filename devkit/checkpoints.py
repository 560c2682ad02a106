"""Small checkpoints that the stock loader takes for Stable Diffusion, made on the spot.

Real weights cannot be had where the tests run. These have the real key names, the real text
encoder shapes and a U-Net of the family's own layout, only narrower and shallower, with seeded
random weights: cross-attention is sharp enough to have something to measure, and the noise that
the U-Net predicts contains the noise that it was given, so that samplers stay finite.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ..attndb.artifacts.tensor_file import tensors_writer, write_whole
from .host_path import host_on_path
from .pack import ROOT
from .tiny_vae import tiny_vae_weights

VERSION = 1
"""Part of the cache's file names: raise it when the weights made here change."""
_MIXING_LAYERS = 4
"""Of SDXL's large text encoder: 650 M random values would take a minute."""
CACHE = ROOT / ".cache" / "checkpoints"

Kind = Literal["sd15", "sd21", "sd21v", "sd21_whole", "sdxl", "sdxl_whole"]
Part = Literal["clip", "vae"]

_TWO_LEVELS = {
    "channel_mult": [1, 1],
    "num_res_blocks": [1, 1],
    "transformer_depth": [1, 1],
    "transformer_depth_output": [1, 1, 1, 1],
    "transformer_depth_middle": 1,
}
_FOUR_LEVELS = {  # twelve output blocks: the loader tells velocity from noise by the twelfth
    "channel_mult": [1, 1, 1, 1],
    "num_res_blocks": [2, 2, 2, 2],
    "transformer_depth": [1, 1, 0, 0, 0, 0, 0, 0],
    "transformer_depth_output": [1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0],  # last block first
    "transformer_depth_middle": 1,
}
_SD2 = {"context_dim": 1024, "use_linear_in_transformer": True, "num_head_channels": 64}
WHOLE = {
    "channel_mult": [1, 2, 4, 4],
    "num_res_blocks": [2, 2, 2, 2],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "transformer_depth_middle": 1,
}
"""Levels of the published SD 1.5 and 2.1."""
_VEGA = {
    **_SD2,
    "context_dim": 2048,
    "channel_mult": [1, 1, 1],
    "num_res_blocks": [2, 2, 2],
    "transformer_depth": [0, 0, 1, 1, 2, 2],
    "transformer_depth_output": [0, 0, 0, 1, 1, 1, 2, 2, 2],
    "transformer_depth_middle": -1,
    "num_classes": "sequential",
    "adm_in_channels": 2816,
}


@dataclass(frozen=True)
class _Family:
    config_class: str
    """Name of the host's model config, which knows the file's key prefixes."""
    unet: dict[str, Any]
    text_encoders: tuple[str, ...] = ()
    """Key prefixes of the text encoders in the host's memory."""
    velocity: bool = False


_FAMILIES: dict[str, _Family] = {
    "sd15": _Family(
        "SD15",
        {**_TWO_LEVELS, "context_dim": 768, "num_heads": 8, "use_linear_in_transformer": False},
        ("clip_l",),
    ),
    "sd21": _Family("SD20", {**_TWO_LEVELS, **_SD2}, ("clip_h",)),
    "sd21v": _Family("SD20", {**_FOUR_LEVELS, **_SD2}, ("clip_h",), velocity=True),
    "sd21_whole": _Family("SD20", {**WHOLE, **_SD2}, ("clip_h",)),  # 2.4 GB in fp16
    "sdxl": _Family("Segmind_Vega", _VEGA),  # the U-Net alone (of a distilled SDXL)
    "sdxl_whole": _Family("Segmind_Vega", _VEGA, ("clip_l", "clip_g")),  # 1.8 GB in fp16
}


def make_checkpoint(
    kind: Kind,
    *,
    dtype: torch.dtype = torch.float16,
    without: Collection[Part] = (),
    folder: Path = CACHE,
) -> Path:
    """Path of a checkpoint file of that family; made once, then taken from `folder`.

    dtype: of the file. Every value fits fp16, so fp16 and fp32 files hold the same numbers.
    without: parts that the file lacks (to test what a user is told then).
    """
    lacks = "".join(f"-no-{part}" for part in sorted(without))
    name = f"{kind}-{str(dtype).removeprefix('torch.')}{lacks}-v{VERSION}.safetensors"
    path = folder / name
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        weights = {k: t.half().to(dtype) for k, t in _weights(_FAMILIES[kind], without).items()}
        write_whole({path: tensors_writer(weights, {})})
    return path


def _weights(family: _Family, without: Collection[Part]) -> dict[str, Tensor]:
    """All tensors under the names that they have in a file of this family."""
    host_on_path()
    import comfy.supported_models

    config = getattr(comfy.supported_models, family.config_class)({})
    weights = config.process_unet_state_dict_for_saving(_unet_weights(family))
    if "vae" not in without:
        weights.update(config.process_vae_state_dict_for_saving(tiny_vae_weights()))
    if family.text_encoders and "clip" not in without:
        text = {k: v for name in family.text_encoders for k, v in text_weights(name).items()}
        weights.update(config.process_clip_state_dict_for_saving(text))
    return {key: tensor.contiguous() for key, tensor in weights.items()}


def _normal(key: str, like: Tensor, std: float) -> Tensor:
    """Normal values that depend on the key alone: adding a layer changes no other."""
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little") >> 1
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(seed)) * std


def _fill(shapes: dict[str, Tensor], gain: Callable[[str], float]) -> dict[str, Tensor]:
    """Norms are identities, biases zero, the rest normal with std = gain / sqrt(fan-in)."""
    filled = {}
    for key, like in shapes.items():
        if like.dim() == 1:
            filled[key] = (
                torch.ones(like.shape) if key.endswith("weight") else torch.zeros(like.shape)
            )
        elif gain(key) == 0.0:
            filled[key] = torch.zeros(like.shape)
        else:
            fan_in = like[0].numel()
            filled[key] = _normal(key, like, gain(key) / fan_in**0.5)
    return filled


def text_weights(prefix: str, changes: Mapping[str, int] | None = None) -> dict[str, Tensor]:
    """A CLIP text model: every token keeps its own direction, mixed a little with those before. Of
    SDXL's large one the first layers do, and the others pass on what they get.

    changes: to the family's own configuration.
    """
    import comfy.ops
    import comfy.sd1_clip
    import comfy.sdxl_clip
    import comfy.text_encoders.sd2_clip

    model_class = {
        "clip_l": comfy.sd1_clip.SDClipModel,
        "clip_h": comfy.text_encoders.sd2_clip.SD2ClipHModel,
        "clip_g": comfy.sdxl_clip.SDXLClipG,
    }[prefix]
    options = {"model_name": prefix, f"{prefix}_model_config": dict(changes or {})}
    model = model_class(device="meta", dtype=torch.float32, model_options=options)
    shapes = {k: t for k, t in model.state_dict().items() if k.startswith("transformer.")}

    def gain(key: str) -> float:
        if "embedding" in key:
            return 0.02 * shapes[key].shape[1] ** 0.5  # std 0.02, as in the real models
        layer = key.partition(".layers.")[2].partition(".")[0]
        if prefix == "clip_g" and layer and int(layer) >= _MIXING_LAYERS:
            return 0.0
        return 0.005 if key.endswith(("out_proj.weight", "fc2.weight")) else 1.0

    return {f"{prefix}.{key}": tensor for key, tensor in _fill(shapes, gain).items()}


def _unet_weights(family: _Family) -> dict[str, Tensor]:
    """A U-Net that predicts what it was given, over its standard deviation, plus 0.3 of its own."""
    import comfy.ops
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    shapes = UNetModel(
        image_size=32,
        in_channels=4,
        out_channels=4,
        model_channels=320,
        use_spatial_transformer=True,
        legacy=False,
        **{"num_head_channels": -1, **family.unet},
        dtype=torch.float32,
        device="meta",
        operations=comfy.ops.disable_weight_init,
    ).state_dict()

    def gain(key: str) -> float:
        if key.endswith(("attn2.to_q.weight", "attn2.to_k.weight")):
            return 1.5  # logits of standard deviation two: maps that are neither flat nor one-hot
        if key == "out.2.weight":
            return 0.3
        branches = ("to_out.0.weight", "proj_out.weight", "net.2.weight", "out_layers.3.weight")
        return 0.5 if key.endswith(branches) else 1.0

    weights = _fill(shapes, gain)
    _carry_input_to_output(weights)
    if family.velocity:
        key = "output_blocks.11.1.transformer_blocks.0.norm1.bias"
        weights[key] = _normal(key, shapes[key], 0.2)
    return weights


def _carry_input_to_output(weights: dict[str, Tensor]) -> None:
    """Lead the input, and its negative, past everything into the last normalisation's group 0.

    There a group of ten channels holds +x, -x and two zeros; silu(a) - silu(-a) = a, so the last
    convolution gets x over its own standard deviation.
    """
    last = max(int(k.split(".")[1]) for k in weights if k.startswith("output_blocks."))
    first_conv = weights["input_blocks.0.0.weight"]
    skip = weights[f"output_blocks.{last}.0.skip_connection.weight"]
    from_first = skip.shape[1] - first_conv.shape[0]  # [deeper features | first convolution]
    skip[:10] = 0
    first_conv[:8] = 0
    for i in range(4):
        first_conv[i, i, 1, 1], first_conv[4 + i, i, 1, 1] = 1.0, -1.0
    for i in range(8):
        skip[i, from_first + i] = 1.0
    for branch in ("0.out_layers.3", "1.proj_out"):
        key = f"output_blocks.{last}.{branch}.weight"
        if key in weights:
            weights[key][:10] = 0
    out = weights["out.2.weight"]
    out[:, :10] = 0
    for i in range(4):
        out[i, i, 1, 1], out[i, 4 + i, 1, 1] = 0.8**0.5, -(0.8**0.5)
