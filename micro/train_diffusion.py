"""Step two of the training: U-Net and text encoder together, on latents and captions."""

import logging
import math
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from .text import LENGTH, CaptionEncoder, TextEncoder
from .unet import new_unet, use_plain_attention
from .world import Scene, random_caption

log = logging.getLogger(__name__)

SHORT = 24  # tokens of the longest caption; most steps leave out the padding after it


@dataclass(frozen=True, kw_only=True)
class DiffusionConfig:
    """Settings of the long run; recorded in the weights file."""

    minutes: float  # wall-clock budget of the run, resumed parts included
    batch: int = 64
    rate: float = 1.5e-3  # peak; constant for half of the budget, then linear to zero
    warmup: int = 100
    weight_decay: float = 0.02
    empty_captions: float = 0.1
    long_captions: float = 0.15  # share of steps with all 77 tokens; 0.6 in the last fifth
    ema: float = 0.999
    seed: int = 0
    checkpoint_every: int = 200


def alphas_cumprod(steps: int = 1000) -> Tensor:
    """abar of the scaled-linear schedule 0.00085 -> 0.012 (METHOD: Stable Diffusion's)."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, steps, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, dim=0).float()


def timestep_cdf(abar: Tensor) -> Tensor:
    """Cumulative probability of each timestep: p(t) ~ clip(SNR^-1/2, 0.25, 2).

    High noise decides what is drawn and where, which is what captions speak of; sampling it more
    often stands in for a loss weight without the variance of one.
    """
    snr = abar / (1 - abar)
    p = snr.rsqrt().clamp(0.25, 2.0).double()
    return torch.cumsum(p / p.sum(), dim=0)


class _Mirror:
    """fp32 master weights of a bf16 module; convolutions as matrices, as Muon wants them."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.names = [name for name, _ in module.named_parameters()]
        self.parameters = list(module.parameters())
        self.masters = [
            (p.detach().float().flatten(1) if p.ndim > 2 else p.detach().float().clone())
            for p in self.parameters
        ]

    def take_gradients(self) -> None:
        for p, m in zip(self.parameters, self.masters, strict=True):
            m.grad = None if p.grad is None else p.grad.reshape(m.shape).to(m.dtype)
            p.grad = None

    def publish(self, values: list[Tensor] | None = None) -> None:
        with torch.no_grad():
            for p, m in zip(self.parameters, values or self.masters, strict=True):
                p.copy_(m.view(p.shape))


def _is_hidden_matrix(name: str, value: Tensor) -> bool:
    outer = ("input_blocks.0.", "out.", "time_embed.")
    return value.ndim == 2 and not name.startswith(outer) and "embedding" not in name


