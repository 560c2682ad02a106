"""Text attention of a U-Net: its `attn2` layers. ComfyUI's and diffusers' naming both serve.

Shapes: B batch, P pixels (queries), T text tokens (keys), E width.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..config.choices import LayerChoice
from .protocol import See, TextAttention

_Layer = TypeVar("_Layer", bound=TextAttention)


@dataclass(frozen=True)
class CrossAttentionLayer:
    """One `attn2` of the U-Net and where it stands."""

    name: str
    """Its path in the module, e.g. `input_blocks.1.1.transformer_blocks.0.attn2`."""
    module: Any
    """The attention module: has `to_q`, `to_k`, `to_v`, `to_out`."""
    heads: int
    """Attention heads."""

    @property
    def region(self) -> LayerChoice:
        """`down`, `middle` or `up`."""
        return region_of(self.name)

    def observe(self, see: See) -> Projections:
        """`see` is given queries (B, P, E) and keys (B, T, E) of every forward pass."""
        return Projections(self.module, see)


def region_of(layer: str) -> LayerChoice:
    """`down`, `middle` or `up`, from a layer's path in the U-Net."""
    if layer.startswith(("input_blocks", "down_blocks")):
        return "down"
    return "middle" if layer.startswith(("middle_block", "mid_block")) else "up"


class Projections:
    """Forward hooks on `to_q` and `to_k`: they see what any attention kernel works on."""

    def __init__(self, attention: Any, see: See) -> None:
        self._see = see
        self._query: Tensor | None = None
        self._handles: list[torch.utils.hooks.RemovableHandle] = [
            attention.to_q.register_forward_hook(self._on_query),
            attention.to_k.register_forward_hook(self._on_key),
        ]

    def remove(self) -> None:
        """Takes the hooks off."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self.forget()

    def forget(self) -> None:
        """Drops queries whose keys have not come."""
        self._query = None

    def _on_query(self, _module: nn.Module, _inputs: Any, q_BPE: Tensor) -> None:
        self._query = q_BPE

    def _on_key(self, _module: nn.Module, _inputs: Any, k_BTE: Tensor) -> None:
        q_BPE, self._query = self._query, None
        if q_BPE is not None:
            self._see(q_BPE, k_BTE)


def cross_attention_layers(unet: nn.Module) -> list[CrossAttentionLayer]:
    """Every `attn2` of a U-Net, in module order. ValueError if there is none."""
    layers = [
        CrossAttentionLayer(name, module, int(module.heads))  # type: ignore[arg-type]
        for name, module in unet.named_modules()
        if name.rsplit(".", 1)[-1] == "attn2" and hasattr(module, "to_q")
    ]
    if not layers:
        raise ValueError(
            "the model has no cross-attention layer (attn2), so there is no map to tie"
        )
    return layers


def choose_layers(layers: Iterable[_Layer], choice: LayerChoice) -> list[_Layer]:
    """The layers of one region of the U-Net. ValueError if the region has none."""
    chosen = [layer for layer in layers if choice in ("all", layer.region)]
    if not chosen:
        raise ValueError(f"layers = {choice!r}: this model has no cross-attention layer there")
    return chosen
