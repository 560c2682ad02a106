"""Which models on the wires can be trained, and what to say of those that cannot."""

from __future__ import annotations

from typing import Any

from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.model_base import ModelType
from comfy.model_sampling import EPS, V_PREDICTION
from comfy.sd1_clip import SDClipModel

SUPPORTED = "Stable Diffusion 1.5, 2.1-base and 2.1-768 (and attndb-micro)"

_NAMES = {
    "SD15": "SD 1.5",
    "SD20": "SD 2.x",
    "SDXL": "SDXL",
    "SDXLRefiner": "SDXL refiner",
    "Flux": "Flux",
    "SD3": "SD 3",
}


def family(model: Any) -> str:
    """A name for the MODEL's family, e.g. `SD 1.5`, `SD 2.1-768`, `SDXL`."""
    config = type(model.model.model_config).__name__
    if config == "SD20":
        return "SD 2.1-768" if is_v_prediction(model) else "SD 2.1-base"
    inpainting = " inpainting" if getattr(model.model, "concat_keys", ()) else ""
    return _NAMES.get(config, config) + inpainting


def is_v_prediction(model: Any) -> bool:
    """Whether the MODEL predicts v instead of epsilon; Model Sampling Discrete may have said so."""
    return _denoised(model) is V_PREDICTION.calculate_denoised


def _denoised(model: Any) -> Any:
    """How the MODEL's sampling reads the U-Net's output."""
    return type(model.get_model_object("model_sampling")).calculate_denoised


def check_trainable(model: Any, clip: Any, vae: Any) -> None:
    """ValueError, naming the family or the missing part, unless these can be trained."""
    # a checkpoint without a VAE gives one on the wire that holds nothing
    vae_module = getattr(vae, "first_stage_model", vae)
    for part, wire in (("MODEL", model), ("CLIP", clip), ("VAE", vae_module)):
        if wire is None:
            raise ValueError(
                f"{part} is missing: the checkpoint holds none. Load a full checkpoint, or connect "
                f"a {part} from its own loader"
            )
    if not _is_trainable_unet(model.model):
        raise ValueError(
            f"MODEL is {family(model)}, which cannot be trained here. Supported: {SUPPORTED}"
        )
    if _denoised(model) not in (EPS.calculate_denoised, V_PREDICTION.calculate_denoised):
        raise ValueError(
            "MODEL was told by a model sampling node to predict neither epsilon nor v (LCM, x0, "
            "...): connect the MODEL from before that node"
        )
    encoder = clip.cond_stage_model
    if not isinstance(getattr(encoder, str(getattr(encoder, "clip", None)), None), SDClipModel):
        raise ValueError(
            f"CLIP is {type(encoder).__name__}, which does not belong to a supported model. "
            f"Supported: {SUPPORTED}; connect the CLIP of the same checkpoint as the MODEL"
        )
    wanted = model.model.model_config.unet_config["context_dim"]
    width = getattr(encoder, encoder.clip).transformer.get_input_embeddings().weight.shape[1]
    if wanted != width:
        raise ValueError(
            f"MODEL ({family(model)}) reads text of width {wanted}, and this CLIP gives {width}: "
            "connect the CLIP of the same checkpoint"
        )
    channels = model.model.model_config.unet_config.get("in_channels", 4)
    if getattr(vae, "latent_channels", channels) != channels:
        raise ValueError(
            f"MODEL ({family(model)}) works on {channels} latent channels, and this VAE gives "
            f"{vae.latent_channels}: connect the VAE of the same checkpoint"
        )


def _is_trainable_unet(base_model: Any) -> bool:
    unet = getattr(base_model, "diffusion_model", None)
    return (
        isinstance(unet, UNetModel)
        and unet.num_classes is None
        and base_model.model_type in (ModelType.EPS, ModelType.V_PREDICTION)
        and not base_model.concat_keys
        and isinstance(base_model.model_config.unet_config.get("context_dim"), int)
        and not base_model.model_config.unet_config.get("use_temporal_attention", False)
    )
