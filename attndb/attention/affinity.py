"""Affinity: which places of one picture belong together, by the model's self-attention.

Shapes: P pixels (queries and keys), E width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .recorder import word_maps


class Affinity:
    """Queries and keys of the finest self-attention that a model has, of one picture."""

    def __init__(self) -> None:
        self.size: tuple[int, int] | None = None
        """Height and width of the finest layers; None before one was seen."""
        self._layers: list[tuple[Tensor, Tensor, int]] = []

    def see(self, q_1PE: Tensor, k_1PE: Tensor, heads: int, size: tuple[int, int]) -> None:
        """Takes in one layer, unless a finer one was seen."""
        if len(q_1PE) != 1:
            raise ValueError(f"an affinity is of one picture, not of {len(q_1PE)}")
        places = 0 if self.size is None else self.size[0] * self.size[1]
        if size[0] * size[1] > places:
            self.size, self._layers = size, []
        if size == self.size:
            # kept until after the pass, in which what comes next may write to them
            self._layers.append((q_1PE.detach().clone(), k_1PE.detach().clone(), heads))

    def spread(self, map_YX: Tensor, times: int = 1) -> Tensor:
        """A^n m, of the map's own size, with A = softmax(Q K^T / sqrt(d)), the mean of all heads of
        the finest layers: a place is given what the places that it looks at have. The map as it is
        if no layer was seen.

        Source: DiffSegmenter (Wang et al. 2023, arXiv 2309.02773), which spreads cross-attention
        once by the self-attention of 64 x 64 places. A is never held as a whole.
        """
        if not self._layers:
            return map_YX
        heads = sum(count for _, _, count in self._layers)
        found_P1 = map_YX.float().reshape(-1, 1)
        for _ in range(times):
            total = torch.zeros_like(found_P1)
            for q_1PE, k_1PE, count in self._layers:
                looked = word_maps(q_1PE, k_1PE, count, found_P1.to(q_1PE.device))
                total += looked.reshape(-1, 1).to(total.device) * count
            found_P1 = total / heads
        return found_P1.reshape(map_YX.shape)
