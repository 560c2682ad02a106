"""ViCo's regulariser: the word looks where the prompt's end does (Hao et al. 2023, section 3.3).

Shapes: N reference images, P pixels.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor


def word_map_loss(layers: Iterable[Tensor]) -> Tensor:
    """sum_l MSE(A_V / max A_V, sg(A_EOT / max A_EOT)), mean over images and pixels: the attention
    of a reference's pixels to the word and to the end of the prompt, (N, P, 2), of each layer."""
    total = 0.0
    for maps_NP2 in layers:
        word_NP, end_NP = (maps_NP2 / maps_NP2.amax(dim=1, keepdim=True)).unbind(dim=2)
        total = total + (word_NP - end_NP.detach()).square().mean()
    assert isinstance(total, Tensor), "no layer"
    return total
