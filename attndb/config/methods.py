"""Which parts of the model each method trains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

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

TRAINED: Mapping[MethodName, Mapping[int, frozenset[TrainedPart]]] = {
    "attndreambooth": {
        1: frozenset({"embedding"}),
        2: frozenset({"cross-attention"}),
        3: frozenset({"unet"}),
    },
    "ti_dreambooth": {1: frozenset({"embedding", "unet"})},
    "textual_inversion": {1: frozenset({"embedding"})},
    "dreambooth": {1: frozenset({"unet"})},
    "custom_diffusion": {1: frozenset({"embedding", "keys and values"})},
    "oft": {1: frozenset({"rotations"})},
    "neti": {1: frozenset({"mapper"})},
    "vico": {1: frozenset({"embedding", "image attention"})},
}
"""By method and stage (paper, section 4.1). A method of one stage calls it 1."""

PUBLISHED_WITH_PRIOR: frozenset[MethodName] = frozenset({"dreambooth", "custom_diffusion", "oft"})
"""Methods whose published recipe trains on pictures of the category, too."""
