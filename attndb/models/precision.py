"""In which precision a stage computes, and how its weights are kept meanwhile."""

from __future__ import annotations

import platform
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from ..config.choices import Precision
from ..config.lora_instead import lora_instead
from ..config.stage import StageConfig
from .placement import put


def computes_in_bf16(precision: Precision, device: torch.device) -> bool:
    """Whether a stage with this setting runs under bf16 autocast on this device."""
    if precision == "auto":
        return device.type == "cuda" and has_bf16_products(device)
    return precision == "bf16"


_AMD_WITH_BF16 = ("gfx908", "gfx90a", "gfx94", "gfx95", "gfx11", "gfx12")
"""CDNA, and RDNA from the third on."""


def has_bf16_products(device: torch.device) -> bool:
    """Whether a device multiplies bf16 itself. A CPU without them (AVX2 alone) makes up for it one
    number at a time: a step takes about ten times as long as in fp32 (docs/speed.md). PyTorch makes
    up for it on GPUs before Ampere and RDNA 3, too, and calls it supported (is_bf16_supported)."""
    if device.type == "cuda" and torch.version.hip:
        return torch.cuda.get_device_properties(device).gcnArchName.startswith(_AMD_WITH_BF16)
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    if device.type != "cpu":
        return True
    if platform.machine().lower() in ("x86_64", "amd64"):
        names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        known = [getattr(torch.cpu, name) for name in names if hasattr(torch.cpu, name)]
        if known:
            return any(supported() for supported in known)
    try:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError):  # a PyTorch without oneDNN, whose products would be used
        return False


def bf16_warning(
    config: StageConfig, device: torch.device, *, turned_on: bool = False, preset: str = ""
) -> str:
    """What bf16 costs where a stage computes in it on a device that has no such products, and what
    to choose; empty where it costs nothing. `turned_on`: nobody asked for low_memory, it was what
    fits. `preset`: that the settings came from."""
    remedies = []
    if config.precision == "bf16":
        remedies.append("set precision to auto or fp32")
    if config.low_memory and turned_on:
        lora = None if config.lora_rank else lora_instead(config, preset)
        node, option = ("", "") if lora is None else (lora.node, lora.option)
        options = " and ".join(filter(None, ["set low_memory to off", option]))
        remedies += [node] if node else []
        remedies.append(f"in Training Options {options}, where that fits")
    elif config.low_memory:
        remedies.append("set low_memory to auto or off in Training Options")
    if not remedies or has_bf16_products(device):
        return ""
    asked = "low_memory computes" if config.low_memory else "this stage computes"
    has_none, cost = (
        ("CPU", "a step takes about ten times as long as in fp32 (measured on one with AVX2 alone)")
        if device.type == "cpu"
        else (
            "GPU (before Ampere or RDNA 3)",
            "PyTorch makes up for them, perhaps slower than fp32",
        )
    )
    return (
        f"{asked} in bf16, and this {has_none} has no bf16 products: {cost}. To be faster, "
        f"{' and '.join(remedies)}"
    )


def autocast(device: torch.device, bf16: bool) -> AbstractContextManager[object]:
    """bf16 autocast, or nothing. ValueError where PyTorch has no autocast for the device."""
    if not bf16:
        return nullcontext()
    try:
        return torch.autocast(_kind(device), dtype=torch.bfloat16)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"this PyTorch ({torch.__version__}) does not compute in bf16 on {device.type}: set "
            "precision to fp32, and low_memory to off in Training Options"
        ) from error


def has_bf16_autocast(device: torch.device) -> bool:
    """Whether PyTorch computes in bf16 on a device at all."""
    try:
        autocast(device, True)
    except ValueError:
        return False
    return True


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """fp32 in the middle of autocast. Some devices have none (MPS before PyTorch 2.5, DirectML):
    to switch it off there is refused, and there is nothing to switch off."""
    kind = _kind(device)
    return torch.autocast(kind, enabled=False) if _autocasts(kind) else nullcontext()


def _autocasts(kind: str) -> bool:
    """Whether autocast acts on a kind of device at this moment."""
    try:
        return torch.is_autocast_enabled(kind)
    except RuntimeError:  # there is none for it
        return False


def _kind(device: torch.device) -> str:
    """The meta device has no autocast of its own: there the CPU's is switched, which leaves meta
    tensors alone, and a trace (memory/meta_trace.py) casts them as the real device would."""
    return "cpu" if device.type == "meta" else device.type


class FrozenInBf16:
    """Keeps the frozen matrices of modules in bf16 for a while. A context manager.

    Autocast rounds them to bf16 at every use anyway, so nothing that is computed changes by a bit;
    what goes is half of their memory and a pass over them in every step. Biases and norms stay in
    fp32, and so do tables of embeddings, which autocast does not touch. The originals wait on the
    CPU and come back at the end to where they were.
    """

    def __init__(self, *modules: nn.Module, device: torch.device | None = None) -> None:
        """`device`: where they are kept in bf16, as nothing else of them ever is there; None: where
        they are now."""
        self._modules, self._device = modules, device
        self._originals: list[tuple[nn.Parameter, Tensor, torch.device]] = []

    def __enter__(self) -> FrozenInBf16:
        for parameter in frozen_matrices(*self._modules):
            original, home = parameter.data, parameter.device
            put(parameter, original.bfloat16().to(self._device or home))
            kept = original if original.is_meta else original.cpu()
            self._originals.append((parameter, kept, home))
        return self

    def __exit__(self, *_: object) -> None:
        while self._originals:
            parameter, original, home = self._originals.pop()
            put(parameter, original.to(home))


def frozen_matrices(*modules: nn.Module) -> list[nn.Parameter]:
    """What autocast rounds of modules and no training changes, in their order."""
    every = [m for module in modules for m in module.modules()]
    tables = {id(p) for m in every if isinstance(m, nn.Embedding) for p in m.parameters()}
    return [
        parameter
        for module in modules
        for parameter in module.parameters()
        if not parameter.requires_grad and id(parameter) not in tables and is_matrix(parameter)
    ]


def is_matrix(weight: Tensor) -> bool:
    """Whether a parameter is what matrix products and convolutions multiply with, in fp32."""
    return weight.ndim >= 2 and weight.dtype == torch.float32


def round_stochastically(value: Tensor, generator: torch.Generator) -> Tensor:
    """fp32 rounded to bf16, up or down by chance, so that the expectation is the value itself.

    A change smaller than bf16 resolves is thus kept on average, where rounding to nearest would
    lose it every time (Gupta et al. 2015, section 3.2).
    """
    noise = torch.randint(
        1 << 16, value.shape, dtype=torch.int32, device=value.device, generator=generator
    )
    cut = (value.view(torch.int32) + noise) & -(1 << 16)
    # a card's NaN has all bits set: one more, and it is a zero, which no check would find
    return cut.view(torch.float32).bfloat16().masked_fill_(value.isnan(), float("nan"))
