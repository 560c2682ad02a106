"""How orthogonal finetuning turns the weights of attention."""

from __future__ import annotations

from dataclasses import dataclass

from .choices import require


@dataclass(frozen=True, kw_only=True)
class OrthogonalConfig:
    """How orthogonal finetuning turns weights (Qiu et al. 2023)."""

    blocks: int = 4
    """r: the inputs of a layer are turned in that many groups, each by a rotation of its own."""
    constraint: float = 6e-5
    """epsilon of COFT: how far a rotation may go from none, next to its size; 0: OFT, as far as it
    will."""

    def __post_init__(self) -> None:
        require(self.blocks >= 1, "blocks", self.blocks, "use 1 or more")
        require(self.constraint >= 0, "constraint", self.constraint, "use 0 (no limit) or more")
