"""How NeTI's mapper is trained."""

from __future__ import annotations

from dataclasses import dataclass

from .choices import require


@dataclass(frozen=True, kw_only=True)
class MapperConfig:
    """The published choices of NeTI (Alaluf et al. 2023) that are worth changing."""

    bypass: bool = True
    """Textual bypass (section 4.2): a second vector is added behind the text encoder, for the
    values of cross-attention."""
    nested_dropout: float = 0.5
    """How often a layer's hidden values are cut off behind a random place (section 4.3), so that
    the first of them learn most; 0: never."""

    def __post_init__(self) -> None:
        share = self.nested_dropout
        require(0 <= share <= 1, "nested_dropout", share, "use 0 (never) to 1 (always)")
