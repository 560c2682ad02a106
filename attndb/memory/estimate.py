"""What a stage will need of a device's memory, known before it starts.

What lasts (weights, optimiser) is counted from the settings. What a step adds for a while
(activations, gradients) is found by tracing one on the meta device (meta_trace.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor, nn

from ..config.choices import OptimizerName
from ..config.stage import StageConfig
from ..data.batch import Batch
from ..data.tokens import TokenizedText
from ..losses.totals import LossTotals
from ..methods.registry import method_of
from ..models.placement import shares_main_memory
from ..models.precision import computes_in_bf16
from ..models.protocol import Model
from ..training.adamw_in_backward import AdamWInBackward, update_bytes
from ..training.training import Training
from .meta_trace import META, MetaTrace, backward, unique_bytes

_BLOCK = 256
"""Values that share a scale in bitsandbytes' 8-bit states."""
_SMALL = 4096
"""bitsandbytes keeps the states of smaller parameters in fp32."""


@dataclass(frozen=True, kw_only=True)
class MemoryEstimate:
    """Bytes that a stage needs at its highest moment, by what they are for."""

    device: torch.device
    micro_batch: int
    """Samples at a time."""
    resident: int
    """In place before the first step. In main memory the U-Net and the text encoder in fp32; on a
    card with its own the U-Net as it is kept, and the text encoder, which may leave then."""
    weights: int
    """The U-Net as it is kept during the stage, and what is trained."""
    text_encoder: int = 0
    """Where it stays during the stage."""
    autoencoder: int = 0
    """The VAE, where it stays next to the U-Net."""
    set_aside: int = 0
    """Weights as they were, kept until the end, where that is in the same memory."""
    base: int = 0
    """The base's weights next to the trained ones, where these are held to them."""
    average: int = 0
    """Moving average of what is trained."""
    optimizer: int = 0
    gradients: int = 0
    """Of all that is trained; the largest alone where each is used up at once."""
    activations: int = 0
    """What a step needs beyond the gradients. Activations go while gradients come, so this is less
    than all activations where the whole batch is one part. Where encoding a photo before the step
    takes more than step and gradients, what it takes more than the gradients."""

    @property
    def parts(self) -> dict[str, int]:
        """What the training needs, by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)[3:]}

    @property
    def total(self) -> int:
        """All of it; at least what loading takes."""
        return max(sum(self.parts.values()), self.resident)

    @property
    def reserve(self) -> int:
        """Not counted above and left free. On the CPU 100 MB: libraries took 37 to 92 MB more than
        is counted (docs/memory.md). On a card 200 MB and 5 %, for workspaces and the gaps of
        PyTorch's allocator: a rule of thumb, not a measurement."""
        return 100_000_000 if self.device.type == "cpu" else 200_000_000 + self.total // 20

    def fits(self, free: int) -> bool:
        """Whether it goes into `free` bytes, with the reserve."""
        return self.total + self.reserve <= free

    def describe(self, free: int | None = None) -> str:
        """One line; `free` bytes on the device are named next to it."""
        unit, size = ("GB", 1e9) if self.total >= 1e9 else ("MB", 1e6)
        digits = 1 if unit == "GB" else 0
        parts = []
        for name, value in self.parts.items():
            if round(value / size, digits) > 0:
                name = name.replace("_", " ").replace("optimizer", "optimiser")
                parts.append(f"{name} {value / size:.{digits}f}")
        text = f"needs about {self.total / size:.{digits}f} {unit}"
        if self.total > sum(self.parts.values()):
            text += " to load, then less"
        text += f": {', '.join(parts)}"
        text += f" ({self.micro_batch} sample{'s' * (self.micro_batch > 1)} at a time)"
        if free is not None:
            text += f"; {free / size:.{digits}f} {unit} free on {self.device}"
        return text


