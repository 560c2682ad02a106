"""train_stage: one stage of AttnDreamBooth on a private model.

Shapes: B batch, C latent channels or attention columns, Y X latent pixels, T tokens, D text width,
V placeholder vectors.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from .attention import CrossAttentionTap, choose_layers, cross_attention_layers
from .backend import Backend
from .batches import Batch, BatchSource
from .config import StageConfig
from .objective import denoising_loss, loss_normalizer
from .optim import create_optimizer
from .parameters import difference, trained_parameters
from .regularizer import attention_map_loss
from .tokens import TokenizedPrompt

log = logging.getLogger(__name__)


class TrainingDivergedError(RuntimeError):
    """The loss became NaN or infinite; the message says at which step and which part of it."""


@dataclass(frozen=True)
class StepLoss:
    """Loss of one step, measured before its update."""

    step: int
    """0-based."""
    denoising: float
    """L_diff."""
    regularization: float
    """L_reg, weights included."""

    @property
    def total(self) -> float:
        """L = L_diff + L_reg."""
        return self.denoising + self.regularization


Observer = Callable[[StepLoss], None]
"""Told of every finished step; may raise to stop the training."""


@dataclass(frozen=True)
class StageResult:
    """What a stage learned."""

    vectors: Tensor
    """The placeholder's embedding after the stage, fp32, on the CPU."""
    delta: dict[str, Tensor] = field(default_factory=dict)
    """Final minus initial value of every U-Net parameter the stage trained, fp32, on the CPU."""
    losses: tuple[StepLoss, ...] = ()
    """One per step."""


def train_stage(
    backend: Backend,
    batches: BatchSource,
    config: StageConfig,
    vectors: Tensor,
    observer: Observer | None = None,
) -> StageResult:
    """Trains one stage in place on the backend's private U-Net and returns what it learned.

    Stage 1 trains the vectors, stages 2 and 3 the U-Net. On any error the U-Net is left as it was
    at that moment: it is private, and its owner drops it.
    """
    training = StageTraining(backend, config, vectors)
    losses: list[StepLoss] = []
    with training:
        for step in range(config.steps):
            loss = training.step(step, batches[step])
            losses.append(loss)
            if observer is not None:
                observer(loss)
        return training.result(losses)


class StageTraining:
    """The state of one stage: parameters, optimiser, tap. A context manager."""

    def __init__(self, backend: Backend, config: StageConfig, vectors: Tensor) -> None:
        self.backend = backend
        self.config = config
        learns_vectors = config.trains == "embedding"
        vectors = vectors.detach().clone().float().to(backend.device)
        self.vectors = nn.Parameter(vectors, requires_grad=learns_vectors)
        self.parameters = trained_parameters(backend.unet, config.trains)
        self._base = {name: p.detach().to("cpu", copy=True) for name, p in self.parameters.items()}
        self.optimizer = create_optimizer(self.trainable, config.optimizer)
        layers = cross_attention_layers(backend.unet)
        self.tap = CrossAttentionTap(choose_layers(layers, config.regularization.layers))
        self._text: dict[TokenizedPrompt, Tensor] = {}

    @property
    def trainable(self) -> list[nn.Parameter]:
        """What the optimiser updates."""
        return [self.vectors] if self.vectors.requires_grad else list(self.parameters.values())

    def __enter__(self) -> StageTraining:
        self.backend.unet.requires_grad_(False)
        for parameter in self.trainable:
            parameter.requires_grad_(True)
        if self.config.regularization.active:
            self.tap.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.tap.__exit__()
        self.optimizer.zero_grad(set_to_none=True)
        self.backend.unet.requires_grad_(False)
        self._text.clear()

    def step(self, step: int, batch: Batch) -> StepLoss:
        """One optimiser step over a batch, in micro-batches that add up to it exactly."""
        size = self.config.micro_batch or len(batch)
        normalizer = loss_normalizer(batch.latents, batch.mask)
        parts = []
        for start in range(0, len(batch), size):
            denoising, regularization = self.loss(batch.part(start, start + size), normalizer)
            (denoising + regularization).backward()
            parts.append(torch.stack([denoising.detach(), regularization.detach()]))
        denoising, regularization = torch.stack(parts).double().sum(dim=0).tolist()
        loss = StepLoss(step, denoising, regularization)
        _check_finite(loss)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss

    def loss(self, batch: Batch, normalizer: float | None = None) -> tuple[Tensor, Tensor]:
        """L_diff and L_reg of a batch (METHOD: sections 1 and 3)."""
        backend, config, device = self.backend, self.config, self.backend.device
        z0_BCYX, noise_BCYX = batch.latents.to(device), batch.noise.to(device)
        t_B = batch.timesteps.to(device)
        mask_B1YX = None if batch.mask is None else batch.mask.to(device)
        context_BTD = self._context(batch)
        columns_BC = torch.tensor([prompt.columns for prompt in batch.prompts], device=device)
        z_t_BCYX = backend.diffusion.add_noise(z0_BCYX, noise_BCYX, t_B)
        with self.tap.watching(columns_BC) as statistics, self._autocast():
            prediction_BCYX = backend.predict(z_t_BCYX, t_B, context_BTD)
        target_BCYX = backend.diffusion.target(z0_BCYX, noise_BCYX, t_B)
        denoising = denoising_loss(prediction_BCYX, target_BCYX, mask_B1YX, normalizer)
        if not config.regularization.active:
            return denoising, denoising.new_zeros(())
        regularization = attention_map_loss(
            list(statistics.values()),
            config.regularization.mean_weight,
            config.regularization.variance_weight,
        )
        return denoising, regularization

    def result(self, losses: list[StepLoss]) -> StageResult:
        """What has been learned so far."""
        return StageResult(
            self.vectors.detach().float().cpu().clone(),
            difference(self.parameters, self._base),
            tuple(losses),
        )

    def _context(self, batch: Batch) -> Tensor:
        """Text states of the batch, (B, T, D): computed once where they do not change."""
        if self.vectors.requires_grad:
            unique = {
                prompt: self.backend.encode_text(prompt, self.vectors)
                for prompt in dict.fromkeys(batch.prompts)
            }
            return torch.cat([unique[prompt] for prompt in batch.prompts])
        for prompt in batch.prompts:
            if prompt not in self._text:
                with torch.no_grad():
                    self._text[prompt] = self.backend.encode_text(prompt, self.vectors)
        return torch.cat([self._text[prompt] for prompt in batch.prompts])

    def _autocast(self) -> AbstractContextManager[object]:
        device = self.backend.device.type
        wanted = self.config.precision
        if wanted == "auto":
            wanted = "bf16" if device == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
        return torch.autocast(device, dtype=torch.bfloat16) if wanted == "bf16" else nullcontext()


def _check_finite(loss: StepLoss) -> None:
    for part, value in (("denoising", loss.denoising), ("regularization", loss.regularization)):
        if not math.isfinite(value):
            raise TrainingDivergedError(
                f"step {loss.step + 1}: the {part} loss is {value}. Nothing was updated in this "
                "step. Lower the learning rate, or set precision to fp32"
            )
