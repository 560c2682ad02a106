"""Kinds of cards that can be pretended, and what each of them cannot do."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True, kw_only=True)
class KindOfCard:
    """What a kind of device is, as far as it can be told without one."""

    name: str
    """The type of its `torch.device`."""
    has_float64: bool = True
    every_operation: bool = True
    """Whether PyTorch has all of its operations on it; else those that PyTorch's list names."""

    @property
    def device(self) -> torch.device:
        """Of its tensors. A host may call it by its type alone, which is another name."""
        return torch.device(self.name, 0)

    @property
    def can_be_pretended(self) -> bool:
        """Whether `known_to_pytorch` can tell PyTorch of it here."""
        return self.name == "cuda" or _LIBRARY.is_file()

    def check(self, func: Any) -> None:
        """NotImplementedError, as PyTorch raises it, for an operation that the device lacks."""
        if not self.every_operation and not _on(self.name.upper(), func):
            raise NotImplementedError(
                f"The operator '{func._schema.name}' is not currently implemented for the "
                f"{self.name.upper()} device."
            )

    def check_dtype(self, dtype: torch.dtype) -> None:
        """TypeError or RuntimeError, as PyTorch raises it, for a dtype that the device lacks."""
        if self.has_float64 or dtype not in (torch.float64, torch.complex128):
            return
        if self.name != "mps":
            raise RuntimeError("Required aspect fp64 is not supported on the device")
        raise TypeError(
            "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support "
            "float64. Please use float32 instead."
        )


_LIBRARY = Path(torch.__file__).parent / "lib" / "libc10.so"
"""Of Linux."""
_GUARDS = "_ZN3c104impl26device_guard_impl_registryE"
"""PyTorch's `c10::impl::device_guard_impl_registry` in it: a pointer for each kind of device."""
_IN_PYTHON = {"native_group_norm_backward"}
"""What torch.backends.mps registers for MPS when it is initialised: the list does not name it."""
CUDA = KindOfCard(name="cuda")
MPS = KindOfCard(name="mps", has_float64=False, every_operation=False)
XPU = KindOfCard(name="xpu", has_float64=False)
"""Of the consumer's cards, which have no float64."""
KINDS = {kind.name: kind for kind in (CUDA, MPS, XPU)}

_ANY_DEVICE = {
    "CompositeImplicitAutograd",
    "CompositeExplicitAutograd",
    "CompositeExplicitAutogradNonFunctional",
}


@cache
def _kernels() -> dict[str, tuple[str, set[str]]]:
    """Of each of PyTorch's operations: the one that it is computed by, and for what it is there."""
    import torchgen

    path = Path(torchgen.__file__).parent / "packaged/ATen/native/native_functions.yaml"
    found = {}
    for entry in path.read_text(encoding="utf-8").split("\n- func: ")[1:]:
        name = entry.split("(", 1)[0]
        by = re.search(r"^  structured_delegate: (\S+)", entry, re.MULTILINE)
        listed = re.search(r"^  dispatch:\n((?:    .*\n?)+)", entry, re.MULTILINE)
        keys = {"CompositeImplicitAutograd"}
        if listed:
            lines = [line.split("#")[0] for line in listed[1].splitlines()]
            keys = {key.strip() for line in lines for key in line.split(":")[0].split(",")}
        found[name] = (by[1] if by else name, keys)
    return found


@cache
def _on(key: str, func: Any) -> bool:
    space, name = func._schema.name.split("::")
    if space != "aten":
        return True
    name = f"{name}.{func._overloadname}".removesuffix(".default")
    kernels = _kernels()
    if name in _IN_PYTHON or name not in kernels:  # the latter: PyTorch's build makes it of another
        return True
    by, _ = kernels[name]
    return bool({key, *_ANY_DEVICE} & kernels[by][1])


@contextmanager
def known_to_pytorch(kind: KindOfCard) -> Iterator[None]:
    """PyTorch asks a device's driver which device is chosen, before and after most calls. Inside,
    what it asks is one for which nothing has to be done: for CUDA its own, else meta's."""
    if kind is CUDA:
        torch._C._ensureCUDADeviceGuardSet()  # one that asks no driver where there is none
        yield
        return
    autograd: Any = torch.autograd
    types = autograd.DeviceType
    library = ctypes.CDLL(str(_LIBRARY))
    guards = (ctypes.c_void_p * (types.Meta.value + 1)).in_dll(library, _GUARDS)
    place = getattr(types, kind.name.upper()).value
    before, guards[place] = guards[place], guards[types.Meta.value]
    try:
        yield
    finally:
        guards[place] = before
