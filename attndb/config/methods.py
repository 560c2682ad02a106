"""What settings and messages have to know of each method, and of what it trains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Literal, get_args

from .choices import OptimizerName, require

MethodName = Literal[
    "attndreambooth",
    "ti_dreambooth",
    "textual_inversion",
    "dreambooth",
    "custom_diffusion",
    "oft",
    "neti",
    "vico",
]
TrainedPart = Literal[
    "embedding",
    "mapper",
    "image attention",
    "cross-attention",
    "keys and values",
    "rotations",
    "unet",
]

TEXT_PARTS: frozenset[TrainedPart] = frozenset({"embedding", "mapper"})
"""What is trained in front of the text encoder: prompts without the placeholder learn nothing."""
NEEDS_WORD: frozenset[TrainedPart] = frozenset({*TEXT_PARTS, "image attention"})
"""What learns from prompts with the placeholder alone."""
NEEDS_PHOTO: frozenset[TrainedPart] = frozenset({"image attention"})
"""What looks at another photo of the subject, in training and while pictures are drawn."""
TEXT_BY_LAYER: frozenset[TrainedPart] = frozenset({"mapper"})
"""What gives each layer a text of its own."""
REPARAMETRIZED: frozenset[TrainedPart] = frozenset({"rotations"})
"""What makes weights of frozen ones at every use."""


@dataclass(frozen=True)
class Demand:
    """A setting that a method takes with some values alone."""

    setting: str
    """Where it is in the settings of a stage, e.g. `data.aspect_buckets`."""
    values: tuple[object, ...]
    """Those that it takes."""
    remedy: str
    named: str = ""
    """What messages call it; empty: the last part of `setting`."""

    def check(self, config: object) -> None:
        """ValueError unless the settings of a stage have it so."""
        value = attrgetter(self.setting)(config)
        name = self.named or self.setting.rpartition(".")[2]
        require(value in self.values, name, value, self.remedy)


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What settings and messages have to know of a method."""

    trains: Mapping[int, frozenset[TrainedPart]]
    """By stage (paper, section 4.1). A method of one stage calls it 1."""
    own: str = ""
    """The part of the settings that it alone has."""
    demands: tuple[Demand, ...] = ()
    """What it does not go with."""
    ties_maps: bool = False
    """Whether its regulariser ties the placeholder's map to that of the category behind it."""
    holds_to_base: bool = False
    """Whether what it trains can be held to the base model's weights and predictions."""
    without_prior: str = ""
    """Of a method that was published with pictures of the category: what is usual without."""

    @property
    def in_stages(self) -> bool:
        """Whether a stage is a part of it, and goes by its number."""
        return len(self.trains) > 1


TRAITS: Mapping[MethodName, Traits] = {
    "attndreambooth": Traits(
        trains={
            1: frozenset({"embedding"}),
            2: frozenset({"cross-attention"}),
            3: frozenset({"unet"}),
        },
        own="regularization",
        ties_maps=True,
        holds_to_base=True,
    ),
    "ti_dreambooth": Traits(trains={1: frozenset({"embedding", "unet"})}),
    "textual_inversion": Traits(trains={1: frozenset({"embedding"})}),
    "dreambooth": Traits(
        trains={1: frozenset({"unet"})},
        without_prior="fewer steps are",
    ),
    "custom_diffusion": Traits(
        trains={1: frozenset({"embedding", "keys and values"})},
        without_prior="half the rate is",
    ),
    "neti": Traits(
        trains={1: frozenset({"mapper"})},
        own="mapper",
        demands=(Demand("vectors", (1,), "NeTI's word is one token: use 1"),),
    ),
    "oft": Traits(
        trains={1: frozenset({"rotations"})},
        own="orthogonal",
        demands=(
            Demand("lora_rank", (0,), "OFT has its own change of the weights, in fp32: use 0"),
            Demand("low_memory", (False,), "OFT turns weights in fp32: use off"),
        ),
        without_prior="fewer steps are",
    ),
    "vico": Traits(
        trains={1: frozenset({"embedding", "image attention"})},
        own="image_attention",
        demands=(
            Demand("vectors", (1,), "ViCo's word is one token: use 1"),
            Demand(
                "data.aspect_buckets",
                (False,),
                "a photo and its reference image have one shape in ViCo: use off",
            ),
            Demand(
                "optimizer.name",
                tuple(name for name in get_args(OptimizerName) if name != "Prodigy"),
                "it takes one rate for all, and ViCo's blocks have their own: choose AdamW",
                named="optimizer",
            ),
        ),
    ),
}
"""A method's place in the settings: whatever else it needs is its own, in attndb/methods."""
