"""Wires of the host in this process: a loaded checkpoint, a stock sampler, a U-Net's calls."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .checkpoints import Kind, make_checkpoint
from .small_models import small_wires


@dataclass
class Loaded:
    """A checkpoint's wires."""

    model: Any
    clip: Any
    vae: Any
    _encoded: dict[str, list[Any]] = field(default_factory=dict)

    def encode(self, text: str) -> list[Any]:
        """CONDITIONING, by the stock node; the same text is encoded once."""
        import nodes

        if text not in self._encoded:
            self._encoded[text] = nodes.CLIPTextEncode().encode(self.clip, text)[0]
        return self._encoded[text]

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


class Oracle:
    """Attention of every layer of a shared U-Net, from its projections, by forward hooks.

    It knows nothing of wrappers, options or conditionings: `rows` of each call are for the test to
    choose. For tests only; hooks on a shared module are seen by every clone.
    """

    def __init__(self, model: Any, kind: str = "attn2") -> None:
        self.weights: dict[str, list[Tensor]] = {}
        """By layer, for each call: mean over heads of softmax(q k / sqrt d), (B, P, T)."""
        self._kind = kind
        self._unet = model.model.diffusion_model
        self._handles: list[Any] = []
        self._q: dict[str, Tensor] = {}

    def __enter__(self) -> Oracle:
        for name, module in self._unet.named_modules():
            if name.endswith(self._kind):
                self._handles += [
                    module.to_q.register_forward_hook(self._on_q(name)),
                    module.to_k.register_forward_hook(self._on_k(name, module.heads)),
                ]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _on_q(self, name: str) -> Any:
        def hook(_module: Any, _inputs: Any, q: Tensor) -> None:
            self._q[name] = q

        return hook

    def _on_k(self, name: str, heads: int) -> Any:
        def hook(_module: Any, _inputs: Any, k: Tensor) -> None:
            q = self._q.pop(name)
            q, k = (part.float().unflatten(-1, (heads, -1)).transpose(1, 2) for part in (q, k))
            logits = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
            self.weights.setdefault(name, []).append(logits.softmax(dim=-1).mean(dim=1))

        return hook


def small_sd15() -> Loaded:
    """A small SD 1.5; `host_on_path` first."""
    return Loaded(*small_wires("sd15"))


def load(kind: Kind) -> Loaded:
    """The wires of a small checkpoint; `host_on_path` first."""
    import comfy.sd

    with torch.inference_mode():
        path = str(make_checkpoint(kind, dtype=torch.float32))
        model, clip, vae, _ = comfy.sd.load_checkpoint_guess_config(path)
    return Loaded(model, clip, vae)


def control_net(loaded: Loaded) -> Any:
    """A small ControlNet with seeded weights."""
    import comfy.cldm.cldm
    import comfy.controlnet
    import comfy.ops

    config = dict(loaded.model.model.model_config.unet_config)
    for name in ("out_channels", "use_temporal_attention", "transformer_depth_output", "dtype"):
        config.pop(name, None)
    torch.manual_seed(5)
    model = comfy.cldm.cldm.ControlNet(
        **config, hint_channels=3, operations=comfy.ops.disable_weight_init, dtype=torch.float32
    )
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.02)
    return comfy.controlnet.ControlNet(model, load_device=loaded.model.load_device)
