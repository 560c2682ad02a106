"""What a training run is asked to do: frozen settings and the published presets.

Every field carries its meaning and its edge cases below it; these texts are the manual.
The numbers of `paper` and `fast` are those of the published recipe (METHOD: section 4).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

Trained = Literal["embedding", "cross-attention", "unet"]
LayerChoice = Literal["all", "down", "middle", "up"]
Precision = Literal["auto", "fp32", "bf16"]
OptimizerName = Literal["AdamW", "AdamW 8-bit", "Prodigy", "AdamW schedule-free"]
Schedule = Literal["constant", "linear", "cosine"]
CategoryTie = Literal["last word", "first token"]
Augmentation = Literal["reference", "none"]
Checkpointing = Literal["auto", "off", "light", "full"]

STAGE_TRAINS: dict[int, Trained] = {1: "embedding", 2: "cross-attention", 3: "unet"}


def _require(condition: bool, field_name: str, value: object, remedy: str) -> None:
    if not condition:
        raise ValueError(f"{field_name} = {value!r}: {remedy}")


def _require_choice(field_name: str, value: object, choices: tuple[str, ...]) -> None:
    _require(value in choices, field_name, value, f"choose one of {', '.join(choices)}")


@dataclass(frozen=True, kw_only=True)
class Regularization:
    """Strength of the cross-attention map regulariser (paper, section 4.2)."""

    mean_weight: float = 2.0
    """lambda_mu: weight of the squared difference of the two columns' means. 0 leaves it out."""
    variance_weight: float = 5.0
    """lambda_sigma: weight of the squared difference of the two columns' variances."""
    layers: LayerChoice = "all"
    """Which cross-attention layers are tied. The loss is the mean over the chosen layers."""

    def __post_init__(self) -> None:
        _require(self.mean_weight >= 0, "mean_weight", self.mean_weight, "use 0 or more")
        _require(self.variance_weight >= 0, "variance_weight", self.variance_weight, "use >= 0")
        _require_choice("layers", self.layers, get_args(LayerChoice))

    @property
    def active(self) -> bool:
        """Whether the regulariser adds anything to the loss."""
        return self.mean_weight > 0 or self.variance_weight > 0


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """How gradients become updates. The defaults are the published recipe's."""

    learning_rate: float
    """Step size; the peak of a schedule. Prodigy finds its own: give it 1."""
    name: OptimizerName = "AdamW"
    """Published: AdamW. The others come from optional packages."""
    schedule: Schedule = "constant"
    """Course of the rate over the stage, after the warm-up."""
    warmup_steps: int = 0
    """Steps over which the rate rises from 0."""
    clip_norm: float = 0.0
    """Largest L2 norm of the whole gradient; 0 does not clip, as published."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the running means of the gradient and of its square."""
    eps: float = 1e-8
    """Added to the denominator."""
    weight_decay: float = 1e-2
    """Decoupled decay, applied to everything that is trained (the embedding included)."""

    def __post_init__(self) -> None:
        _require(self.learning_rate > 0, "learning_rate", self.learning_rate, "must be above 0")
        _require_choice("optimizer", self.name, get_args(OptimizerName))
        _require_choice("schedule", self.schedule, get_args(Schedule))
        _require(self.warmup_steps >= 0, "warmup_steps", self.warmup_steps, "use 0 or more")
        _require(self.clip_norm >= 0, "clip_norm", self.clip_norm, "use 0 or more")
        _require(self.eps > 0, "eps", self.eps, "must be above 0")
        _require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "use 0 or more")
        _require(
            len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas),
            "betas",
            self.betas,
            "two numbers in [0, 1)",
        )


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """How photos become training samples."""

    resolution: int = 512
    """Side of the square crop in pixels, a multiple of 8."""
    augmentation: Augmentation = "reference"
    """`reference`: rotation up to 45 degrees (p 0.75), flip (p 0.25), random crop, as published.
    `none`: resize and centre crop only."""
    mask_fill: bool = True
    """Leave the black corners that rotation makes out of the loss. The published code trains on
    them (about 27 % of a square photo's pixels)."""
    latent_pool: int = 0
    """Augmented latents kept per photo and drawn again; 0 encodes a new one for every sample, as
    published. With a pool the VAE runs `latent_pool` times per photo at most."""

    def __post_init__(self) -> None:
        _require(
            self.resolution >= 32 and self.resolution % 8 == 0,
            "resolution",
            self.resolution,
            "use a multiple of 8, at least 32",
        )
        _require_choice("augmentation", self.augmentation, get_args(Augmentation))
        _require(self.latent_pool >= 0, "latent_pool", self.latent_pool, "use 0 or more")


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """One stage of the recipe."""

    stage: int
    """1: embedding alignment, 2: attention map, 3: subject identity. Decides what is trained."""
    steps: int
    """Optimiser steps. 0 is legal and returns what the stage was given."""
    batch_size: int
    """Samples per step. The regulariser is summed over the batch, so its strength grows with it."""
    optimizer: OptimizerConfig
    """Rate and AdamW constants."""
    regularization: Regularization = field(default_factory=Regularization)
    """The regulariser of this stage."""
    data: DataConfig = field(default_factory=DataConfig)
    """How photos become samples."""
    micro_batch: int = 0
    """Samples per forward pass; gradients accumulate exactly. 0: the whole batch at once."""
    vectors: int = 1
    """Vectors of the placeholder token when stage 1 (or a stage without a concept) creates it."""
    precision: Precision = "auto"
    """Compute precision of the U-Net: weights stay fp32, `bf16` runs under autocast. `auto` is
    bf16 on a CUDA card that has it, fp32 elsewhere."""
    gradient_checkpointing: Checkpointing = "auto"
    """Compute activations again in the backward pass instead of keeping them: the same gradient to
    the bit, less memory, more time. `light` repeats what is cheap (norms, activation functions, the
    first half of the feed-forward), `full` whole blocks. `auto`: as much as the free memory asks
    for; where nobody knows what is free, `full` with low_memory and `off` without."""
    low_memory: bool = False
    """Train on a small card: frozen matrices in bf16, activations recomputed, and in stage 3 bf16
    weights and running means, rounded by chance, with the update inside the backward pass. Changes
    the result a little, as bf16 does."""
    compile: bool = False
    """Compile the U-Net's blocks with torch.compile; needs a C++ compiler (CPU) or Triton (CUDA),
    takes a minute or two at the start."""
    lora_rank: int = 0
    """Rank of a low-rank change in stages 2 and 3 (LoRA), for small cards and small files; 0 trains
    the weights themselves, as published. Biases and norms stay as they are with a rank."""
    ema_decay: float = 0.0
    """Decay of an exponential moving average of what is trained, which becomes the result; 0: the
    last weights, as published."""
    min_snr_gamma: float = 0.0
    """Min-SNR weighting of the denoising loss (Hang et al. 2023); 5 is usual, 0 off."""
    offset_noise: float = 0.0
    """Share of noise that is constant over each channel (0.05 to 0.1 is usual); 0 off."""
    seed: int = 0
    """Decides every draw of the stage: photo order, augmentation, noise and timesteps."""

    def __post_init__(self) -> None:
        _require(self.stage in STAGE_TRAINS, "stage", self.stage, "choose 1, 2 or 3")
        _require(self.steps >= 0, "steps", self.steps, "use 0 or more")
        _require(self.batch_size >= 1, "batch_size", self.batch_size, "use 1 or more")
        _require(self.micro_batch >= 0, "micro_batch", self.micro_batch, "use 0 or more")
        _require(self.vectors >= 1, "vectors", self.vectors, "use 1 or more")
        _require_choice("precision", self.precision, get_args(Precision))
        level = self.gradient_checkpointing
        _require_choice("gradient_checkpointing", level, get_args(Checkpointing))
        _require(self.lora_rank >= 0, "lora_rank", self.lora_rank, "use 0 or more")
        _require(0 <= self.ema_decay < 1, "ema_decay", self.ema_decay, "use 0 (off) to below 1")
        _require(self.min_snr_gamma >= 0, "min_snr_gamma", self.min_snr_gamma, "use 0 or more")
        _require(self.offset_noise >= 0, "offset_noise", self.offset_noise, "use 0 or more")
        if self.low_memory:
            _require(self.precision != "fp32", "precision", "fp32", "low_memory computes in bf16")
        if self.streams:
            name, clip = self.optimizer.name, self.optimizer.clip_norm
            own = "low_memory has its own AdamW in stage 3: "
            _require(name == "AdamW", "optimizer", name, own + "choose AdamW")
            _require(clip == 0, "clip_norm", clip, own + "it never has all gradients; use 0")
            _require(self.ema_decay == 0, "ema_decay", self.ema_decay, own + "use 0")

    @property
    def recomputes(self) -> Checkpointing:
        """How much is computed again: `off`, `light` or `full`."""
        if self.gradient_checkpointing != "auto":
            return self.gradient_checkpointing
        return "full" if self.low_memory else "off"

    @property
    def streams(self) -> bool:
        """Whether the update happens inside the backward pass, on bf16 weights."""
        return self.low_memory and self.trains == "unet" and not self.lora_rank

    @property
    def trains(self) -> Trained:
        """What the stage trains (paper, section 4.1)."""
        return STAGE_TRAINS[self.stage]

    def with_(self, **changes: Any) -> StageConfig:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON records."""
        return dataclasses.asdict(self)

    def decisive(self) -> dict[str, Any]:
        """`as_dict` of what decides the outcome: a training goes on in its run folder with another
        gradient_checkpointing."""
        decisive = self.as_dict()
        del decisive["gradient_checkpointing"]
        return decisive


Recipe = tuple[StageConfig, StageConfig, StageConfig]


def _stage(stage: int, steps: int, batch: int, rate: float, mean: float, var: float) -> StageConfig:
    return StageConfig(
        stage=stage,
        steps=steps,
        batch_size=batch,
        optimizer=OptimizerConfig(learning_rate=rate),
        regularization=Regularization(mean_weight=mean, variance_weight=var),
    )


def paper() -> Recipe:
    """The published recipe: 60 + 100 + 500 steps at batch 8."""
    return (
        _stage(1, 60, 8, 1e-3, 0.1, 0.0),
        _stage(2, 100, 8, 2e-5, 2.0, 5.0),
        _stage(3, 500, 8, 2e-6, 2.0, 5.0),
    )


def fast() -> Recipe:
    """The published fast recipe: stage 3 takes 200 steps at batch 4 and rate 1e-5."""
    first, second, _ = paper()
    return first, second, _stage(3, 200, 4, 1e-5, 2.0, 5.0)


def micro() -> Recipe:
    """For attndb-micro (64 px, 7 M): 120 + 100 + 300 steps at batch 4, rates found by measuring.

    On the concept hat-robot, 16 pictures in unseen scenes, micro CLIP identity / place / style:
    before 0.03 / 100 % / 100 %, after stage 1 0.11 / 100 / 100, stage 2 0.58 / 100 / 100, stage 3
    0.84 / 100 / 100. On an earlier checkpoint of the base, rates of 2e-2, 3e-4, 2e-4 lost scenes
    (place 94 %, style 88 %); a first stage of 60 steps at 5e-3 left its loss where it was.
    """
    data = DataConfig(resolution=64, augmentation="none")
    return (
        _stage(1, 120, 4, 1e-2, 0.1, 0.0).with_(data=data),
        _stage(2, 100, 4, 2e-4, 2.0, 5.0).with_(data=data),
        _stage(3, 300, 4, 1e-4, 2.0, 5.0).with_(data=data),
    )


PRESETS = {"paper": paper, "fast": fast, "micro": micro}
