"""Where text attention lives in a U-Net: its `attn2` layers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn

from ..config.choices import LayerChoice


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
        if self.name.startswith(("input_blocks", "down_blocks")):
            return "down"
        return "middle" if self.name.startswith(("middle_block", "mid_block")) else "up"


def cross_attention_layers(unet: nn.Module) -> list[CrossAttentionLayer]:
    """Every `attn2` of a U-Net, in module order; ComfyUI's and diffusers' naming both serve."""
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


def choose_layers(
    layers: Iterable[CrossAttentionLayer], choice: LayerChoice
) -> list[CrossAttentionLayer]:
    """The layers of one region of the U-Net. ValueError if the region has none."""
    chosen = [layer for layer in layers if choice in ("all", layer.region)]
    if not chosen:
        raise ValueError(f"layers = {choice!r}: this model has no cross-attention layer there")
    return chosen
