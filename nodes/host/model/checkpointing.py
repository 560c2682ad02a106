"""Gradient checkpointing of a private U-Net: what its backward pass computes again.

PyTorch's non-reentrant checkpoint recomputes a region only as far as the backward pass asks for it.
So in a region that ends in a convolution or a linear layer that last product is not run again: of
normalisation, SiLU and convolution the first two are repeated, and none of their values is kept.
"""

from __future__ import annotations

import functools
from typing import Any

from comfy.ldm.modules.attention import BasicTransformerBlock, SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ....attndb.config.choices import Checkpointing


def checkpoint_activations(unet: nn.Module, level: Checkpointing) -> None:
    """Makes a private U-Net keep less for the backward pass: the same gradient, bit for bit.

    `light`: normalisation, SiLU and the first half of the feed-forward are computed again; `full`:
    all of the residual and transformer blocks. Asked for again, it does nothing.
    """
    for module in unet.modules():
        if isinstance(module, ResBlock):
            _recompute(module.get_submodule("in_layers"))
            _recompute(module.get_submodule("out_layers"))
        elif isinstance(module, SpatialTransformer):
            _recompute(module.get_submodule("norm"))
        elif isinstance(module, BasicTransformerBlock):
            _recompute_transformer_block(module)
    _recompute(unet.get_submodule("out"))
    if level == "full":
        for module in unet.modules():
            if isinstance(module, (ResBlock, SpatialTransformer)):
                _recompute(module)


def _recompute(module: nn.Module) -> None:
    if not isinstance(module, _Recomputed):
        module.__class__ = _with(_Recomputed, type(module))


def _recompute_transformer_block(block: Any) -> None:
    """norm1 and norm2 alone; norm3 together with the feed-forward, whose input then is not kept."""
    _recompute(block.norm1)
    _recompute(block.norm2)
    if not isinstance(block.norm3, _Passed):
        block.ff.norm = (block.norm3,)  # in a tuple: its weights stay where they are named
        block.ff.__class__ = _with(_NormFirst, type(block.ff))
        block.norm3.__class__ = _with(_Passed, type(block.norm3))
        _recompute(block.ff)


# What a module does is changed by its class. A `forward` set on the module would hold the module's
# own bound method: a cycle, which keeps a finished stage's weights until Python looks for garbage.


class _Recomputed:
    """In front of a module's class: what it computes is computed again in the backward pass."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        again = super().forward  # type: ignore[misc]
        return checkpoint(again, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)


class _NormFirst:
    """In front of a feed-forward's class: it does the normalisation, too."""

    norm: tuple[Any]

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.norm[0].normalized(x))  # type: ignore[misc]


class _Passed:
    """In front of a normalisation's class: what it gets is passed on, to be normalised later."""

    def forward(self, x: Tensor) -> Tensor:
        return x

    def normalized(self, x: Tensor) -> Tensor:
        return super().forward(x)  # type: ignore[misc]


@functools.cache
def _with(front: type, kind: type) -> type:
    """The class of modules of this kind with a change in front."""
    return type(f"{front.__name__}{kind.__name__}", (front, kind), {"__module__": __name__})
