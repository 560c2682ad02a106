"""The denoising loss (docs/formulas.md, The denoising loss).

Shapes: B batch, C latent channels, Y X latent pixels.
"""

from __future__ import annotations

from torch import Tensor


def denoising_loss(
    prediction: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    normalizer: float | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """Mean squared error in fp32 over samples, channels and pixels.

    With a mask (weights in 0..1) the mean is over the pixels that count. `normalizer` is the
    number of counted values of the *whole* batch, so that micro-batches add up to the loss of the
    batch: sum over micro-batches of this = the loss of all of them at once. `weights` (B,) scale
    the samples.
    """
    error_BCYX = (prediction.float() - target.float()).square()
    if mask is not None:
        error_BCYX = error_BCYX * mask
    if weights is not None:
        error_BCYX = error_BCYX * weights[:, None, None, None]
    if normalizer is None:
        normalizer = loss_normalizer(target, mask)
    return error_BCYX.sum() / normalizer


def loss_normalizer(target: Tensor, mask: Tensor | None) -> float:
    """How many values the denoising loss of this batch averages over; at least 1."""
    return max(counted_values(target, mask), 1.0)


def counted_values(target: Tensor, mask: Tensor | None) -> float:
    """How many values of these samples count in the denoising loss; 0 where a mask hides all."""
    if mask is None:
        return float(target.numel())
    return float(mask.double().sum()) * target.shape[1]
