"""Private copies of the host's modules: weights merged as the wires say, nothing shared.

The module behind a MODEL or CLIP is shared by every clone and may carry another clone's patches at
this moment, may hold inference tensors, fp16 or fp8 weights, or (on newer hosts) weights that are
streamed. So weights are taken from the patcher, which knows the true base, and merged in fp32.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import comfy.lora
import comfy.ops
import comfy.utils
import torch
from comfy.ldm.modules.attention import CrossAttention, FeedForward
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock, UNetModel
from einops import rearrange
from torch import Tensor, nn

from ....attndb.models.precision import full_precision, has_bf16_products
from ....attndb.models.protocol import TextAttention
from .patch_entries import entries_without_concept

UNET_PREFIX = "diffusion_model."
_QUANTIZED = ".comfy_quant"
"""Ends the key of a quantized layer's settings."""
_PLAIN = {
    getattr(comfy.ops.disable_weight_init, kind.__name__): kind
    for kind in (nn.Linear, nn.Conv2d, nn.GroupNorm, nn.LayerNorm)
}
"""What the host's layers are without what it does in them for itself."""
_STREAMED = {"_v", "_v_signature", "_v_weight", "_v_bias", "_prefetch", "_pin", "_pins"}
_STREAMED |= {"_pin_state", "weight_lowvram_function", "bias_lowvram_function"}
"""Attributes of the host's layers whose weights it streams: handles of memory of its own."""


def _static_patcher(patcher: Any) -> Any:
    """The patcher with ordinary weights, where the host streams them dynamically.

    What no loader of the host has made (the embedded model, another pack's) cannot be loaded again
    and has no file to stream from: its weights are read where they are.
    """
    if not getattr(patcher, "is_dynamic", lambda: False)():
        return patcher
    if getattr(patcher, "cached_patcher_init", None) is None:
        return patcher
    return patcher.clone(disable_dynamic=True)


class _Parameters:
    """A patcher as its own `get_key_patches` may see it: without what a quantized layer's state has
    beside weight and bias (scales, its settings), which the host looks for in the layer in vain."""

    def __init__(self, patcher: Any) -> None:
        self._patcher = patcher

    def __getattr__(self, name: str) -> Any:
        return getattr(self._patcher, name)

    def model_state_dict(self) -> list[str]:
        """The names of the parameters."""
        return _parameters(self._patcher.model_state_dict())


def _parameters(state: Iterable[str]) -> list[str]:
    """Names of a model's state without what quantized layers have in it besides."""
    layers, plain = _quantized(state), (".weight", ".bias")
    return [k for k in state if k.endswith(plain) or k.rpartition(".")[0] not in layers]


def _quantized(state: Iterable[str]) -> set[str]:
    """The quantized layers of a model, by its state."""
    return {key.removesuffix(_QUANTIZED) for key in state if key.endswith(_QUANTIZED)}


def _entries(patcher: Any, prefix: str) -> dict[str, Any]:
    """Every weight under a prefix with the patcher's patches, as the host gives them."""
    if _quantized(patcher.model_state_dict()):
        return type(patcher).get_key_patches(_Parameters(patcher), prefix)
    return patcher.get_key_patches(prefix)


def weight_shapes(patcher: Any, prefix: str = "") -> dict[str, tuple[int, ...]]:
    """Shape of every weight under a prefix, by the host's name; of a quantized one its own, not
    that of its storage."""
    state = patcher.model.state_dict()
    names = [name for name in _parameters(state) if name.startswith(prefix)]
    for name in names if _quantized(state) else ():
        state[name] = comfy.utils.get_attr(patcher.model, name)
    return {name: tuple(state[name].shape) for name in names}


def _plain(weight: Any) -> Tensor:
    """An ordinary fp32 CPU copy of a host weight, whatever it was."""
    if hasattr(weight, "dequantize") and type(weight) not in (Tensor, nn.Parameter):
        weight = weight.dequantize()
    return weight.detach().to("cpu", torch.float32, copy=True)


def merged_weights(patcher: Any, prefix: str, without_concept: str = "") -> dict[str, Tensor]:
    """fp32 CPU weights under a prefix (taken off the names), with the patcher's patches merged.

    The patches of the concept with the placeholder `without_concept` are left out, also where a
    merge node has put them among its own.
    """
    merged: dict[str, Tensor] = {}
    with torch.inference_mode(False), torch.no_grad():
        for key, entry in _entries(_static_patcher(patcher), prefix).items():
            base, patches = entry[0], entry[1:]
            weight, convert = base if isinstance(base, tuple) else (base, None)
            value = _plain(weight)
            if convert is not None:
                value = convert(value, inplace=True)
            patches = entries_without_concept(patches, without_concept)
            if patches:
                value = comfy.lora.calculate_weight(patches, value, key)
            merged[key[len(prefix) :]] = value.clone()
    return merged


def delta_dtype(model: Any) -> torch.dtype:
    """Of a weight change of a MODEL: fp32 for one in fp32, else fp16."""
    whole = model.model.get_dtype() == torch.float32
    return torch.float32 if whole else torch.float16


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
    texts = (module for name, module in unet.named_modules() if name.endswith(".attn2"))
    for place, module in enumerate(texts):
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


def private_copy(module: nn.Module, weights: Mapping[str, Tensor], device: torch.device) -> Any:
    """A deep copy of a host module with these weights, which become its own where they are on the
    device already: normal tensors in fp32, no gradients."""
    with torch.inference_mode(False):
        copied = _bare_copy(module).eval()
        buffers = dict(copied.named_buffers())
        for name, parameter in [
            *copied.named_parameters(remove_duplicate=False),
            *buffers.items(),
        ]:
            owner = copied.get_submodule(name.rpartition(".")[0])
            value = (weights[name] if name in weights else parameter.clone()).to(device)
            if name not in buffers:
                value = nn.Parameter(value, requires_grad=False)
            setattr(owner, name.rpartition(".")[2], value)
        for submodule in copied.modules():
            if hasattr(submodule, "weight_function"):
                submodule.weight_function, submodule.bias_function = [], []
    return copied


def _bare_copy(module: nn.Module) -> nn.Module:
    """A deep copy that still has the module's own tensors, and nothing that the host streams its
    weights by: a copy of such a handle frees the host's memory once more when it goes, and the
    memory behind such a tensor may be gone already."""
    memo: dict[int, Any] = {id(t): t for t in (*module.parameters(), *module.buffers())}
    for submodule in module.modules():
        for name in _STREAMED & vars(submodule).keys():
            handle = vars(submodule)[name]
            if handle is not None:
                memo[id(handle)] = name
    copied = copy.deepcopy(module, memo)
    for submodule in copied.modules():
        for name in _STREAMED & vars(submodule).keys():
            delattr(submodule, name)
    return copied
