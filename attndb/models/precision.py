"""In which precision a stage computes, and how its weights are kept meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from ..config.choices import Precision


def computes_in_bf16(precision: Precision, device: torch.device) -> bool:
    """Whether a stage with this setting runs under bf16 autocast on this device."""
    if precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported()
    return precision == "bf16"


def autocast(device: torch.device, bf16: bool) -> AbstractContextManager[object]:
    """bf16 autocast, or nothing."""
    return torch.autocast(_kind(device), dtype=torch.bfloat16) if bf16 else nullcontext()


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """fp32 in the middle of autocast."""
    return torch.autocast(_kind(device), enabled=False)


def _kind(device: torch.device) -> str:
    """The meta device has no autocast of its own: there the CPU's is switched, which leaves meta
    tensors alone, and a trace (memory/meta_trace.py) casts them as the real device would."""
    return "cpu" if device.type == "meta" else device.type


class FrozenInBf16:
    """Keeps the frozen matrices of modules in bf16 for a while. A context manager.

    Autocast rounds them to bf16 at every use anyway, so nothing that is computed changes by a bit;
    what goes is half of their memory and a pass over them in every step. Biases and norms stay in
    fp32, and so do tables of embeddings, which autocast does not touch. The originals wait on the
    CPU and come back at the end.
    """

    def __init__(self, *modules: nn.Module) -> None:
        self._modules = modules
        self._originals: list[tuple[nn.Parameter, Tensor, torch.device]] = []

    def __enter__(self) -> FrozenInBf16:
        tables = {id(p) for m in self._all() if isinstance(m, nn.Embedding) for p in m.parameters()}
        for parameter in (p for module in self._modules for p in module.parameters()):
            frozen = not parameter.requires_grad and id(parameter) not in tables
            if frozen and is_matrix(parameter):
                original, device = parameter.data, parameter.device
                parameter.data = original.bfloat16()
                kept = original if original.is_meta else original.cpu()
                self._originals.append((parameter, kept, device))
        return self

    def __exit__(self, *_: object) -> None:
        while self._originals:
            parameter, original, device = self._originals.pop()
            parameter.data = original.to(device)

    def _all(self) -> Iterator[nn.Module]:
        for module in self._modules:
            yield from module.modules()


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
    return cut.view(torch.float32).bfloat16()
