"""Step one of the training: the autoencoder, on scenes of mostly random subjects."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ..attndb.artifacts.tensor_file import write_whole
from .autoencoder import Autoencoder
from .layout import channels_last
from .muon import Muon
from .stock import to_model_range

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class CoderConfig:
    """Settings of the autoencoder's training; recorded in the weights file."""

    steps: int = 1500
    batch: int = 24
    crop: int = 64  # px
    rate: float = 1e-3  # peak; warm-up of 50 steps, then a cosine to zero
    noise: float = 0.15  # most noise on the latents, whose channels have a mean square of 1
    square: float = 3.0  # weight of the mean square error beside the mean absolute one
    gradient: float = 0.25  # weight of the loss on differences of neighbours
    freeze: float = 0.8  # share of the steps after which encoder and statistics stay as they are
    seed: int = 0
    checkpoint_every: int = 100


def _crops(pictures: NDArray[np.uint8], config: CoderConfig, rng: np.random.Generator) -> Tensor:
    """A batch (B, 3, crop, crop) on the latent grid, from where subjects stand.

    The few backgrounds are soon learned; the subjects are what the gate asks about.
    """
    index = np.sort(rng.integers(len(pictures), size=config.batch))
    room = (pictures.shape[1] - config.crop) // 8  # cells that a crop can move
    top = rng.integers(min(1, room), room + 1, size=config.batch) * 8
    left = rng.integers(0, room + 1, size=config.batch) * 8
    at = np.stack([top, left], axis=1)
    patches = [
        pictures[i, y : y + config.crop, x : x + config.crop]
        for i, (y, x) in zip(index, at, strict=True)
    ]
    return to_model_range(np.stack(patches)).contiguous(memory_format=torch.channels_last)


def coder_loss(y: Tensor, x: Tensor, square: float, gradient: float) -> Tensor:
    """L1, weighed MSE, and weighed L1 of the differences to the right and lower neighbours."""
    dy = (y - x).diff(dim=2).abs().mean() + (y - x).diff(dim=3).abs().mean()
    return F.l1_loss(y, x) + square * F.mse_loss(y, x) + gradient * dy


class CoderTrainer:
    """Owns the autoencoder and its optimisers."""

    def __init__(self, config: CoderConfig, pictures: NDArray[np.uint8]) -> None:
        torch.manual_seed(config.seed)
        self.config, self.pictures = config, pictures
        self.model = Autoencoder()
        self.model.start_from_components(to_model_range(pictures[:1500]))
        channels_last(self.model)
        named = dict(self.model.named_parameters())
        hidden = {
            name: p
            for name, p in named.items()
            if p.ndim == 4 and name.startswith(("encoder.", "decoder."))
        }
        self.convolutions = list(hidden.values())
        self.others = [p for name, p in named.items() if name not in hidden]
        self.optimizers = [
            Muon(self.convolutions, weight_decay=0.01, ns_steps=4),
            torch.optim.AdamW(self.others, betas=(0.9, 0.98), weight_decay=0.0),
        ]
        self.steps, self.elapsed = 0, 0.0

    def _set_rate(self) -> None:
        c, done = self.config, self.steps / self.config.steps
        rate = c.rate * min(1, (self.steps + 1) / 50) * 0.5 * (1 + np.cos(np.pi * min(done, 1)))
        for optimizer, factor in zip(self.optimizers, (1.0, 0.5), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = float(rate) * factor + 1e-7

    def step(self) -> tuple[float, float]:
        """One update; gives the loss and the mean square error (range -1..1)."""
        c, model = self.config, self.model
        rng = np.random.default_rng((c.seed, 5, self.steps))
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        self._set_rate()
        x = _crops(self.pictures, c, rng)
        frozen = self.steps >= c.freeze * c.steps
        model.train(not frozen)
        with torch.set_grad_enabled(not frozen):
            z = model.encode(x)
        level = c.noise * torch.rand(len(x), 1, 1, 1, generator=generator)
        y = model.decode(z + level * torch.randn(z.shape, generator=generator))
        loss = coder_loss(y, x, c.square, c.gradient)
        loss.backward()
        updated = [p for p in [*self.convolutions, *self.others] if p.grad is not None]
        nn.utils.clip_grad_norm_(updated, 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.steps += 1
        return float(loss.detach()), float(F.mse_loss(y.detach(), x))

    def state(self) -> dict:
        return {
            "model": self.model.state_dict(),
            "optimizers": [o.state_dict() for o in self.optimizers],
            "steps": self.steps,
            "elapsed": self.elapsed,
        }

    def load(self, state: dict) -> None:
        self.model.load_state_dict(state["model"])
        for optimizer, stored in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(stored)
        self.steps, self.elapsed = state["steps"], state["elapsed"]


def save_state(state: dict, path: Path) -> None:
    """Write a checkpoint in one move."""
    write_whole({path: lambda file: torch.save(state, file)})


def train_coder(trainer: CoderTrainer, checkpoint: Path) -> None:
    """Train to the last step, going on from `checkpoint` where it exists."""
    if checkpoint.exists():
        trainer.load(torch.load(checkpoint, weights_only=True))
        log.info("resumed at step %d", trainer.steps)
    last, errors = time.monotonic(), []
    while trainer.steps < trainer.config.steps:
        loss, error = trainer.step()
        errors.append(error)
        now = time.monotonic()
        trainer.elapsed, last = trainer.elapsed + now - last, now
        if trainer.steps % trainer.config.checkpoint_every == 0:
            decibel = -10 * np.log10(np.mean(errors) / 4)
            log.info(
                "autoencoder step %d, %.1f min: loss %.4f, %.2f dB",
                *(trainer.steps, trainer.elapsed / 60, loss, decibel),
            )
            errors = []
            save_state(trainer.state(), checkpoint)
    save_state(trainer.state(), checkpoint)
    trainer.model.eval()
