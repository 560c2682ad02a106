"""Wires of the host in this process: a loaded checkpoint, a stock sampler, a U-Net's calls."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .checkpoints import Kind, make_checkpoint


@dataclass
class Loaded:
    """A checkpoint's wires."""

    model: Any
    clip: Any
    vae: Any

    def encode(self, text: str) -> list[Any]:
        """CONDITIONING, by the stock node."""
        import nodes

        return nodes.CLIPTextEncode().encode(self.clip, text)[0]

    def draw(
        self,
        model: Any,
        positive: list[Any],
        negative: list[Any],
        *,
        size: tuple[int, int] = (8, 12),
        batch: int = 1,
        seed: int = 1,
        steps: int = 2,
        cfg: float = 5.0,
        sampler: str = "euler",
        scheduler: str = "normal",
        denoise: float = 1.0,
        latent: dict[str, Any] | None = None,
    ) -> Tensor:
        """LATENT samples, by the stock KSampler."""
        import nodes

        latent = latent or {"samples": torch.zeros(batch, 4, *size)}
        drawn = nodes.KSampler().sample(
            model, seed, steps, cfg, sampler, scheduler, positive, negative, latent, denoise
        )
        return drawn[0]["samples"]


@dataclass
class Calls:
    """What a diffusion model was called with, noted by a wrapper of its own."""

    x: list[Tensor] = field(default_factory=list)
    t: list[Tensor] = field(default_factory=list)
    context: list[Tensor] = field(default_factory=list)
    order: list[list[int]] = field(default_factory=list)
    output: list[Tensor] = field(default_factory=list)

    def watch(self, model: Any) -> Any:
        """A clone of MODEL whose calls are noted here."""
        from comfy.patcher_extension import WrappersMP

        def wrapper(executor, x, timesteps, context, y, control, options, **kwargs):
            out = executor(x, timesteps, context, y, control, options, **kwargs)
            self.x.append(x.clone())
            self.t.append(timesteps.clone())
            self.context.append(context.clone())
            self.order.append(list(options["cond_or_uncond"]))
            self.output.append(out.clone())
            return out

        clone = model.clone()
        clone.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "test_calls", wrapper)
        return clone


def load(kind: Kind) -> Loaded:
    """The wires of a small checkpoint; `host_on_path` first."""
    import comfy.sd

    with torch.inference_mode():
        path = str(make_checkpoint(kind, dtype=torch.float32))
        model, clip, vae, _ = comfy.sd.load_checkpoint_guess_config(path)
    return Loaded(model, clip, vae)
