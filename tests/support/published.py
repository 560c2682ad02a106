"""U-Nets of the published checkpoints' layout: at the real size without memory, or narrow."""

from __future__ import annotations

from copy import deepcopy
from types import SimpleNamespace
from typing import Any

import torch

from attndreambooth.devkit.checkpoints import WHOLE
from attndreambooth.devkit.small_models import model_of

LEVELS = {
    **WHOLE,
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "use_spatial_transformer": True,
    "legacy": False,
}
SD15 = {"context_dim": 768, "num_heads": 8, "num_head_channels": -1}
SD2 = {"context_dim": 1024, "num_head_channels": 64, "use_linear_in_transformer": True}
SDXL = {
    **SD2,
    "context_dim": 2048,
    "num_res_blocks": [2, 2, 2],
    "channel_mult": [1, 2, 4],
    "transformer_depth": [0, 0, 2, 2, 10, 10],
    "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
    "transformer_depth_middle": 10,
    "num_classes": "sequential",
    "adm_in_channels": 2816,
}
FAMILIES = {
    "SD 1.5": (SD15, "SD15", "EPS"),
    "SD 2.1-768": (SD2, "SD20", "V_PREDICTION"),
    "SDXL": (SDXL, "SDXL", "EPS"),
}
"""U-Net, the host's model config, prediction type."""
NARROW: dict[str, dict[str, Any]] = {
    "SD 1.5": {"context_dim": 64},
    "SDXL": {
        "context_dim": 64,
        "num_head_channels": 16,
        "adm_in_channels": 32 + 6 * 256,
        "transformer_depth": [0, 0, 1, 1, 2, 2],
        "transformer_depth_output": [0, 0, 0, 1, 1, 1, 2, 2, 2],
        "transformer_depth_middle": 2,
    },
}


def published_model(family: str) -> SimpleNamespace:
    """A MODEL of the real size that holds no memory."""
    import comfy.ops
    import comfy.supported_models
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
    from comfy.model_base import ModelType

    own, name, kind = FAMILIES[family]
    config = deepcopy({**LEVELS, **own})
    unet = UNetModel(**config, device="meta", operations=comfy.ops.disable_weight_init)
    model = SimpleNamespace(
        model_config=getattr(comfy.supported_models, name)(config),
        model_type=getattr(ModelType, kind),
        state_dict=lambda: {f"diffusion_model.{k}": v for k, v in unet.state_dict().items()},
    )
    return SimpleNamespace(model=model)


def narrow_model(family: str) -> Any:
    """A MODEL of the same layers with a tenth of the channels and seeded weights."""
    import comfy.supported_models

    own, name, _ = FAMILIES[family]
    config = deepcopy({**LEVELS, **own, "model_channels": 32, **NARROW[family]})
    return model_of(getattr(comfy.supported_models, name)(config), torch.float32, {})
