"""StageTraining: the parameters, optimiser and step of one stage.

Shapes: B batch, C latent channels or attention columns, Y X latent pixels, T tokens, D text width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..artifacts.weight_delta import WeightDelta, delta_tensors
from ..attention.tap import CrossAttentionTap
from ..config.choices import Checkpointing
from ..config.stage import StageConfig
from ..data.batch import Batch
from ..data.tokens import TokenizedText
from ..losses.attention_map import attention_map_loss
from ..losses.denoising import denoising_loss, loss_normalizer
from ..methods.trained_weights import trained_weights
from ..models.cross_attention import choose_layers, cross_attention_layers
from ..models.precision import FrozenInBf16, autocast, computes_in_bf16
from ..models.protocol import Model
from .adamw_in_backward import AdamWInBackward
from .ema import EMA
from .optimizers import create_optimizer, create_schedule
from .step_loss import PendingLoss, StepLoss, TrainingDivergedError


@dataclass(frozen=True)
class StageResult:
    """What a stage learned."""

    vectors: Tensor
    """The placeholder's embedding after the stage, (V, D), fp32, on the CPU."""
    delta: dict[str, WeightDelta] = field(default_factory=dict)
    """Change of every U-Net parameter the stage trained, fp32, on the CPU."""
    losses: tuple[StepLoss, ...] = ()
    """One per step."""


