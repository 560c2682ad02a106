"""Private copies of the host's modules: weights merged as the wires say, nothing shared.

The module behind a MODEL or CLIP is shared by every clone and may carry another clone's patches at
this moment, may hold inference tensors, fp16 or fp8 weights, or (on newer hosts) weights that are
streamed. So weights are taken from the patcher, which knows the true base, and merged in fp32.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import comfy.lora
import comfy.utils
import torch
from torch import Tensor, nn

from .patch_entries import entries_without_concept

UNET_PREFIX = "diffusion_model."
_QUANTIZED = ".comfy_quant"
"""Ends the key of a quantized layer's settings."""
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
    """An ordinary fp32 CPU copy of a host weight, whatever it was; in rows, also where the host
    has it in the order of --force-channels-last."""
    if hasattr(weight, "dequantize") and type(weight) not in (Tensor, nn.Parameter):
        weight = weight.dequantize()
    return weight.detach().to(
        "cpu", torch.float32, copy=True, memory_format=torch.contiguous_format
    )


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
            value = own = _plain(weight)
            if convert is not None:
                value = convert(value, inplace=True)
            patches = entries_without_concept(patches, without_concept)
            if patches:
                value = comfy.lora.calculate_weight(patches, value, key)
            if patches or value is not own:  # it may be part of what another holds
                value = value.clone(memory_format=torch.contiguous_format)
            merged[key[len(prefix) :]] = value
    return merged


def delta_dtype(model: Any) -> torch.dtype:
    """Of a weight change of a MODEL: fp32 for one in fp32, else fp16."""
    whole = model.model.get_dtype() == torch.float32
    return torch.float32 if whole else torch.float16


def private_copy(module: nn.Module, weights: Mapping[str, Tensor], device: torch.device) -> Any:
    """A deep copy of a host module with these weights, which become its own where they are on the
    device already: normal tensors in fp32, no gradients."""
    with torch.inference_mode(False):
        copied = bare_copy(module).eval()
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
        submodules: list[Any] = [*copied.modules()]
        for submodule in submodules:
            if hasattr(submodule, "weight_function"):
                submodule.weight_function, submodule.bias_function = [], []
    return copied


def bare_copy(module: nn.Module) -> nn.Module:
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
