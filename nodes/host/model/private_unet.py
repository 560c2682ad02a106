"""The private U-Net: the host's own, in fp32, with attention that trains on any device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import comfy.ops
import torch
from comfy.ldm.modules.attention import CrossAttention, FeedForward
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock, UNetModel
from einops import rearrange
from torch import Tensor, nn

from ....attndb.models.precision import full_precision, has_bf16_products
from ....attndb.models.protocol import TextAttention

_PLAIN = {
    getattr(comfy.ops.disable_weight_init, kind.__name__): kind
    for kind in (nn.Linear, nn.Conv2d, nn.GroupNorm, nn.LayerNorm)
}
"""What the host's layers are without what it does in them for itself."""


class TrainableAttention(CrossAttention):
    """The host's attention through PyTorch's fused kernel: not every backend of the host trains.

    A class, and no `forward` set on the module: a module that holds its own bound method is a
    cycle, and then a finished stage's weights stay until Python looks for garbage.
    """

    place: int
    """Of a text attention: which of all it is, in the U-Net's order."""
    in_fp32 = False
    """Whether bf16 is attended to in fp32: GPUs without bf16 products have no fused kernel for it,
    and the attention of a picture's pixels to each other, written out, is gigabytes."""

    def forward(
        self,
        x: Tensor,
        context: Tensor | None = None,
        value: Tensor | None = None,
        mask: Tensor | None = None,
        transformer_options: object = None,
    ) -> Tensor:
        """Cross- or self-attention; with a text for every layer (`text_by_layer`) its own."""
        if context is not None and context.ndim == 4:
            context, value = context[:, 2 * self.place], context[:, 2 * self.place + 1]
        context = x if context is None else context
        value = context if value is None else value
        q, k, v = (
            rearrange(t, "b n (h d) -> b h n d", h=self.heads)
            for t in (self.to_q(x), self.to_k(context), self.to_v(value))
        )
        attention = nn.functional.scaled_dot_product_attention
        if self.in_fp32 and q.dtype == torch.bfloat16:
            with full_precision(q.device):
                out = attention(q.float(), k.float(), v.float(), attn_mask=mask).to(q.dtype)
        else:
            out = attention(q, k, v, attn_mask=mask)
        return self.to_out(rearrange(out, "b h n d -> b n (h d)"))


def private_unet(
    unet_config: Mapping[str, Any], weights: Mapping[str, Tensor], device: torch.device
) -> UNetModel:
    """A new fp32 U-Net with these weights, trainable, with attention that has a backward pass.

    It owns these very tensors from now on, in main memory. A training on a card puts on it what it
    needs there, in the precision in which it keeps it. Its layers are PyTorch's own: in the host's
    every one asks for Cancel, and where a backward pass that updates weights computes activations
    again, that would lose the work since the last checkpoint.
    """
    real = device.type != "meta"
    config = {
        key: value
        for key, value in unet_config.items()
        if key not in ("dtype", "disable_unet_model_creation")
    }
    with torch.inference_mode(False):
        unet = UNetModel(
            **config,
            dtype=torch.float32,
            device="meta",
            operations=comfy.ops.disable_weight_init,
        )
        given = {name: w.cpu() if real else w for name, w in weights.items()}
        unet.load_state_dict(given, strict=True, assign=real)
        unet.requires_grad_(False).eval()
    for module in unet.modules():
        module.__class__ = _PLAIN.get(type(module), type(module))
        if isinstance(module, CrossAttention):
            module.__class__ = TrainableAttention
    texts = [m for name, m in unet.named_modules() if name.endswith(".attn2")]
    for place, module in enumerate(texts):
        assert isinstance(module, TrainableAttention)
        module.place = place
    return unet


def attend_as(unet: nn.Module, device: torch.device) -> None:
    """Has a private U-Net's attention computed as the device that it is trained on can."""
    in_fp32 = device.type == "cuda" and not has_bf16_products(device)
    for module in unet.modules():
        if isinstance(module, TrainableAttention):
            module.in_fp32 = in_fp32


def text_by_layer(
    text: Tensor, layers: Mapping[str, tuple[Tensor, Tensor]], order: Sequence[TextAttention]
) -> Tensor:
    """A context (B, 2L, T, D) for a private U-Net: for each text attention the sources of its keys
    and its values, those without their own read `text`. It goes through the U-Net as any context
    does, so that what is computed again in the backward pass finds it."""
    own = [layers.get(layer.name, (text, text)) for layer in order]
    return torch.stack([source for pair in own for source in pair], dim=1)


def compile_blocks(unet: nn.Module) -> None:
    """Compiles the residual and feed-forward blocks and the self-attention of a private U-Net: the
    parts without hooks. Asked for again, does nothing."""
    for name, module in unet.named_modules():
        whole = isinstance(module, (ResBlock, FeedForward)) or name.endswith(".attn1")
        if whole and module._compiled_call_impl is None:
            module.compile()
