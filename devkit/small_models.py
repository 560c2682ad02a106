"""The wires of a small Stable Diffusion: the family's own classes, narrow, with seeded weights.

A checkpoint that the stock loader takes has the real text encoder and a U-Net of the real width:
seconds for every training. What does not test the loading itself is tested on these.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import torch

from .checkpoints import text_weights
from .tiny_model import UNET_CONFIG, random_weights
from .tiny_vae import tiny_vae_weights

Small = Literal["sd15", "sd21", "sdxl"]

WIDTH = {"sd15": 64, "sd21": 96, "sdxl": 160}
"""Of the text states, unless told otherwise; the real ones are 768, 1024 and 2048."""
VELOCITY_SIGN = "output_blocks.11.1.transformer_blocks.0.norm1.bias"
_ENCODER = {"sd15": "clip_l", "sd21": "clip_h"}
XL_WIDTHS = {"clip_l": 64, "clip_g": 96}
"""Of SDXL's two text encoders; the real ones are 768 and 1280."""
_XL_UNET = {  # no text attention in the finest level, several layers in the deeper ones
    "num_res_blocks": [1, 1, 1],
    "channel_mult": [1, 1, 2],
    "transformer_depth": [0, 1, 2],
    "transformer_depth_middle": 2,
    "transformer_depth_output": [0, 0, 1, 1, 2, 2],
    "num_classes": "sequential",
    "adm_in_channels": XL_WIDTHS["clip_g"] + 6 * 256,
}


def _family(kind: Small, width: int | None) -> Any:
    import comfy.supported_models

    if kind == "sdxl":
        text = {"model_channels": 64, "context_dim": WIDTH[kind]}
        return comfy.supported_models.SDXL({**UNET_CONFIG, **_XL_UNET, **text})
    config = {**UNET_CONFIG, "model_channels": 64, "context_dim": width or WIDTH[kind]}
    if kind == "sd15":
        changes = {"num_heads": 8, "num_head_channels": -1, "use_linear_in_transformer": False}
        return comfy.supported_models.SD15({**config, **changes})
    return comfy.supported_models.SD20(config)


def small_model(
    kind: Small,
    *,
    dtype: torch.dtype = torch.float32,
    velocity: bool = False,
    width: int | None = None,
) -> Any:
    """A MODEL of the family with a narrow U-Net of seeded weights.

    width: of the text states.
    velocity: with the sign by which the host knows an SD 2.1-768.
    """
    sign = {VELOCITY_SIGN: torch.arange(8.0)} if velocity else {}
    return model_of(_family(kind, width), dtype, sign)


def model_of(family: Any, dtype: torch.dtype, sign: dict[str, torch.Tensor]) -> Any:
    """A MODEL by a model config of the host, of seeded weights. `sign`: what tells its kind."""
    import comfy.model_management
    import comfy.model_patcher

    management = comfy.model_management
    family.set_inference_dtype(dtype, None)
    offload = management.unet_offload_device()
    with torch.inference_mode():
        model = family.get_model(sign, "", device=offload)
        model.diffusion_model.load_state_dict(random_weights(model.diffusion_model, 3))
    return comfy.model_patcher.ModelPatcher(
        model, load_device=management.get_torch_device(), offload_device=offload
    )


def small_clip(kind: Small, embedding_directory: Any = None, width: int | None = None) -> Any:
    """A CLIP of the family with four narrow layers and the real vocabulary."""
    import comfy.sd
    import comfy.sd1_clip

    if kind == "sdxl":
        return _small_xl_clip(embedding_directory)
    name, width = _ENCODER[kind], width or WIDTH[kind]
    changes = _narrow(width)
    tokenizer = partial(
        comfy.sd1_clip.SDTokenizer,
        pad_with_end=kind == "sd15",
        embedding_size=width,
        embedding_key=name,
    )
    with torch.inference_mode():
        state = text_weights(name, changes)
        return comfy.sd.CLIP(
            _family(kind, width).clip_target(state),
            embedding_directory=embedding_directory,
            tokenizer_data={f"{name}_tokenizer_class": tokenizer},
            parameters=sum(value.numel() for value in state.values()),
            state_dict=state,
            model_options={f"{name}_model_config": changes},
        )


def _small_xl_clip(embedding_directory: Any) -> Any:
    import comfy.sd

    changes = {name: _narrow(width) for name, width in XL_WIDTHS.items()}
    with torch.inference_mode():
        state = {k: v for n, change in changes.items() for k, v in text_weights(n, change).items()}
        return comfy.sd.CLIP(
            _family("sdxl", None).clip_target(state),
            embedding_directory=embedding_directory,
            parameters=sum(value.numel() for value in state.values()),
            state_dict=state,
            model_options={f"{name}_model_config": change for name, change in changes.items()},
        )


def _narrow(width: int) -> dict[str, int]:
    """Changes to the configuration of a CLIP text model."""
    return {
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_attention_heads": 4,
        "num_hidden_layers": 4,
    }


def small_vae() -> Any:
    """The VAE of the small checkpoints."""
    import comfy.sd

    with torch.inference_mode():
        return comfy.sd.VAE(sd=tiny_vae_weights())


def small_wires(
    kind: Small, embedding_directory: Any = None, width: int | None = None
) -> tuple[Any, Any, Any]:
    """(MODEL, CLIP, VAE) with text states of this width; `host_on_path` first."""
    clip = small_clip(kind, embedding_directory, width)
    return small_model(kind, width=width), clip, small_vae()
