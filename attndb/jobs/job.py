"""Job: one subject's training as a file asks for it, everything decided."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ..config.choices import CaptionSource, CategoryToken, MaskSource
from ..config.drawing import check_drawing, check_every, previewed
from ..config.stage import StageConfig
from ..data.dataset import DEFAULT_TEMPLATE
from ..data.prior import DEFAULT_PRIOR_PROMPT

MICRO = "micro"
"""The embedded model's name."""
SavedPrecision = Literal["as trained", "fp32", "fp16", "bf16"]
SavedMetadata = Literal["record", "for managers", "no photos"]


@dataclass(frozen=True, kw_only=True)
class LoRAChoice:
    """A LoRA in front of the training. As the stock node Load LoRA has it."""

    name: str
    """Of a file in models/loras."""
    strength: float = 1.0
    """Of what it changes in the diffusion model."""
    clip_strength: float | None = None
    """Of what it changes in the text encoders; None: `strength`."""
    line: int = field(default=1, compare=False)
    """Where the file says it."""


@dataclass(frozen=True, kw_only=True)
class ModelChoice:
    """What is trained on."""

    checkpoint: str
    """A name in models/checkpoints, or a path; MICRO: the embedded model."""
    vae: str = ""
    """A name in models/vae to use instead of the checkpoint's own."""
    loras: tuple[LoRAChoice, ...] = ()
    """Applied one after the other; what is trained is trained on top of them."""
    line: int = field(default=1, compare=False)
    """Where the file says it."""


@dataclass(frozen=True, kw_only=True)
class PhotoChoice:
    """The subject: its photos, and the words for it. As the node Load Concept Dataset has them."""

    folder: Path
    """Holds the photos; in a file absolute, or relative to the file."""
    category: str = ""
    """The super-category: the plain word for what the subject is."""
    placeholder: str = ""
    """The new word; empty: made from the folder's name."""
    template: str = DEFAULT_TEMPLATE
    """The training prompt, or several, one a line."""
    captions: CaptionSource = "template"
    """Whether text files beside the photos say what is on them."""
    trigger: str = ""
    """What the subject is called in plain ones."""
    masks: MaskSource = "none"
    """Where the subject is said."""
    background_weight: float = 0.0
    """What the pixels around the subject count."""
    private: bool = False
    """No names and no thumbnail of photos in saved files."""
    skip_broken: bool = False
    """Leave out what cannot be read."""


@dataclass(frozen=True, kw_only=True)
class PriorChoice:
    """Pictures of the category. As the node Add Prior Images has them."""

    folder: Path
    """Holds the pictures."""
    prompt: str = DEFAULT_PRIOR_PROMPT
    """What they show; {} becomes the category."""
    weight: float = 1.0
    """What they count next to the photos."""


@dataclass(frozen=True, kw_only=True)
class PreviewChoice:
    """Pictures during the training. As the node Training Preview has them."""

    prompt: str = "a photo of a {} on the beach"
    """What to draw, a picture a line; {} becomes placeholder and category, or the placeholder alone
    where it is learned so."""
    every: int = 50
    """Training steps between pictures."""
    steps: int = 20
    """Sampler steps."""
    cfg: float = 7.5
    """Guidance."""
    width: int = 512
    """Pixels."""
    height: int = 512
    """Pixels."""
    seed: int = 0
    """Of the sampler's noise."""
    attention_maps: bool = True
    """Also keep where the words look."""
    negative: str = ""
    """What the pictures should not show."""
    sampler_name: str = "dpmpp_2m"
    """One of ComfyUI's samplers."""
    scheduler: str = "normal"
    """One of its schedules of noise levels."""

    def __post_init__(self) -> None:
        previewed(self.prompt)
        check_drawing(
            steps=self.steps, cfg=self.cfg, width=self.width, height=self.height, seed=self.seed
        )
        check_every(self.every)


@dataclass(frozen=True, kw_only=True)
class SaveChoice:
    """Files of the concept. As the node Save Concept has them."""

    precision: SavedPrecision = "as trained"
    """Of the weight file."""
    metadata: SavedMetadata = "record"
    """What the files tell of the training."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One subject's training."""

    name: str
    """Its files are called so in models/embeddings and models/loras."""
    model: ModelChoice
    """What is trained on."""
    photos: PhotoChoice
    """The subject."""
    stages: tuple[StageConfig, ...]
    """What is trained, one after the other."""
    recipe: str = ""
    """The preset that the stages came from; empty: they are of a compared method."""
    prior: PriorChoice | None = None
    """Pictures of the category, if there are any."""
    preview: PreviewChoice | None = None
    """Pictures during the training, if they are wanted."""
    save: SaveChoice = SaveChoice()
    """How it is saved."""
    concept: str = ""
    """Name of a saved concept to go on from; empty: none."""
    category_tie: CategoryToken = "last word"
    """Which part of the category the placeholder starts from and is tied to."""
    checkpoint_every: int = 100
    """Steps between checkpoints; 0: only when it is stopped."""
    low_memory_if_needed: bool = True
    """Turn low_memory on where a stage would not fit without it."""
    keep_state: bool = False
    """Keep what a finished training needs to go on when steps is raised."""
    checkpoint_concepts: int = 0
    """Steps between concepts that are kept while it trains; 0: none."""
    kept_concepts: int = 5
    """How many of these stay for each stage."""
    line: int = field(default=1, compare=False)
    """Where the file begins to say it."""
    lines: dict[str, int] = field(default_factory=dict, compare=False)
    """Where it says some of it, by key."""
