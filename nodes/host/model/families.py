"""Which models on the wires can be trained, and what to say of those that cannot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import comfy.supported_models
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.model_base import SDXL, ModelType
from comfy.model_sampling import EPS, V_PREDICTION
from comfy.sd1_clip import SDClipModel
from comfy.sdxl_clip import SDXLClipModel

from ....attndb.artifacts.digest import tensors_digest
from ....attndb.config.family import FAMILIES, SD15, SD21_768, SD21_BASE, SSD_1B, VEGA
from ....attndb.config.family import SDXL as XL
from ....attndb.config.model_fit import ModelKind, misfit
from ....attndb.config.stage import StageConfig
from .placeholders import SDXL_ENCODERS, embedding_widths, encoder_names, token_embeddings

SUPPORTED = "Stable Diffusion 1.5, 2.1-base, 2.1-768 and SDXL (and attndb-micro)"

_NAMES = {
    "SD15": SD15.name,
    "SDXL": XL.name,
    "SSD1B": SSD_1B.name,
    "Segmind_Vega": VEGA.name,
    "SDXLRefiner": "SDXL refiner",
    "SDXL_instructpix2pix": "SDXL instruct pix2pix",
    "Flux": "Flux",
    "SD3": "SD 3",
}


_MICRO = "AttnDBMicro"
MICRO_KIND = ModelKind("attndb-micro", "micro", 128)
"""The embedded model."""


def family(model: Any) -> str:
    """A name for the family of the MODEL's checkpoint, e.g. `SD 1.5`, `SD 2.1-768`, `SDXL`; a model
    sampling node does not make another one of it."""
    inpainting = " inpainting" if getattr(model.model, "concat_keys", ()) else ""
    return _family(model.model.model_config, model.model.model_type) + inpainting


def _family(config: Any, predicts: ModelType) -> str:
    name = type(config).__name__
    if name == "SD20":
        return SD21_768.name if predicts == ModelType.V_PREDICTION else SD21_BASE.name
    return _NAMES.get(name, name)


def model_kind(config: Any, predicts: ModelType) -> ModelKind:
    """What a model of this configuration of the host's asks of settings."""
    name = _family(config, predicts)
    if name == _MICRO:
        return MICRO_KIND
    relative = isinstance(config, comfy.supported_models.SDXL)  # KOALA and others
    known = FAMILIES.get(name, XL if relative else None)
    if known is None:
        return ModelKind(name, None, 0)
    return ModelKind(name, "sdxl" if known.layout == "sdxl" else "paper", 8 * known.latent_side)


def misfit_of(model: Any, preset: str, config: StageConfig) -> str:
    """What to say of settings that are for another MODEL; empty where there is nothing to say."""
    return misfit(model_kind(model.model.model_config, model.model.model_type), preset, config)


def is_v_prediction(model: Any) -> bool:
    """Whether the MODEL predicts v instead of epsilon; Model Sampling Discrete may have said so."""
    return _denoised(model) is V_PREDICTION.calculate_denoised


def _denoised(model: Any) -> Any:
    """How the MODEL's sampling reads the U-Net's output."""
    return type(model.get_model_object("model_sampling")).calculate_denoised


def sampling_identity(model: Any) -> dict[str, str]:
    """What a model sampling node can change of a training: `prediction_type` (`epsilon`, `v` or
    `other`), and `schedule_sha256` of the sigmas."""
    names = {EPS.calculate_denoised: "epsilon", V_PREDICTION.calculate_denoised: "v"}
    sigmas = model.get_model_object("model_sampling").sigmas.detach().cpu().double()
    return {
        "prediction_type": names.get(_denoised(model), "other"),
        "schedule_sha256": tensors_digest({"sigmas": sigmas}),
    }


def check_sampling(
    model: Any, placeholder: str, record: Mapping[str, Any], *, last: bool = False
) -> None:
    """ValueError if a concept's record names another prediction type or noise schedule than the
    MODEL has. A record that names none fits. `last`: of the MODEL that samples, which has the
    nodes that go behind a concept too; then only epsilon for v is wrong, or v for epsilon."""
    has = sampling_identity(model)
    node = (
        "ModelSamplingDiscrete with the settings of the training goes in front, any other model "
        "sampling node behind Apply Concept"
    )
    trained, now = record.get("prediction_type"), has["prediction_type"]
    if last and (now == "other" or trained in (None, now)):
        return
    if trained is not None and trained != now:
        raise ValueError(
            f"the concept {placeholder} was trained on a MODEL that predicts {trained}, and this "
            f"one predicts {'neither epsilon nor v' if now == 'other' else now}: connect a MODEL "
            f"that predicts {trained} ({node}), or train the concept on this one"
        )
    if record.get("schedule_sha256") not in (None, has["schedule_sha256"]):
        raise ValueError(
            f"the concept {placeholder} was trained with another noise schedule (zsnr, ...) than "
            f"this MODEL has: connect a MODEL with the same schedule ({node}), or train the "
            "concept on this one"
        )


