"""How ViCo's image cross-attention is trained."""

from __future__ import annotations

from dataclasses import dataclass

from .choices import require


@dataclass(frozen=True, kw_only=True)
class ImageAttentionConfig:
    """The published choices of ViCo (Hao et al. 2023) that are worth changing."""

    learning_rate: float = 1e-5
    """Of the image cross-attention blocks; the embedding has the training's own rate."""
    map_weight: float = 5e-4
    """lambda of the regulariser: how much the map of the word, on the reference image, is drawn to
    that of the prompt's end (section 3.3); 0: not."""

    def __post_init__(self) -> None:
        rate, weight = self.learning_rate, self.map_weight
        require(rate > 0, "image_learning_rate", rate, "must be above 0")
        require(weight >= 0, "map_weight", weight, "use 0 (off) or more")