@dataclass(frozen=True, kw_only=True)
class MemoryEstimator:
    """Estimates for one model, under any settings."""

    model: Model
    """Only read: neither its modules nor any random state is touched."""
    embeddings: Mapping[str, tuple[int, int]]
    """(V, D) of the placeholder's vectors, by text encoder."""
    prompts: tuple[TokenizedText, ...]
    """Of the training. Where the text encoder learns, each of a batch's takes memory of its own."""
    latent: tuple[int, int, int]
    """(C, Y, X) of one sample."""
    autoencoder: int = 0
    """Bytes of the VAE on the same device."""
    encoding: int = 0
    """Bytes that it takes there besides, to encode a photo before every step."""
    prior: bool = False
    """Whether prior samples follow every batch, in parts of their own."""

    @property
    def in_place(self) -> int:
        """Bytes of the model that are in its device's memory now: none where all of it waits in
        another."""
        device = self.model.device
        here = {device.type, "cpu"} if shares_main_memory(device) else {device.type}
        return unique_bytes(t for t in self._tensors() if t.device.type in here)

    def _tensors(self) -> Iterator[Tensor]:
        for module in (self.model.unet, *self.model.text_encoders.values()):
            yield from (*module.parameters(), *module.buffers())

    def __call__(self, config: StageConfig) -> MemoryEstimate:
        """What the stage needs on the model's device. About a second for a U-Net of SD 2.1."""
        device = self.model.device
        on_the_cpu, shared = device.type == "cpu", shares_main_memory(device)
        size = min(config.micro_batch or config.batch_size, config.batch_size)
        model = self.model.on_meta_device()
        encoders = list(model.text_encoders.values())
        modules = (model.unet, *encoders)
        before = {parameter: parameter.nbytes for m in modules for parameter in m.parameters()}
        text = [t for m in encoders for t in (*m.parameters(), *m.buffers())]
        with self._training(model, config) as training:
            trained = training.trainable
            weights = [*model.unet.parameters(), *model.unet.buffers(), *trained]
            bytes_trained = unique_bytes(trained)
            base = training.learner.base
            kept = base.tensors if base is not None else []
            with MetaTrace(device, [*weights, *text, *kept]) as trace:
                gradients = self._step(training, size)
            aside = sum(before[p] for p in before if not p.requires_grad and p.nbytes < before[p])
            if not config.lora_rank:
                aside += unique_bytes(p for p in trained if p in before)
            # with several prompts the encoder comes back for each that is new
            several = len(self.prompts) > 1 or config.prior_prediction > 0
            stays = shared or config.trains_text or several
            activations = max(0, trace.peak - gradients)
            if config.optimizer_in_backward:
                activations += update_bytes(trained)
            loaded = unique_bytes(weights) + unique_bytes(text)
            return MemoryEstimate(
                device=device,
                micro_batch=size,
                resident=unique_bytes(self._tensors()) if shared else loaded,
                weights=unique_bytes(weights),
                text_encoder=unique_bytes(text) if stays else 0,
                autoencoder=0 if shared else self.autoencoder,
                set_aside=aside if shared else 0,
                base=0 if base is None else base.bytes_held(on_the_cpu),
                average=bytes_trained if config.ema_decay else 0,
                optimizer=optimizer_bytes(trained, config.optimizer.name),
                gradients=gradients,
                # neither gradients nor activations are there yet when photos are encoded
                activations=max(activations, self.encoding - gradients),
            )

    def _training(self, model: Model, config: StageConfig) -> Training:
        """The stage on the meta device; optimiser and average are counted, not made."""
        bf16 = config.low_memory or computes_in_bf16(config.precision, self.model.device)
        config = config.with_(
            precision="bf16" if bf16 else "fp32",
            optimizer=replace(config.optimizer, name="AdamW"),
            ema_decay=0.0,
            compile=False,
        )
        start = {name: torch.empty(size, device=META) for name, size in self.embeddings.items()}
        return Training(model, method_of(config), start)

    def _step(self, training: Training, size: int) -> int:
        """A step there and back: its last micro-batch, or a whole batch and what follows it.
        Bytes of the gradients that are alive together."""
        if size < training.config.batch_size:
            return self._last_micro_batch(training, size)
        return self._whole_batch(training, size)

    def _last_micro_batch(self, training: Training, size: int) -> int:
        """It follows on the gradients of all those before it, which an update in the backward pass
        has waiting in fp32."""
        trained, waiting = training.trainable, []
        for parameter in trained:
            if isinstance(training.optimizer, AdamWInBackward):
                waiting.append(torch.empty(parameter.shape, dtype=torch.float32, device=META))
            else:
                parameter.grad = torch.empty_like(parameter)
        _backward(training, self._batch(size))
        return unique_bytes(waiting or trained)

    def _whole_batch(self, training: Training, size: int) -> int:
        """With its prior samples and what is kept by prediction, each onto the gradients before it.
        An update in the backward pass drops them, if nothing follows."""
        trained, config, batch = training.trainable, training.config, self._batch(size)
        parts = [batch]
        if self.prior and config.trains_denoiser:
            parts.append(replace(batch, is_prior=True))
        if config.prior_prediction:
            parts.append(batch.for_base())
        optimizer = training.optimizer
        in_backward = optimizer if isinstance(optimizer, AdamWInBackward) else None
        waits = len(parts) > 1 or config.weight_anchor > 0
        for number, part in enumerate(parts, start=1):
            if in_backward and waits:
                last = number == len(parts) and not config.weight_anchor
                in_backward.mode = "drop" if last else "gather"
            _backward(training, part)
        if not in_backward:
            return unique_bytes(trained)
        if waits:
            return sum(4 * parameter.numel() for parameter in trained)
        return max(parameter.nbytes for parameter in trained)

    def _batch(self, size: int) -> Batch:
        latents = torch.empty(size, *self.latent, device=META)
        timesteps = torch.empty(size, dtype=torch.int64, device=META)
        mask = torch.empty(size, 1, *self.latent[1:], device=META)
        prompts = tuple(self.prompts[i % len(self.prompts)] for i in range(size))
        noise = torch.empty_like(latents)
        sizes = torch.empty(size, 6, device=META) if self.model.reads_sizes else None
        drawn = (latents, noise, timesteps, prompts, mask)
        return Batch(*drawn, subject=mask, sizes=sizes, reference=torch.empty_like(latents))


def _backward(training: Training, part: Batch) -> None:
    backward(total_of(training.learner.losses(part, LossTotals(1.0, 1.0, 1.0))))


def total_of(shares: Mapping[str, Tensor]) -> Tensor:
    """The loss whose gradient a step takes."""
    return torch.stack(list(shares.values())).sum()


def optimizer_bytes(parameters: Sequence[nn.Parameter | Tensor], name: OptimizerName) -> int:
    """What an optimiser keeps of some parameters between steps (see the libraries' `state`)."""
    return sum(_state_bytes(parameter, name) for parameter in parameters)


def _state_bytes(parameter: Tensor, name: OptimizerName) -> int:
    size = parameter.numel() * parameter.element_size()
    if name == "AdamW":
        return 2 * size + 4  # two moments; the step as a scalar in fp32
    if name == "AdamW schedule-free":
        return 2 * size  # z and the second moment
    if name == "Prodigy":
        return 4 * size  # two moments, s and the starting point
    if parameter.numel() < _SMALL:
        return 2 * 4 * parameter.numel()
    return 2 * (parameter.numel() + 4 * -(-parameter.numel() // _BLOCK))  # 1 byte and block scales
