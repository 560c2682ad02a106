"""Our training step on the sizes of the benchmark: the pack's own code on the host's modules."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..attndb.config.choices import Precision
from ..attndb.config.presets import paper
from ..attndb.config.regularization import Regularization
from ..attndb.config.stage import StageConfig
from ..attndb.data.batch import Batch
from ..attndb.data.tokens import TokenizedPrompt
from ..attndb.models.noise_schedule import Diffusion, scaled_linear_alphas_cumprod
from ..attndb.models.protocol import Model
from ..devkit.training import initial_vectors
from ..nodes.host.model.private_model import PrivateModel
from ..nodes.host.model.private_unet import private_unet
from ..nodes.host.model.text_encoder import TextEncoder
from .sizes import CATEGORY, FIRST_NEW_ID, PROMPT, TOKENS, Inputs, Size, Weights


def our_backend(size: Size, weights: Weights, device: torch.device) -> PrivateModel:
    """The private U-Net and text encoder that a stage node trains on, without a VAE."""
    diffusion = Diffusion(alphas_cumprod=scaled_linear_alphas_cumprod(), prediction_type="epsilon")
    own = {name: weight.clone() for name, weight in weights.unet.items()}
    unet = private_unet(size.unet, own, device)
    text = {"clip_l": text_encoder(size, weights.text, device)}
    return PrivateModel(unet, text, diffusion, device)


def text_encoder(size: Size, weights: dict[str, Tensor], device: torch.device) -> TextEncoder:
    """ComfyUI's CLIP text model, as deep as the host runs it."""
    import comfy.ops
    from comfy.sd1_clip import SDClipModel

    layer: dict[str, Any] = {"layer": "last"}
    if size.clip_skip:
        layer = {"layer": "hidden", "layer_idx": -1 - size.clip_skip}
    model = SDClipModel(
        textmodel_json_config=dict(size.clip),
        dtype=torch.float32,
        model_options={"custom_operations": comfy.ops.disable_weight_init},
        **layer,
    )
    model.transformer.load_state_dict(weights, strict=False)
    model.transformer.text_projection.weight.data.zero_()  # the host leaves it uninitialised
    return TextEncoder(model.eval().requires_grad_(False)).to(device)


def stage_config(
    stage: int, size: Size, precision: Precision, regularized: bool = True, **changes: Any
) -> StageConfig:
    """The published stage at this size's batch."""
    config = paper()[stage - 1].with_(batch_size=size.batch, precision=precision, **changes)
    if regularized:
        return config
    return config.with_(regularization=Regularization(mean_weight=0.0, variance_weight=0.0))


def our_batch(inputs: Inputs) -> Batch:
    """The inputs as the trainer takes them: latents ready, as from a pool."""
    tokens = tuple(None if token == FIRST_NEW_ID else token for token in PROMPT)
    tokens += (PROMPT[-1],) * (TOKENS - len(PROMPT))
    prompt = TokenizedPrompt("a photo of a <v> doll", tokens, CATEGORY)
    count = len(inputs.timesteps)
    return Batch(inputs.latents, inputs.noise, inputs.timesteps, (prompt,) * count)


def initial_vector(backend: Model) -> Tensor:
    """(1, D): what stage 1 starts from."""
    return initial_vectors(backend, (PROMPT[CATEGORY],))
