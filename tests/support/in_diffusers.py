"""The host's U-Net as diffusers' own, to compute the same independently."""

from __future__ import annotations

from typing import Any


def in_diffusers(model: Any) -> tuple[Any, dict[str, str]]:
    """The host's U-Net as diffusers' one, and names of its layers."""
    import comfy.utils
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    config = model.model_config.unet_config
    channels = [config["model_channels"] * m for m in config["channel_mult"]]
    linear = config["use_linear_in_transformer"]
    shape: dict[str, Any] = {  # diffusers declares tuples
        "block_out_channels": channels,
        "down_block_types": ["CrossAttnDownBlock2D"] * len(channels),
        "up_block_types": ["CrossAttnUpBlock2D"] * len(channels),
        # its historical name: this is the number of heads
        "attention_head_dim": [c // config["num_head_channels"] for c in channels] if linear else 8,
    }
    unet = UNet2DConditionModel(
        sample_size=64,
        layers_per_block=config["num_res_blocks"][0],
        cross_attention_dim=config["context_dim"],
        use_linear_projection=linear,
        **shape,
    ).eval()
    theirs = comfy.utils.unet_to_diffusers(config)
    ours = model.diffusion_model.state_dict()
    unet.load_state_dict({name: ours[theirs[name]].float() for name in unet.state_dict()})
    layers = {
        name: theirs[f"{name}.to_q.weight"].removesuffix(".to_q.weight")
        for name, _ in unet.named_modules()
        if name.endswith("attn2")
    }
    return unet, layers


def pipeline_parts() -> dict[str, Any]:
    """A small autoencoder, which nobody asks, and Euler's scheduler with the host's schedule."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler

    blocks: dict[str, Any] = {  # diffusers declares tuples of one
        "block_out_channels": [8] * 4,
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
    }
    vae = AutoencoderKL(**blocks, norm_num_groups=4)
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        timestep_spacing="linspace",
    )
    return {"vae": vae, "scheduler": scheduler}


def saved_unet(folder: Any) -> Any:
    """What diffusers loads of an exported folder; nothing missing, nothing left."""
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    loaded: Any = UNet2DConditionModel.from_pretrained(
        folder, subfolder="unet", output_loading_info=True
    )
    unet, info = loaded
    assert not any(info.values()), info
    return unet
