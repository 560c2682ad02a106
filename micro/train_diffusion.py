"""Step two of the training: U-Net and text encoder together, on latents and captions."""

import json
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..attndb.models.noise_schedule import scaled_linear_alphas_cumprod
from .layout import channels_last
from .muon import Muon
from .text import LENGTH, SHORT, CaptionEncoder, TextEncoder
from .train_autoencoder import save_state
from .unet import new_unet, use_plain_attention
from .world import Scene, random_caption

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class DiffusionConfig:
    """Settings of the long run; recorded in the weights file."""

    steps: int = 5000
    batch: int = 48
    rate: float = 1.5e-3  # peak; constant, then linear to zero over the last `decay` of the steps
    warmup: int = 100
    decay: float = 0.4
    weight_decay: float = 0.02
    empty_captions: float = 0.1
    long_captions: float = 0.1  # share of steps with all 77 tokens; half of those in the decay
    dressed: float = 0.0  # share of samples drawn among subjects with a named hat or held thing
    held: float = 0.0  # share of samples drawn among subjects with a named held thing
    objects: float = 0.0  # added to the loss's weight of 1 in cells that show an object
    detail: float = 0.0  # added to it in cells that show a named accessory
    offset_noise: float = 0.1  # most that a whole channel's noise is moved, in its own spread
    ema: float = 0.999
    seed: int = 0
    checkpoint_every: int = 50

    def rate_at(self, step: int) -> float:
        """Learning rate of a step."""
        left = (self.steps - step) / max(1.0, self.decay * self.steps)
        return self.rate * min(1.0, (step + 1) / self.warmup) * min(1.0, max(left, 0.0))


class Draw:
    """The scenes of each step: evenly, and some among those whose captions can name a hat or a
    held thing: few latent cells, so that scenes drawn evenly teach them last."""

    def __init__(self, config: DiffusionConfig, scenes: Sequence[Scene]) -> None:
        self._batch, self._count = config.batch, len(scenes)
        dressed = np.flatnonzero([bool(s.words.hat or s.words.held) for s in scenes])
        holding = np.flatnonzero([bool(s.words.held) for s in scenes])
        self._among = [(config.dressed, dressed), (config.held, holding)]

    def __call__(self, rng: np.random.Generator) -> NDArray[np.intp]:
        """Indices (B,) of a step's scenes."""
        index: NDArray[np.intp] = rng.integers(self._count, size=self._batch)
        for share, some in self._among:
            if share:
                others = some[rng.integers(len(some), size=self._batch)]
                index = np.where(rng.random(self._batch) < share, others, index)
        return index


def is_hidden_matrix(name: str, value: Tensor) -> bool:
    """Whether Muon updates it; first and last layers, embeddings and vectors are AdamW's."""
    outer = ("input_blocks.0.", "out.", "time_embed.")
    return value.ndim >= 2 and not name.startswith(outer) and "embedding" not in name