def _check_timesteps(model: Any) -> None:
    """ValueError, naming the sampling, unless a timestep is a place in the schedule: training
    draws places, and the U-Net has to be told what sampling will tell it."""
    sampling = model.get_model_object("model_sampling")
    timesteps = sampling.timestep(sampling.sigmas).detach().cpu().double()
    if not torch.equal(timesteps, torch.arange(len(timesteps), dtype=torch.double)):
        name = type(sampling).__bases__[0].__name__
        raise ValueError(
            f"MODEL was given other timesteps than those of its noise schedule by a model sampling "
            f"node ({name}), which cannot be trained here: connect the MODEL from before that node "
            "(it may stand behind the training), or use ModelSamplingDiscrete"
        )


def check_no_injections(model: Any, clip: Any) -> None:
    """ValueError, by name, if something changes how MODEL or CLIP compute that is not part of the
    weights: a training would not see it."""
    for part, patcher in (("MODEL", model), ("CLIP", getattr(clip, "patcher", None))):
        names = [key for key, what in getattr(patcher, "injections", {}).items() if what]
        if "bypass_lora" in names:
            raise ValueError(
                f"{part} comes from Load LoRA (Bypass), which the training cannot take into its "
                "base: use the plain Load LoRA node in front of the training"
            )
        if names:
            raise ValueError(
                f"{part} is changed by a node whose work the training cannot take into its base "
                f"(injection {names[0]!r}): connect the {part} from before that node"
            )
    if getattr(getattr(clip, "patcher", None), "forced_hooks", None):
        raise ValueError(
            "CLIP comes from Set CLIP Hooks, which the training cannot take into its base: connect "
            "the CLIP from before that node"
        )


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
            f"MODEL is {_kind(model)}, which cannot be trained here. Supported: {SUPPORTED}"
        )
    if _denoised(model) not in (EPS.calculate_denoised, V_PREDICTION.calculate_denoised):
        raise ValueError(
            "MODEL was told by a model sampling node to predict neither epsilon nor v (LCM, x0, "
            "...): connect the MODEL from before that node"
        )
    _check_timesteps(model)
    check_no_injections(model, clip)
    check_text_encoder(clip)
    widths = embedding_widths(clip)
    if _is_sdxl(model.model) and len(widths) == 1:
        [(name, width)] = widths.items()
        raise ValueError(
            f"MODEL ({family(model)}) reads two text encoders, {' and '.join(SDXL_ENCODERS)}, and "
            f"this CLIP is {name} alone (width {width}): connect the CLIP of the same checkpoint, "
            "or load both halves with Load CLIP (Dual) (DualCLIPLoader), type sdxl"
        )
    wanted, width = model.model.model_config.unet_config["context_dim"], sum(widths.values())
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


def check_text_encoder(clip: Any) -> None:
    """ValueError unless a CLIP is the text encoders of a supported model, each with weights."""
    encoder = clip.cond_stage_model
    names = encoder_names(encoder)
    parts = [getattr(encoder, name, None) for name in names]
    several = len(parts) > 1 and not isinstance(encoder, SDXLClipModel)
    if not parts or several or not all(isinstance(part, SDClipModel) for part in parts):
        raise ValueError(
            f"CLIP is {type(encoder).__name__}, which does not belong to a supported model. "
            f"Supported: {SUPPORTED}; connect the CLIP of the same checkpoint as the MODEL"
        )
    for name, table in token_embeddings(clip).items() if len(names) > 1 else ():
        if _is_blank(table):
            raise ValueError(
                f"CLIP lacks its half {name}: the file it was loaded from has no weights for it. "
                "Load a full SDXL checkpoint, or both halves with Load CLIP (Dual) "
                "(DualCLIPLoader), type sdxl"
            )


def _is_blank(table: Any) -> bool:
    """Whether a table of token embeddings is no such thing: the host leaves what a file does not
    hold as it finds the memory."""
    if table.is_meta:
        return True
    rows = table.detach()[:64].float()
    return not bool(rows.isfinite().all()) or float(rows.std()) < 1e-12 or float(rows.std()) > 1e3


def _kind(model: Any) -> str:
    """The family, and what it predicts where that is the trouble."""
    kind = model.model.model_type
    plain = kind in (ModelType.EPS, ModelType.V_PREDICTION) or not _is_sdxl(model.model)
    return family(model) if plain else f"{family(model)} of the kind {kind.name}"


def _is_sdxl(base_model: Any) -> bool:
    """Whether a U-Net is told pooled text and sizes as SDXL's is; the refiner's is told others."""
    return type(base_model) is SDXL


def _is_trainable_unet(base_model: Any) -> bool:
    unet: Any = getattr(base_model, "diffusion_model", None)
    return (
        isinstance(unet, UNetModel)
        and (unet.num_classes is None or _is_sdxl(base_model))
        and base_model.model_type in (ModelType.EPS, ModelType.V_PREDICTION)
        and not base_model.concat_keys
        and isinstance(base_model.model_config.unet_config.get("context_dim"), int)
        and not base_model.model_config.unet_config.get("use_temporal_attention", False)
    )
