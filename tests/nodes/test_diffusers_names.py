"""The published checkpoints' U-Nets at full size: names, shapes and config are diffusers' own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.published import published_model

COMMON = {  # of the unet/config.json files of both
    "_class_name": "UNet2DConditionModel",
    "act_fn": "silu",
    "block_out_channels": [320, 640, 1280, 1280],
    "center_input_sample": False,
    "down_block_types": [*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"],
    "downsample_padding": 1,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "in_channels": 4,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-05,
    "norm_num_groups": 32,
    "out_channels": 4,
    "up_block_types": ["UpBlock2D", *["CrossAttnUpBlock2D"] * 3],
}
PUBLISHED = {
    "SD 1.5": {"attention_head_dim": 8, "cross_attention_dim": 768, "sample_size": 64},
    "SD 2.1-768": {
        "attention_head_dim": [5, 10, 20, 20],
        "cross_attention_dim": 1024,
        "sample_size": 96,
        "upcast_attention": True,
        "use_linear_projection": True,
    },
    "SDXL": {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "attention_head_dim": [5, 10, 20],
        "block_out_channels": [320, 640, 1280],
        "cross_attention_dim": 2048,
        "down_block_types": ["DownBlock2D", *["CrossAttnDownBlock2D"] * 2],
        "projection_class_embeddings_input_dim": 2816,
        "sample_size": 128,
        "transformer_layers_per_block": [1, 2, 10],
        "up_block_types": [*["CrossAttnUpBlock2D"] * 2, "UpBlock2D"],
        "use_linear_projection": True,
    },
}
WEIGHTS = {"SD 1.5": 686, "SD 2.1-768": 686, "SDXL": 1680}


@pytest.fixture(params=list(PUBLISHED))
def wire(request, host):
    """A MODEL of the real size that holds no memory, and its family."""
    return published_model(request.param), request.param


def test_the_config_is_the_published_one(wire):
    from attndreambooth.nodes.host.model.diffusers_names import diffusers_config

    model, family = wire
    ours = diffusers_config(model)
    published = {**COMMON, **PUBLISHED[family]}
    assert {key: ours[key] for key in published} == published
    assert {k for k in set(ours) - set(published) if ours[k]} == set()


def test_diffusers_u_net_of_that_config_has_the_same_weights(wire):
    from diffusers import UNet2DConditionModel

    from attndreambooth.nodes.host.model.diffusers_names import diffusers_config, diffusers_places

    model, family = wire
    with torch.device("meta"):
        unet: Any = UNet2DConditionModel.from_config(diffusers_config(model))
    theirs = {name: tuple(value.shape) for name, value in unet.state_dict().items()}
    assert theirs == {name: shape for name, (_, shape) in diffusers_places(model).items()}
    assert len(theirs) == WEIGHTS[family]


def test_a_u_net_that_diffusers_cannot_have_is_refused(wire):
    from attndreambooth.nodes.host.model.diffusers_names import diffusers_config

    model, _ = wire
    depths = model.model.model_config.unet_config["transformer_depth"]
    depths[0] = 1 - depths[0]
    with pytest.raises(ValueError, match=r"MODEL has transformers \[\[(0, 1|1, 0)\], "):
        diffusers_config(model)


def test_a_weight_without_a_name_there_is_refused(wire):
    from attndreambooth.nodes.host.model.diffusers_names import diffusers_places

    model, _ = wire
    state = {**model.model.state_dict(), "diffusion_model.more.weight": torch.zeros(1)}
    model.model.state_dict = lambda: state
    with pytest.raises(ValueError, match=r"1 weights that diffusers' U-Net does not have.*more\.w"):
        diffusers_places(model)
