"""StageTraining: the parameters, optimiser and step of one stage.

Shapes: B batch, C latent channels or attention columns, Y X latent pixels, T tokens, D text width.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from .attention import CrossAttentionTap, choose_layers, cross_attention_layers
from .backend import Backend
from .batches import Batch
from .change import Change, flat
from .config import StageConfig
from .losses import StepLoss, TrainingDivergedError
from .objective import denoising_loss, loss_normalizer
from .optim import Average, create_optimizer, create_schedule
from .parameters import trained_weights
from .regularizer import attention_map_loss
from .tokens import TokenizedPrompt


@dataclass(frozen=True)
class StageResult:
    """What a stage learned."""

    vectors: Tensor
    """The placeholder's embedding after the stage, (V, D), fp32, on the CPU."""
    delta: dict[str, Change] = field(default_factory=dict)
    """Change of every U-Net parameter the stage trained, fp32, on the CPU."""
    losses: tuple[StepLoss, ...] = ()
    """One per step."""


class StageTraining:
    """The state of one stage: parameters, optimiser, tap. A context manager."""

    def __init__(self, backend: Backend, config: StageConfig, vectors: Tensor) -> None:
        self.backend = backend
        self.config = config
        self.micro_batch = config.micro_batch or config.batch_size
        self.settled = True
        """Whether weights and optimiser are those of a whole number of steps."""
        learns_vectors = config.trains == "embedding"
        vectors = vectors.detach().clone().float().to(backend.device)
        self.vectors = nn.Parameter(vectors, requires_grad=learns_vectors)
        self._weights = trained_weights(backend.unet, config)
        self.parameters = self._weights.parameters
        self.optimizer = create_optimizer(self.trainable, config.optimizer)
        self.schedule = create_schedule(self.optimizer, config.optimizer, config.steps)
        self.average = Average(self.trainable, config.ema_decay) if config.ema_decay else None
        layers = cross_attention_layers(backend.unet)
        self.tap = CrossAttentionTap(choose_layers(layers, config.regularization.layers))
        self._text: dict[TokenizedPrompt, Tensor] = {}

    @property
    def trainable(self) -> list[nn.Parameter]:
        """What the optimiser updates."""
        return [self.vectors] if self.vectors.requires_grad else list(self.parameters.values())

    def __enter__(self) -> StageTraining:
        if self.config.gradient_checkpointing:
            self.backend.checkpoint_activations()
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
        self._weights.release()
        self._text.clear()

    def step(self, step: int, batch: Batch) -> StepLoss:
        """One optimiser step over a batch, in micro-batches that add up to it exactly."""
        size = min(self.micro_batch, len(batch))
        normalizer = loss_normalizer(batch.latents, batch.mask)
        parts = []
        for start in range(0, len(batch), size):
            denoising, regularization = self.loss(batch.part(start, start + size), normalizer)
            (denoising + regularization).backward()
            parts.append(torch.stack([denoising.detach(), regularization.detach()]))
        self.tap.rest()
        denoising, regularization = torch.stack(parts).double().sum(dim=0).tolist()
        loss = StepLoss(step, denoising, regularization)
        loss.check_finite()
        if self.config.optimizer.clip_norm:
            nn.utils.clip_grad_norm_(self.trainable, self.config.optimizer.clip_norm)
        self.settled = False
        self.optimizer.step()
        if self.schedule is not None:
            self.schedule.step()
        if self.average is not None:
            self.average.update()
        self.optimizer.zero_grad(set_to_none=True)
        return loss

    def after_out_of_memory(self) -> int:
        """Halves the micro-batch and forgets the step's gradients; the new size.

        ValueError if a single sample did not fit either.
        """
        self.optimizer.zero_grad(set_to_none=True)
        if not self.settled:
            raise ValueError(
                "out of memory in the optimiser's update: turn on a LoRA rank or an 8-bit "
                "optimizer in Training Options; queue again to go on from the last checkpoint"
            )
        if self.micro_batch == 1:
            raise ValueError(
                "out of memory with one sample at a time: lower the resolution, turn on "
                "gradient_checkpointing, or close what else uses the card"
            )
        self.micro_batch = (self.micro_batch + 1) // 2
        return self.micro_batch

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
        weights_B = None
        if config.min_snr_gamma:
            weights_B = backend.diffusion.min_snr_weights(t_B, config.min_snr_gamma)
        denoising = denoising_loss(prediction_BCYX, target_BCYX, mask_B1YX, normalizer, weights_B)
        if not config.regularization.active:
            return denoising, denoising.new_zeros(())
        regularization = attention_map_loss(
            list(statistics.values()),
            config.regularization.mean_weight,
            config.regularization.variance_weight,
        )
        return denoising, regularization

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What a checkpoint has to hold: tensors by name, and plain data for JSON."""
        named = {"vectors": self.vectors} if self.vectors.requires_grad else self.parameters
        tensors = {f"trained.{name}": value.detach() for name, value in named.items()}
        optimizer = self.optimizer.state_dict()
        plain: dict[str, dict[str, Any]] = {}
        for index, entries in optimizer["state"].items():
            for key, value in entries.items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer.{index}.{key}"] = value.detach()
                else:
                    plain.setdefault(str(index), {})[key] = value
        if self.average is not None:
            for index, value in enumerate(self.average.values):
                tensors[f"average.{index}"] = value
        schedule = None if self.schedule is None else self.schedule.state_dict()
        groups = optimizer["param_groups"]
        return tensors, {"state": plain, "param_groups": groups, "schedule": schedule}

    def restore(self, tensors: Mapping[str, Tensor], plain: Mapping[str, Any]) -> None:
        """Puts back what `state` gave. ValueError if it is of another training."""
        named = {"vectors": self.vectors} if self.vectors.requires_grad else self.parameters
        theirs = {key.removeprefix("trained.") for key in tensors if key.startswith("trained.")}
        if theirs != set(named):
            raise ValueError("the checkpoint is of another stage or model")
        with torch.no_grad():
            for name, value in named.items():
                value.copy_(tensors[f"trained.{name}"])
        state: dict[int, dict[str, Any]] = {
            int(index): dict(entries) for index, entries in plain["state"].items()
        }
        for key, value in tensors.items():
            if key.startswith("optimizer."):
                _, index, name = key.split(".", 2)
                state.setdefault(int(index), {})[name] = value
        self.optimizer.load_state_dict({"state": state, "param_groups": plain["param_groups"]})
        if self.schedule is not None:
            self.schedule.load_state_dict(plain["schedule"])
        if self.average is not None:
            for index, value in enumerate(self.average.values):
                value.copy_(tensors[f"average.{index}"])

    def result(self, losses: list[StepLoss]) -> StageResult:
        """What the finished stage learned: the average if there is one, else the last weights.
        TrainingDivergedError if a value of it is not finite: the last update has no later loss that
        would tell."""
        if hasattr(self.optimizer, "eval"):  # schedule-free keeps two sets of weights
            self.optimizer.eval()  # type: ignore[operator]
        if self.average is not None:
            self.average.copy_to_parameters()
        vectors = self.vectors.detach().float().cpu().clone()
        delta = self._weights.change()
        for name, value in {"the embedding": vectors, **flat(delta)}.items():
            if not bool(value.isfinite().all()):
                raise TrainingDivergedError(
                    f"after step {len(losses)}: {name} is not finite, so the stage gives nothing. "
                    "Lower the learning rate, or set precision to fp32"
                )
        return StageResult(vectors, delta, tuple(losses))

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
