"""Says before a training what memory it will need, and settles what is left to the free memory."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import comfy.model_management
import torch

from ....attndb.config.stage import StageConfig
from ....attndb.data.tokens import TokenizedText
from ....attndb.memory.advice import advice, first_fitting
from ....attndb.memory.estimate import MemoryEstimator
from ....attndb.models.conditioning import Embeddings
from .encoding_memory import encoder_bytes, encoding_bytes
from .private_model import PrivateModel

log = logging.getLogger(__name__)


def fit_to_memory(
    title: str,
    model: PrivateModel,
    vae: Any,
    choices: Sequence[StageConfig],
    prompts: Sequence[TokenizedText],
    embeddings: Embeddings,
    prior: bool = False,
    preset: str = "",
) -> StageConfig:
    """The first of the settings that fits into the free memory, or the one that needs least, with
    gradient_checkpointing chosen where it is `auto`. Logs what the stage will need, with a warning
    if that may not fit. It refuses nothing and raises nothing: training halves the micro-batch
    where memory does run out. `vae`: where it stays next to the U-Net, to encode between the steps;
    None: it is done before them. `preset`: that the settings came from, if any."""
    try:
        side = choices[0].data.resolution // 8
        estimator = MemoryEstimator(
            model=model,
            embeddings={n: (v.shape[0], v.shape[1]) for n, v in embeddings.items()},
            prompts=tuple(prompts),
            latent=(model.latent_channels, side, side),
            autoencoder=encoder_bytes(vae, model.device),
            encoding=encoding_bytes(vae, model.device, choices[0].data.resolution),
            prior=prior,
        )
        free = free_memory(model.device) + estimator.in_place
        config, chosen, estimate = first_fitting(estimator, choices, free)
        line = estimate.describe(free)
        if config.low_memory and not choices[0].low_memory:
            line += "; low_memory auto: on"
        if chosen != config and chosen.recomputes != "off":
            line += f"; gradient_checkpointing auto: {chosen.recomputes}"
        log.info("%s: %s", title, line)
        if not estimate.fits(free):
            pooled = None
            if vae is not None and config.data.encodes_between_steps:
                pooled = replace(estimator, autoencoder=0, encoding=0)
            said = advice(estimate, estimator, config, free, preset, pooled)
            log.warning("%s: %s", title, said)
    except Exception:  # an estimate is worth no training
        log.warning("%s: the memory needed could not be estimated", title, exc_info=True)
        return choices[0]
    return chosen


def free_memory(device: torch.device) -> int:
    """Bytes that can still be had on a device, as the host sees it."""
    return int(cast(int, comfy.model_management.get_free_memory(device)))