class DiffusionTrainer:
    """Owns models, masters, optimisers and the moving average; `step` is one training step."""

    def __init__(self, config: DiffusionConfig, captions: CaptionEncoder, device: torch.device):
        use_plain_attention()
        torch.manual_seed(config.seed)
        self.config, self.captions, self.device = config, captions, device
        self.unet = new_unet().to(device, torch.bfloat16).to(memory_format=torch.channels_last)
        self.unet.dtype = torch.bfloat16
        self.unet.requires_grad_(True)
        self.text = TextEncoder(captions.vocabulary.rows).to(device)
        self.mirrors = [_Mirror(self.unet), _Mirror(self.text)]
        named = [(n, m) for mirror in self.mirrors for n, m in zip(mirror.names, mirror.masters)]  # noqa: B905
        matrices = [m for n, m in named if _is_hidden_matrix(n, m)]
        others = [m for n, m in named if not _is_hidden_matrix(n, m)]
        decay = config.weight_decay
        self.optimizers = [
            torch.optim.Muon(
                matrices, weight_decay=decay, ns_steps=3, adjust_lr_fn="match_rms_adamw"
            ),
            torch.optim.AdamW(others, betas=(0.9, 0.99), weight_decay=0.0, fused=True),
        ]
        self.masters = [m for _, m in named]
        self.average = [m.clone() for m in self.masters]
        self.abar = alphas_cumprod().to(device)
        self.cdf = timestep_cdf(self.abar).to(device)
        self.steps, self.elapsed = 0, 0.0
        self.publish()

    def publish(self, average: bool = False) -> None:
        """Copy the masters (or their moving average) into the models."""
        values, first = self.average if average else self.masters, len(self.mirrors[0].masters)
        self.mirrors[0].publish(values[:first])
        self.mirrors[1].publish(values[first:])

    @property
    def progress(self) -> float:
        return self.elapsed / (60 * self.config.minutes)

    def _set_rate(self) -> None:
        c = self.config
        rate = (
            c.rate * min(1, (self.steps + 1) / c.warmup) * min(1, 2 * max(0.0, 1 - self.progress))
        )
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate

    def _contexts(self, scenes: list[Scene], rng: np.random.Generator) -> Tensor:
        c = self.config
        texts = [
            "" if rng.random() < c.empty_captions else random_caption(scene, rng)
            for scene in scenes
        ]
        rows = self.captions(texts).to(self.device)
        share = 0.6 if self.progress > 0.8 else c.long_captions
        length = LENGTH if rng.random() < share else SHORT
        with torch.autocast(self.device.type, torch.bfloat16):
            return self.text(rows[:, :length])

    def step(self, latents: Tensor, scenes: list[Scene]) -> tuple[float, Tensor, Tensor]:
        """One update; gives the loss, the timesteps and the loss per sample."""
        c = self.config
        rng = np.random.default_rng((c.seed, 77, self.steps))
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        self._set_rate()

        index = rng.integers(len(scenes), size=c.batch)
        z0 = latents[torch.from_numpy(index)].to(self.device).float()  # (B, C, 8, 8)
        context = self._contexts([scenes[i] for i in index], rng)  # (B, T, 128)
        even = (torch.arange(c.batch) + torch.rand(c.batch, generator=generator)) / c.batch
        t = torch.searchsorted(self.cdf, even.to(self.cdf)).clamp(max=len(self.cdf) - 1)  # (B,)
        noise = torch.randn(z0.shape, generator=generator).to(self.device)
        a = self.abar[t].view(-1, 1, 1, 1)
        zt = (a.sqrt() * z0 + (1 - a).sqrt() * noise).bfloat16()

        zt = zt.contiguous(memory_format=torch.channels_last)
        prediction = self.unet(zt, t, context=context.bfloat16()).float()
        losses = (prediction - noise).square().mean(dim=(1, 2, 3))  # (B,)
        loss = losses.mean()
        loss.backward()

        for mirror in self.mirrors:
            mirror.take_gradients()
        torch.nn.utils.clip_grad_norm_(self.masters, 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        self.publish()
        decay = min(c.ema, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self.average, self.masters, 1 - decay)
        self.steps += 1
        return float(loss.detach()), t, losses.detach()

    def state(self) -> dict:
        return {
            "masters": self.masters,
            "average": self.average,
            "optimizers": [o.state_dict() for o in self.optimizers],
            "steps": self.steps,
            "elapsed": self.elapsed,
            "config": asdict(self.config),
        }

    def load(self, state: dict) -> None:
        with torch.no_grad():
            for kind in ("masters", "average"):
                for mine, stored in zip(getattr(self, kind), state[kind], strict=True):
                    mine.copy_(stored)
        for optimizer, stored in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(stored)
        self.steps, self.elapsed = state["steps"], state["elapsed"]
        self.publish()


def save_checkpoint(trainer: DiffusionTrainer, path: Path) -> None:
    part = path.with_suffix(".part")
    torch.save(trainer.state(), part)
    os.replace(part, path)


def train_diffusion(
    trainer: DiffusionTrainer, latents: Tensor, scenes: list[Scene], checkpoint: Path
) -> None:
    """Train until the time budget is used, going on from `checkpoint` where it exists."""
    if checkpoint.exists():
        trainer.load(torch.load(checkpoint, weights_only=True, map_location=trainer.device))
        log.info("resumed at step %d, %.1f minutes", trainer.steps, trainer.elapsed / 60)
    seen, by_noise, count = 0.0, torch.zeros(4), torch.zeros(4)
    last = time.monotonic()
    while trainer.progress < 1:
        loss, t, losses = trainer.step(latents, scenes)
        if not math.isfinite(loss):
            raise FloatingPointError(f"train-micro: loss is {loss} at step {trainer.steps}")
        now = time.monotonic()
        trainer.elapsed += now - last
        last = now
        seen += loss
        by_noise.index_add_(0, (t.cpu() // 250), losses.cpu())
        count.index_add_(0, (t.cpu() // 250), torch.ones(len(t)))
        if trainer.steps % 50 == 0:
            quarters = " ".join(f"{v:.4f}" for v in by_noise / count.clamp(min=1))
            log.info(
                "step %d, %.1f min, loss %.4f, by noise %s",
                trainer.steps,
                trainer.elapsed / 60,
                seen / 50,
                quarters,
            )
            seen = 0.0
            by_noise.zero_()
            count.zero_()
        if trainer.steps % trainer.config.checkpoint_every == 0:
            save_checkpoint(trainer, checkpoint)
    save_checkpoint(trainer, checkpoint)
