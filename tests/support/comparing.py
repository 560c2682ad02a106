"""Whether wires are bit-identical, and how far two models' outputs lie apart."""

from __future__ import annotations

import zlib
from typing import Any

import torch

from attndreambooth.devkit.training import denoised

XL = ("clip_l", "clip_g")
"""SDXL's text encoders."""


def digest(module: torch.nn.Module) -> list[tuple[str, torch.dtype, int]]:
    """Name, type and checksum of every weight."""
    return [
        (
            name,
            value.dtype,
            zlib.crc32(value.detach().contiguous().view(-1).view(torch.uint8).numpy()),
        )
        for name, value in module.state_dict().items()
    ]


def patches_of(patcher: Any) -> dict[str, list[int]]:
    return {key: [id(entry) for entry in entries] for key, entries in patcher.patches.items()}


def snapshot(wires: Any) -> dict[str, Any]:
    """All that the host could see change on the wires."""
    modules = {
        "model": wires.model.model,
        "clip": wires.clip.cond_stage_model,
        "vae": wires.vae.first_stage_model,
    }
    tokenizer = wires.clip.tokenizer
    names = [tokenizer.clip] if hasattr(tokenizer, "clip") else XL
    inners = [getattr(tokenizer, name) for name in names]
    return {
        **{f"{name} weights": digest(module) for name, module in modules.items()},
        "grad": [
            name
            for name, module in modules.items()
            for p in module.parameters()
            if p.requires_grad or p.grad is not None
        ],
        "training": [m.training for module in modules.values() for m in module.modules()],
        "hooks": sum(
            len(m._forward_hooks) for module in modules.values() for m in module.modules()
        ),
        "forwards": [
            name
            for module in modules.values()
            for name, m in module.named_modules()
            if "forward" in vars(m)
        ],
        "patches": [patches_of(p) for p in (wires.model, wires.clip.patcher, wires.vae.patcher)],
        "uuids": [p.patches_uuid for p in (wires.model, wires.clip.patcher, wires.vae.patcher)],
        "options": repr(wires.model.model_options),
        "objects": sorted(wires.model.object_patches),
        "tokenizer": [(id(part), sorted(vars(part))) for part in (tokenizer, *inners)],
        "tokens": repr(wires.clip.tokenize("a photo of a <astro> person on the beach")),
        "layer": wires.clip.layer_idx,
    }


def example(model: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Latents, timesteps and text states as a MODEL takes them."""
    width = model.model.model_config.unet_config["context_dim"]
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 4, 8, 8, generator=generator)
    return x, torch.tensor([20, 700]), torch.randn(2, 77, width, generator=generator)


def output_of(model: Any, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """The U-Net of a MODEL on the wires, its patches merged by the host."""
    import comfy.model_management

    x, t, context = inputs
    comfy.model_management.load_models_gpu([model], force_patch_weights=True)
    return model.model.diffusion_model(x, t, context=context, transformer_options={}).clone()


def private_output(backend: Any, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
    x, t, context = inputs
    return denoised(backend, x, t, context)


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())
