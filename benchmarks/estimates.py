"""Rows of the memory table: what a stage was estimated to need, and what it took."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch

from ..attndb.config.choices import Precision
from ..attndb.config.stage import StageConfig
from ..attndb.memory.estimate import MemoryEstimate, MemoryEstimator
from ..attndb.memory.meta_trace import META
from ..attndb.models.noise_schedule import Diffusion, scaled_linear_alphas_cumprod
from ..devkit.kl_vae import kl_vae
from ..devkit.training import training_of
from ..nodes.host.model.encoding_memory import encoding_bytes
from ..nodes.host.model.private_model import PrivateModel
from ..nodes.host.model.private_unet import private_unet
from ..nodes.host.model.text_encoder import TextEncoder
from .measure import PeakMemory, collect
from .ours import initial_vector, our_backend, our_batch, stage_config
from .sizes import Size, inputs_of, sd15, sd21, sdxl, weights_of

CPU = torch.device("cpu")
MODES: dict[str, dict[str, Any]] = {
    "default": {},
    "light checkpointing": {"gradient_checkpointing": "light"},
    "full checkpointing": {"gradient_checkpointing": "full"},
    "micro_batch 1": {"micro_batch": 1},
    "micro_batch 2": {"micro_batch": 2},
    "LoRA 16": {"lora_rank": 16},
    "low memory": {"low_memory": True},
    "low memory, light": {"low_memory": True, "gradient_checkpointing": "light"},
    "low memory, micro_batch 1": {"low_memory": True, "micro_batch": 1},
    "low memory, LoRA 16": {"low_memory": True, "lora_rank": 16},
}
MEASURED = (
    "default",
    "light checkpointing",
    "full checkpointing",
    "micro_batch 1",
    "LoRA 16",
    "low memory",
)
PREDICTED = tuple(mode for mode in MODES if mode != "micro_batch 1")
AUTOENCODER = 84_000_000 * 2
"""Bytes of Stable Diffusion's VAE in 16 bits."""


def cases() -> list[tuple[int, Precision, str]]:
    """(stage, precision, mode) of every measured row."""
    precisions: tuple[Precision, ...] = ("fp32", "bf16")
    return [
        (stage, precision, mode)
        for stage in (1, 2, 3)
        for precision in precisions
        for mode in MEASURED
        if sensible(stage, mode) and not (mode == "low memory" and precision == "fp32")
    ]


def sensible(stage: int, mode: str) -> bool:
    """Stage 1 trains no U-Net, so it has no LoRA."""
    return stage > 1 or "LoRA" not in mode


def measured(
    size: Size, stage: int, precision: Precision, mode: str, baseline: int
) -> dict[str, Any]:
    """A row of a real training on the CPU, two steps, in this process: MB above `baseline`."""
    backend = our_backend(size, weights_of(size), CPU)
    vector, batch = initial_vector(backend), our_batch(inputs_of(size, 0))
    config = stage_config(stage, size, precision, **MODES[mode])
    estimate = estimator(size, backend)(config)
    collect(CPU)
    with PeakMemory(CPU, baseline) as peak, training_of(backend, config, vector) as ours:
        for step in range(2):  # the second holds the optimiser's state as well
            ours.step(step, batch)
    row = _row(size, config, precision, mode, estimate)
    return {**row, "measured_mb": peak.megabytes}


def predicted(device: torch.device, batch: int = 8) -> Iterator[dict[str, Any]]:
    """Rows of full-size models on a card, by estimate alone: 512 px, and SDXL at 1024 px with half
    the batch, as its preset has it."""
    vae = kl_vae(dtype=torch.bfloat16, on=device.type)
    for size in (sd15().at(512, batch), sd21().at(512, batch), sdxl().at(1024, batch // 2)):
        encoding = encoding_bytes(vae, device, size.resolution)
        bare = model_without_weights(size, device)
        estimate = estimator(size, bare, AUTOENCODER, encoding)
        for stage in (1, 2, 3):
            for mode in PREDICTED:
                if sensible(stage, mode):
                    config = stage_config(stage, size, "bf16", **MODES[mode])
                    yield _row(size, config, "bf16", mode, estimate(config))


def estimator(
    size: Size, backend: PrivateModel, autoencoder: int = 0, encoding: int = 0
) -> MemoryEstimator:
    """Of a size as the benchmarks train it."""
    prompt = our_batch(inputs_of(size.at(64, 1), 0)).prompts[0]
    return MemoryEstimator(
        model=backend,
        embeddings={name: (1, clip["hidden_size"]) for name, clip in size.encoders.items()},
        prompts=(prompt,),
        latent=size.latent_shape[1:],
        autoencoder=autoencoder,
        encoding=encoding,
    )


def model_without_weights(size: Size, device: torch.device) -> PrivateModel:
    """A model that holds no memory and says that it is on `device`: to estimate, not to train."""
    import comfy.ops
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
    from comfy.sd1_clip import SDClipModel

    operations = comfy.ops.disable_weight_init
    shapes = UNetModel(
        **copy.deepcopy(size.unet), dtype=torch.float32, device=META, operations=operations
    ).state_dict()
    encoders = {}
    for name, clip in size.encoders.items():
        with META:
            text = SDClipModel(
                textmodel_json_config=dict(clip),
                dtype=torch.float32,
                model_options={"custom_operations": operations},
                layer="hidden",
                layer_idx=-1 - size.clip_skip,
            )
        encoders[name] = TextEncoder(text.eval().requires_grad_(False).to(META)).to(META)
    diffusion = Diffusion(alphas_cumprod=scaled_linear_alphas_cumprod(), prediction_type="epsilon")
    unet = private_unet(size.unet, shapes, META)
    model = PrivateModel(unet, encoders, diffusion, META)
    model.device = device  # only now: there may be none to ask what it can
    return model


def _row(
    size: Size, config: StageConfig, precision: str, mode: str, estimate: MemoryEstimate
) -> dict[str, Any]:
    return {
        "size": size.name,
        "resolution": size.resolution,
        "batch": size.batch,
        "stage": config.stage,
        "precision": precision,
        "mode": mode,
        "estimated_mb": estimate.total / 1e6,
        "lasting_mb": (estimate.total - estimate.gradients - estimate.activations) / 1e6,
    }