class DiffusionTrainer:
    """Owns models, optimisers and the moving average; `step` is one training step, under bf16
    autocast if asked: faster on cards and on CPUs with bf16 products, slower on others. `compiled`
    costs minutes at the start, twice, and makes a step about a fifth shorter on a CPU."""

    def __init__(
        self,
        config: DiffusionConfig,
        captions: CaptionEncoder,
        device: torch.device | str = "cpu",
        bf16: bool = False,
        unet_config: dict[str, Any] | None = None,
        compiled: bool = False,
    ) -> None:
        use_plain_attention()
        torch.manual_seed(config.seed)
        self.config, self.captions, self.device = config, captions, torch.device(device)
        self.bf16 = bf16
        self.unet = channels_last(new_unet(unet_config).to(self.device))
        self.unet.requires_grad_(True)
        self.predict = torch.compile(self.unet, dynamic=False) if compiled else self.unet
        self.text = TextEncoder(captions.vocabulary.rows).to(self.device)
        self.named = dict(self.unet.named_parameters(prefix="unet"))
        self.named |= dict(self.text.named_parameters(prefix="text"))
        bare = {name: name.split(".", 1)[1] for name in self.named}
        hidden = [p for n, p in self.named.items() if is_hidden_matrix(bare[n], p)]
        others = [p for n, p in self.named.items() if not is_hidden_matrix(bare[n], p)]
        self.optimizers = [
            Muon(
                hidden,
                weight_decay=config.weight_decay,
                ns_steps=3,
                dtype=torch.bfloat16 if bf16 else None,
            ),
            torch.optim.AdamW(others, betas=(0.9, 0.99), weight_decay=0.0),
        ]
        self.parameters: list[Tensor] = list(self.named.values())
        self.average = [p.detach().clone() for p in self.parameters]
        self.abar = scaled_linear_alphas_cumprod().float().to(self.device)
        self.steps, self.elapsed = 0, 0.0
        self._draw: Draw | None = None  # of the scenes of the training, once there

    def _contexts(self, scenes: list[Scene], rng: np.random.Generator) -> Tensor:
        c = self.config
        texts = [
            "" if rng.random() < c.empty_captions else random_caption(scene, rng)
            for scene in scenes
        ]
        rows = self.captions(texts).to(self.device)
        late = self.steps >= (1 - c.decay) * c.steps
        length = LENGTH if rng.random() < (0.5 if late else c.long_captions) else SHORT
        return self.text(rows[:, :length])

    def step(
        self, latents: Tensor, scenes: list[Scene], cells: Tensor | None = None
    ) -> tuple[float, Tensor, Tensor]:
        """One update; gives the loss, the timesteps and the loss per sample, of all cells alike.
        `cells` (N, 16, 16): what they show (`latents.shown_in`), which weighs them."""
        c = self.config
        rng = np.random.default_rng((c.seed, 77, self.steps))
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = c.rate_at(self.steps)

        self._draw = self._draw or Draw(c, scenes)
        index = self._draw(rng)
        z0 = latents[torch.from_numpy(index)].to(self.device).float()  # (B, C, 16, 16)
        even = (torch.arange(c.batch) + torch.rand(c.batch, generator=generator)) / c.batch
        t = (even * len(self.abar)).long().clamp(max=len(self.abar) - 1).to(self.device)  # (B,)
        noise = torch.randn(z0.shape, generator=generator)
        share = c.offset_noise * torch.rand(c.batch, 1, 1, 1, generator=generator)
        # what sampling adds up to, a wrong mean of a channel, is then known to be noise
        noise += share * torch.randn(*z0.shape[:2], 1, 1, generator=generator)
        noise = noise.to(self.device)
        a = self.abar[t].view(-1, 1, 1, 1)
        zt = (a.sqrt() * z0 + (1 - a).sqrt() * noise).contiguous(memory_format=torch.channels_last)

        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            context = self._contexts([scenes[i] for i in index], rng)  # (B, T, width)
            prediction = self.predict(zt, t, context=context)
        velocity = a.sqrt() * noise - (1 - a).sqrt() * z0
        errors = (prediction.float() - velocity).square()
        losses = errors.mean(dim=(1, 2, 3))  # (B,)
        loss = losses.mean()
        wanted = loss
        if cells is not None:
            added = torch.tensor([0.0, c.objects, c.detail]).to(
                errors
            )  # SCENERY, OBJECT, ACCESSORY
            weights = 1 + added[cells[torch.from_numpy(index)].long()]  # (B, 16, 16)
            wanted = (errors * weights[:, None]).mean()
        wanted.backward()

        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        decay = min(c.ema, (1 + self.steps) / (10 + self.steps))
        with torch.no_grad():
            torch._foreach_lerp_(  # pyright: ignore[reportPrivateImportUsage]
                self.average, self.parameters, 1 - decay
            )
        self.steps += 1
        return float(loss.detach()), t, losses.detach()

    def averaged(self) -> dict[str, Tensor]:
        """The moving averages by name ("unet...", "text...")."""
        return dict(zip(self.named, self.average, strict=True))

    def state(self) -> dict[str, Any]:
        return {
            "parameters": [p.detach() for p in self.parameters],
            "average": self.average,
            "optimizers": [o.state_dict() for o in self.optimizers],
            "steps": self.steps,
            "elapsed": self.elapsed,
            "config": asdict(self.config),
        }

    def start_from(self, values: Mapping[str, Tensor]) -> None:
        """Begin at these weights, by the names of `averaged`; the optimisers begin anew. KeyError
        or RuntimeError if they are of another model."""
        with torch.no_grad():
            for name, mine, average in zip(self.named, self.parameters, self.average, strict=True):
                mine.copy_(values[name])
                average.copy_(mine)

    def load(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        with torch.no_grad():
            for mine, stored in (
                *zip(self.parameters, state["parameters"], strict=True),
                *zip(self.average, state["average"], strict=True),
            ):
                mine.copy_(stored)
        for optimizer, stored in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(stored)
        self.steps, self.elapsed = state["steps"], state["elapsed"]


def train_diffusion(
    trainer: DiffusionTrainer,
    latents: Tensor,
    scenes: list[Scene],
    checkpoint: Path,
    on_checkpoint: Callable[[DiffusionTrainer], None] | None = None,
    cells: Tensor | None = None,
) -> None:
    """Train to the last step, going on from `checkpoint` where it exists. `cells`: as for `step`.

    Beside it `<name>.jsonl` gets a line at every checkpoint: step, seconds, loss and the loss by
    quarters of the timesteps. FloatingPointError if the loss is not finite; the file then holds
    the last good state.
    """
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True, map_location=trainer.device)
        trainer.load(state)
        log.info("resumed at step %d, %.1f minutes", trainer.steps, trainer.elapsed / 60)
    every = trainer.config.checkpoint_every
    seen, by_noise, count = 0.0, torch.zeros(4), torch.zeros(4)
    last = time.monotonic()
    while trainer.steps < trainer.config.steps:
        loss, t, losses = trainer.step(latents, scenes, cells)
        if not math.isfinite(loss):
            raise FloatingPointError(f"train-micro: loss is {loss} at step {trainer.steps}")
        now = time.monotonic()
        trainer.elapsed, last = trainer.elapsed + now - last, now
        seen += loss
        by_noise.index_add_(0, t.cpu() // 250, losses.cpu())
        count.index_add_(0, t.cpu() // 250, torch.ones(len(t)))
        if trainer.steps % every == 0 or trainer.steps == trainer.config.steps:
            line = {
                "step": trainer.steps,
                "seconds": round(trainer.elapsed, 1),
                "loss": round(seen / every, 5),
                "by_noise": [round(v, 5) for v in (by_noise / count.clamp(min=1)).tolist()],
            }
            log.info("%s", line)
            with checkpoint.with_suffix(".jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            seen, by_noise, count = 0.0, torch.zeros(4), torch.zeros(4)
            save_state(trainer.state(), checkpoint)
            if on_checkpoint is not None:
                on_checkpoint(trainer)
            last = time.monotonic()
