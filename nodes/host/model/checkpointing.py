"""Gradient checkpointing of a private U-Net: what its backward pass computes again.

PyTorch's non-reentrant checkpoint recomputes a region only as far as the backward pass asks for it.
So in a region that ends in a convolution or a linear layer that last product is not run again: of
normalisation, SiLU and convolution the first two are repeated, and none of their values is kept.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from comfy.ldm.modules.attention import BasicTransformerBlock, SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock, UNetModel
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ....attndb.config.choices import Checkpointing


def checkpoint_activations(unet: UNetModel, level: Checkpointing) -> None:
    """Makes a private U-Net keep less for the backward pass: the same gradient, bit for bit.

    `light`: normalisation, SiLU and the first half of the feed-forward are computed again; `full`:
    all of the residual and transformer blocks. Asked for again, it does nothing.
    """
    for module in unet.modules():
        if isinstance(module, ResBlock):
            _recompute(module.in_layers)
            _recompute(module.out_layers)
        elif isinstance(module, SpatialTransformer):
            _recompute(module.norm)
        elif isinstance(module, BasicTransformerBlock):
            _recompute_transformer_block(module)
    _recompute(unet.out)
    if level == "full":
        for module in unet.modules():
            if isinstance(module, (ResBlock, SpatialTransformer)):
                _recompute(module)


def _recompute(module: nn.Module) -> None:
    if not _changed(module):
        module.forward = functools.partial(_checkpointed, module.forward)


def _recompute_transformer_block(block: Any) -> None:
    """norm1 and norm2 alone; norm3 together with the feed-forward, whose input then is not kept."""
    _recompute(block.norm1)
    _recompute(block.norm2)
    if not _changed(block.ff):
        both = functools.partial(_one_after_the_other, block.norm3.forward, block.ff.forward)
        block.ff.forward = functools.partial(_checkpointed, both)
        block.norm3.forward = _unchanged


def _changed(module: nn.Module) -> bool:
    return "forward" in vars(module)


def _checkpointed(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)


def _one_after_the_other(
    first: Callable[[Tensor], Tensor], then: Callable[[Tensor], Tensor], x: Tensor
) -> Tensor:
    return then(first(x))


def _unchanged(x: Tensor) -> Tensor:
    return x
