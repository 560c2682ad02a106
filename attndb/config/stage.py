"""One stage of the recipe: every field carries its meaning and its edge cases below it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from .choices import Checkpointing, Precision, require, require_choice
from .data import DataConfig
from .image_attention import ImageAttentionConfig
from .mapper import MapperConfig
from .methods import (
    NEEDS_PHOTO,
    NEEDS_WORD,
    REPARAMETRIZED,
    TEXT_BY_LAYER,
    TEXT_PARTS,
    TRAITS,
    MethodName,
    TrainedPart,
    Traits,
)
from .optimizer import OptimizerConfig
from .orthogonal import OrthogonalConfig
from .regularization import Regularization
from .words import WordsConfig

RUNTIME_FIELDS = ("micro_batch", "gradient_checkpointing")
"""How a training runs, never what comes out of it: it goes on in its run folder when they change.
Everything else decides the outcome and is part of what a run is known by."""

_BEFORE: dict[str, Any] = {
    "words": dataclasses.asdict(WordsConfig()),
    "orthogonal": dataclasses.asdict(OrthogonalConfig()),
    "mapper": dataclasses.asdict(MapperConfig()),
    "image_attention": dataclasses.asdict(ImageAttentionConfig()),
    "weight_anchor": 0.0,
    "prior_prediction": 0.0,
    "regularization.inside_mask": False,
    "data.max_angle": 45.0,
    "data.flip": True,
    "data.random_crop": True,
    "data.keep_subject": False,
    "data.aspect_buckets": False,
}
"""Settings that came later, and what was done before them. Where they say just that they are left
out of records, so that what an earlier version recorded or began is the same run."""


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """One stage of the recipe. Every field decides the outcome, with all that it holds, and another
    value is another run, unless its text says Runtime."""

    stage: int
    """1: embedding alignment, 2: attention map, 3: subject identity. A method of one stage: 1."""
    steps: int
    """Optimiser steps. 0 is legal and returns what the stage was given."""
    batch_size: int
    """Samples per step. The regulariser is summed over the batch, so its strength grows with it."""
    optimizer: OptimizerConfig
    """Rate and AdamW constants."""
    method: MethodName = "attndreambooth"
    """The training method; with the stage it decides what is trained."""
    regularization: Regularization = field(default_factory=Regularization)
    """The regulariser of this stage."""
    data: DataConfig = field(default_factory=DataConfig)
    """How photos become samples."""
    micro_batch: int = 0
    """Samples per forward pass; gradients accumulate exactly. 0: the whole batch at once. Runtime:
    a run goes on with another one, equal to rounding, and its record says that it did."""
    vectors: int = 1
    """Vectors of the placeholder token when stage 1 (or a stage without a concept) creates it."""
    precision: Precision = "auto"
    """Compute precision of the U-Net: `bf16` runs under autocast, and what is trained stays fp32
    unless low_memory says otherwise. `auto` is bf16 on a CUDA GPU that has it, fp32 elsewhere."""
    gradient_checkpointing: Checkpointing = "auto"
    """Compute activations again in the backward pass instead of keeping them: the same gradient to
    the bit, less memory, more time. `light` repeats what is cheap (norms, activation functions, the
    first half of the feed-forward), `full` whole blocks. `auto`: as much as the free memory asks
    for; where nobody knows what is free, `full` with low_memory and `off` without. Runtime."""
    low_memory: bool = False
    """Train on a small GPU: frozen matrices in bf16, activations recomputed, and in stage 3 bf16
    weights and running means, rounded by chance, with the update inside the backward pass. Changes
    the result a little, as bf16 does, so another setting is another run."""
    compile: bool = False
    """Compile the U-Net's blocks with torch.compile; needs a C++ compiler (CPU) or Triton (CUDA),
    takes a minute or two at the start. Fuses operations, so another setting is another run."""
    lora_rank: int = 0
    """Rank of a low-rank change in stages 2 and 3 (LoRA), for small GPUs and small files; 0 trains
    the weights themselves, as published. Biases and norms stay as they are with a rank."""
    ema_decay: float = 0.0
    """Decay of an exponential moving average of what is trained, which becomes the result; 0: the
    last weights, as published."""
    min_snr_gamma: float = 0.0
    """Min-SNR weighting of the denoising loss (Hang et al. 2023); 5 is usual, 0 off."""
    offset_noise: float = 0.0
    """Share of noise that is constant over each channel (0.05 to 0.1 is usual); 0 off."""
    weight_anchor: float = 0.0
    """lambda of L += lambda sum_i ||theta_i - theta_i,base||^2 over the U-Net's trained weights: a
    pull towards the base model, without class images, in stages 2 and 3 of AttnDreamBooth. 0 off.
    Per unit of squared change, so it depends on the model (docs/formulas.md, Beyond the paper); 50
    to 175 were published for cross-attention."""
    prior_prediction: float = 0.0
    """w of L += w ||eps_theta(z_t, t, c) - eps_base(z_t, t, c)||^2 on the training's noisy latents,
    c its prompts without the placeholder (prior by prediction): what the base predicts for the
    plain category is kept, without class images, in stages 2 and 3. 0 off, 1 counts like the
    denoising loss. Takes the time of prior images, and a forward pass."""
    words: WordsConfig = field(default_factory=WordsConfig)
    """Training prompts, and what the placeholder begins as."""
    orthogonal: OrthogonalConfig = field(default_factory=OrthogonalConfig)
    """How OFT turns weights."""
    mapper: MapperConfig = field(default_factory=MapperConfig)
    """How NeTI's mapper is trained."""
    image_attention: ImageAttentionConfig = field(default_factory=ImageAttentionConfig)
    """How ViCo's image cross-attention is trained."""
    seed: int = 0
    """Decides every draw of the stage: photo order, augmentation, noise and timesteps."""

    def __post_init__(self) -> None:
        require_choice("method", self.method, get_args(MethodName))
        stages = self.traits.trains
        require(self.stage in stages, "stage", self.stage, f"choose {', '.join(map(str, stages))}")
        require(self.steps >= 0, "steps", self.steps, "use 0 or more")
        require(self.batch_size >= 1, "batch_size", self.batch_size, "use 1 or more")
        require(self.micro_batch >= 0, "micro_batch", self.micro_batch, "use 0 or more")
        require(self.vectors >= 1, "vectors", self.vectors, "use 1 or more")
        if self.words.initial:
            own = "the placeholder has a vector for every token of its initial word: use 1"
            require(self.vectors == 1, "vectors", self.vectors, own)
        require_choice("precision", self.precision, get_args(Precision))
        level = self.gradient_checkpointing
        require_choice("gradient_checkpointing", level, get_args(Checkpointing))
        require(self.lora_rank >= 0, "lora_rank", self.lora_rank, "use 0 or more")
        require(0 <= self.ema_decay < 1, "ema_decay", self.ema_decay, "use 0 (off) to below 1")
        require(self.min_snr_gamma >= 0, "min_snr_gamma", self.min_snr_gamma, "use 0 or more")
        require(self.offset_noise >= 0, "offset_noise", self.offset_noise, "use 0 or more")
        self._check_what_holds_to_the_base()
        self._check_words()
        for demand in self.traits.demands:
            demand.check(self)
        self._check_low_memory()

    def _check_what_holds_to_the_base(self) -> None:
        for name, weight in self.held_to_the_base.items():
            require(weight >= 0, name, weight, "use 0 (off) or more")
            has = self.traits.holds_to_base
            require(has or not weight, name, weight, f"{self.method} does not have it: use 0")
            what = f"stage {self.stage} trains no weights of the U-Net: use 0"
            require(self.trains_denoiser or not weight, name, weight, what)

    def _check_words(self) -> None:
        """The regulariser needs the category in every prompt."""
        if self.traits.ties_maps and self.regularization.active:
            words = {"templates": self.words.templates, "with_category": self.words.with_category}
            own = (
                "the placeholder's map is tied to that of the category behind it, whose place the "
                "dataset's prompts say: write the templates in the dataset and leave these out"
            )
            plain = not self.words.templates and self.words.with_category
            require(plain, "words", words, own)

    def _check_low_memory(self) -> None:
        if self.low_memory:
            require(self.precision != "fp32", "precision", "fp32", "low_memory computes in bf16")
        if self.optimizer_in_backward:
            name, clip = self.optimizer.name, self.optimizer.clip_norm
            own = "low_memory has its own AdamW in stage 3: "
            require(name == "AdamW", "optimizer", name, own + "choose AdamW")
            require(clip == 0, "clip_norm", clip, own + "it never has all gradients; use 0")
            require(self.ema_decay == 0, "ema_decay", self.ema_decay, own + "use 0")

    @property
    def held_to_the_base(self) -> dict[str, float]:
        """What keeps the category without class images, by name: weights of parts of the loss."""
        return {
            "prior_prediction": self.prior_prediction,
            "weight_anchor": self.weight_anchor,
        }

    @property
    def recomputes(self) -> Checkpointing:
        """How much is computed again: `off`, `light` or `full`."""
        if self.gradient_checkpointing != "auto":
            return self.gradient_checkpointing
        return "full" if self.low_memory else "off"

    @property
    def optimizer_in_backward(self) -> bool:
        """Whether the update happens inside the backward pass, on bf16 weights."""
        return self.low_memory and "unet" in self.trains and not self.lora_rank

    @property
    def reparametrized(self) -> bool:
        """Whether trained weights are made of frozen ones at every use."""
        return not self.trains.isdisjoint(REPARAMETRIZED)

    @property
    def needs_photo(self) -> bool:
        """Whether every sample comes with another photo of the subject, and a picture with one."""
        return not self.trains.isdisjoint(NEEDS_PHOTO)

    @property
    def text_by_layer(self) -> bool:
        """Whether each layer reads a text of its own."""
        return not self.trains.isdisjoint(TEXT_BY_LAYER)

    @property
    def traits(self) -> Traits:
        """What is known of the method."""
        return TRAITS[self.method]

    @property
    def trains(self) -> frozenset[TrainedPart]:
        """What the stage trains (paper, section 4.1)."""
        return self.traits.trains[self.stage]

    @property
    def trains_text(self) -> bool:
        """Whether every step runs through the text encoder."""
        return not self.trains.isdisjoint(TEXT_PARTS)

    @property
    def trains_denoiser(self) -> bool:
        """Whether prompts without the placeholder have something to teach."""
        return not self.trains <= NEEDS_WORD

    @property
    def unread(self) -> dict[str, str]:
        """Settings that decide nothing in this stage, by name, and why."""
        others = {t.own: name for name, t in TRAITS.items() if t.own and name != self.method}
        found = {own: f"{self.method} has none, {owner} has" for own, owner in others.items()}
        if not self.trains_denoiser:
            what = f"stage {self.stage}" if self.traits.in_stages else self.method
            found["lora_rank"] = f"{what} trains no weights of the U-Net"
        return found

    def with_(self, **changes: Any) -> StageConfig:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def with_low_memory(self) -> StageConfig | None:
        """A copy with low_memory; None where it is on already, or does not go with the rest."""
        if self.low_memory:
            return None
        try:
            return self.with_(low_memory=True)
        except ValueError:  # of the optimiser, clipping, the precision, the method
            return None

    def applicable(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """What there is a place for of changes that are meant for all stages of a training: stage 1
        trains no weights, so that what would hold them to the base is left out there."""
        leave_out = self.traits.in_stages and not self.trains_denoiser
        return {n: v for n, v in changes.items() if not leave_out or n not in self.held_to_the_base}

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON records. What came later is in it where it is not as it was before:
        a run that was begun by an earlier version goes on. An automatic pool is the size it is."""
        plain = dataclasses.asdict(self)
        plain["data"]["latent_pool"] = self.data.crops
        for path, before in _BEFORE.items():
            *part, name = path.split(".")
            owner = plain[part[0]] if part else plain
            if owner[name] == before:
                del owner[name]
        return plain

    def identity(self) -> dict[str, Any]:
        """`as_dict` of what decides the outcome: all but RUNTIME_FIELDS."""
        return {k: v for k, v in self.as_dict().items() if k not in RUNTIME_FIELDS}