class StageTraining:
    """The state of one stage: parameters, optimiser, tap. A context manager."""

    def __init__(self, backend: Model, config: StageConfig, vectors: Tensor) -> None:
        self.backend = backend
        self.config = config
        self.micro_batch = config.micro_batch or config.batch_size
        self.recomputes: Checkpointing = config.recomputes
        self.settled = True
        """Whether weights and optimiser are those of a whole number of steps."""
        self._rehearsed = 0
        self._entered = ExitStack()
        learns_vectors = config.trains == "embedding"
        vectors = vectors.detach().clone().float().to(backend.device)
        self.vectors = nn.Parameter(vectors, requires_grad=learns_vectors)
        self._weights = trained_weights(backend.unet, config)
        self.parameters = self._weights.parameters
        self.optimizer = create_optimizer(self.trainable, config)
        self.schedule = create_schedule(self.optimizer, config.optimizer, config.steps)
        self.average = EMA(self.trainable, config.ema_decay) if config.ema_decay else None
        self.diffusion = backend.diffusion.to(backend.device)
        self.bf16 = config.low_memory or computes_in_bf16(config.precision, backend.device)
        layers = cross_attention_layers(backend.unet)
        self.tap = CrossAttentionTap(choose_layers(layers, config.regularization.layers))
        self._text: dict[TokenizedText, Tensor] = {}
        self._tied: dict[tuple[tuple[int, ...], ...], Tensor] = {}

    @property
    def trainable(self) -> list[nn.Parameter]:
        """What the optimiser updates."""
        return [self.vectors] if self.vectors.requires_grad else list(self.parameters.values())

    def __enter__(self) -> StageTraining:
        with ExitStack() as entered:
            entered.callback(self._leave)
            if self.recomputes != "off":
                self.backend.checkpoint_activations(self.recomputes)
            if self.config.compile:
                entered.enter_context(_every_shape_compiled())
                self.backend.compile_blocks()
            self.backend.unet.requires_grad_(False)
            for parameter in self.trainable:
                parameter.requires_grad_(True)
            if self.bf16 and (self.config.low_memory or not self.config.lora_rank):
                learns = self.vectors.requires_grad  # through the text encoder
                computing = [self.backend.text_model] if learns else []
                entered.enter_context(FrozenInBf16(self.backend.unet, *computing))
            if isinstance(self.optimizer, AdamWInBackward):
                entered.enter_context(self.optimizer)
            if self.config.regularization.active:
                entered.enter_context(self.tap)
            self._entered = entered.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._entered.close()

    def _leave(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.backend.unet.requires_grad_(False)
        self._weights.release()
        self._text.clear()

    def step(self, step: int, batch: Batch) -> StepLoss:
        """`launch`, and its loss."""
        return self.launch(step, batch).read()

    def launch(self, step: int, batch: Batch) -> PendingLoss:
        """One optimiser step over a batch and its prior samples, in micro-batches that add up to
        them exactly.

        On a card this only queues the work: the loss is on its way. On the CPU a loss that is not
        finite raises before it is learned.
        """
        streamed = isinstance(self.optimizer, AdamWInBackward)
        if streamed and self._rehearsed != self.micro_batch:
            self._rehearse(batch)
        loss = self._gradients(step, batch)
        if not streamed:
            if self.backend.device.type == "cpu":
                loss.read()
            self.settled = False
        if self.config.optimizer.clip_norm:
            nn.utils.clip_grad_norm_(self.trainable, self.config.optimizer.clip_norm)
        self.optimizer.step()
        if self.schedule is not None:
            self.schedule.step()
        if self.average is not None:
            self.average.update()
        self.optimizer.zero_grad(set_to_none=True)
        return loss

    def _gradients(self, step: int, batch: Batch) -> PendingLoss:
        """Gradients of a batch; with a streamed optimiser the update itself."""
        parts: list[Tensor] = []
        for loss, last in self._losses(batch):
            parts.append(loss.detach())
            if isinstance(self.optimizer, AdamWInBackward) and self.optimizer.mode != "drop":
                self.optimizer.mode = "gather"
                if last:  # updates as it goes: no way back from here
                    PendingLoss(step, torch.stack(parts)).read()
                    self.optimizer.mode, self.settled = "update", False
            loss.sum().backward()
        return PendingLoss(step, torch.stack(parts))

    def _losses(self, batch: Batch) -> Iterator[tuple[Tensor, bool]]:
        """For each micro-batch the parts of its loss, (3,), and whether it is the last: L_diff,
        L_reg, and the weighted L_diff of prior samples (DreamBooth: Ruiz et al. 2022, section 3.2).

        Prior samples come last, with the tap at rest: their prompt has no placeholder whose map
        could be tied.
        """
        normalizer = loss_normalizer(batch.latents, batch.mask)
        batch = batch.to(self.backend.device)
        none = torch.zeros((), device=self.backend.device)
        prior = [] if batch.prior is None else list(batch.prior.parts(self.micro_batch))
        assert not (prior and self.vectors.requires_grad), "no gradient in the embedding"
        left = -(-len(batch) // self.micro_batch) + len(prior)
        for part in batch.parts(self.micro_batch):
            left -= 1
            denoising, regularization = self.loss(part, normalizer)
            yield torch.stack([denoising, regularization, none]), left == 0
        self.tap.rest()
        normalizer = sum(part.latents.numel() for part in prior)
        for part in prior:
            left -= 1
            denoising = batch.prior_weight * self.denoising(part, normalizer)
            yield torch.stack([none, none, denoising]), left == 0

    def _rehearse(self, batch: Batch) -> None:
        """A backward pass that changes nothing: running out of memory is harmless in it, and is not
        in one that updates as it goes."""
        assert isinstance(self.optimizer, AdamWInBackward)
        self.optimizer.mode = "drop"
        self._gradients(0, batch)
        self.optimizer.mode = "gather"
        self._rehearsed = self.micro_batch

    def after_out_of_memory(self) -> str:
        """Forgets the step's gradients and halves the micro-batch; after a single sample, all
        activations are recomputed from now on. What was done, for the log.

        ValueError if there is nothing left to do.
        """
        self.optimizer.zero_grad(set_to_none=True)
        if not self.settled:
            raise ValueError(
                "out of memory in the optimiser's update: turn on low_memory, a LoRA rank or an "
                "8-bit optimizer in Training Options; queue again to go on from the last checkpoint"
            )
        if self.micro_batch > 1:
            self.micro_batch = (self.micro_batch + 1) // 2
            return f"micro-batch is now {self.micro_batch}"
        if self.recomputes != "full" and not self.config.compile:
            self.recomputes = "full"
            self.backend.checkpoint_activations(self.recomputes)
            return "gradient_checkpointing is now full"
        raise ValueError(
            "out of memory with one sample at a time and gradient checkpointing: turn on "
            "low_memory or set a lora_rank in Training Options, lower the resolution, or close "
            "what else uses the card"
        )

    def predict(self, z_t: Tensor, t: Tensor, context: Tensor) -> Tensor:
        """The U-Net's output in the stage's precision, (B, C, Y, X)."""
        with autocast(self.backend.device, self.bf16):
            return self.backend.predict(z_t, t, context)

    def loss(self, batch: Batch, normalizer: float | None = None) -> tuple[Tensor, Tensor]:
        """L_diff and L_reg of a batch on the device (METHOD: sections 1 and 3)."""
        weights = self.config.regularization
        with self.tap.watching(self._columns(batch)) as statistics:
            denoising = self.denoising(batch, normalizer)
        if not weights.active:
            return denoising, denoising.new_zeros(())
        layers = list(statistics.values())
        return denoising, attention_map_loss(layers, weights.mean_weight, weights.variance_weight)

    def denoising(self, batch: Batch, normalizer: float | None = None) -> Tensor:
        """L_diff of a batch on the device (METHOD: section 1)."""
        config, diffusion = self.config, self.diffusion
        z0_BCYX, noise_BCYX, t_B = batch.latents, batch.noise, batch.timesteps
        context_BTD = self._context(batch)
        z_t_BCYX = diffusion.add_noise(z0_BCYX, noise_BCYX, t_B)
        prediction_BCYX = self.predict(z_t_BCYX, t_B, context_BTD)
        target_BCYX = diffusion.target(z0_BCYX, noise_BCYX, t_B)
        weights_B = None
        if config.min_snr_gamma:
            weights_B = diffusion.min_snr_weights(t_B, config.min_snr_gamma)
        return denoising_loss(prediction_BCYX, target_BCYX, batch.mask, normalizer, weights_B)

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
        for name, value in {"the embedding": vectors, **delta_tensors(delta)}.items():
            if not bool(value.isfinite().all()):
                raise TrainingDivergedError(
                    f"after step {len(losses)}: {name} is not finite, so the stage gives nothing. "
                    "Lower the learning rate, or set precision to fp32"
                )
        return StageResult(vectors, delta, tuple(losses))

    def _context(self, batch: Batch) -> Tensor:
        """Text states of the batch, (B, T, D): computed once where they do not change."""
        if self.vectors.requires_grad:
            with autocast(self.backend.device, self.bf16):
                unique = {
                    prompt: self.backend.encode_text(prompt, self.vectors)
                    for prompt in dict.fromkeys(batch.prompts)
                }
            return torch.cat([unique[prompt] for prompt in batch.prompts])
        for prompt in batch.prompts:
            if prompt not in self._text:
                with torch.no_grad():
                    self._text[prompt] = self.backend.encode_text(prompt, self.vectors)
                self.backend.offload_text_encoder()
        return torch.cat([self._text[prompt] for prompt in batch.prompts])

    def _columns(self, batch: Batch) -> Tensor:
        """(B, C) token columns of the placeholder and, last, the category."""
        key = tuple(prompt.columns for prompt in batch.prompts)
        if key not in self._tied:
            self._tied[key] = torch.tensor(key, device=self.backend.device)
        return self._tied[key]


def _every_shape_compiled() -> AbstractContextManager[object]:
    """torch.compile gives a function up after 8 shapes, and a U-Net's blocks come in more."""
    import torch._dynamo  # takes a second, and most trainings do without

    return torch._dynamo.config.patch(recompile_limit=256)
