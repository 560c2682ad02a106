"""A card that is pretended: tensors say `cuda:0`, and their values are worked out on the CPU.

It pretends where tensors are. Inside `pretend_card`, whatever is made on or sent to `cuda` is an
`OnCard`; an operation whose tensors are on different devices raises, as CUDA does (a CPU number
without dimensions may stand beside tensors of the card, and CPU indices may pick from one); NumPy
is refused. ComfyUI is told of a card of some size and does as it does with one: what it loads
there, what waits in main memory, its dtypes. Other kinds of cards (`mps`, `xpu`) refuse what they
have not: float64, and on `mps` the operations that PyTorch does not list for it.

It does not pretend gradients (a forward pass with them is fine), kernels (their rounding, what they
cannot do), whose generator draws, streams, pinned memory, ComfyUI's dynamic one, or what a tensor
of the card costs. Other threads may compute with what is on the card, and send nothing there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from .kinds_of_card import CUDA, KINDS, MPS, XPU, KindOfCard, known_to_pytorch

CARD = CUDA.device
CPU = torch.device("cpu")
GIB = 1 << 30

_ATEN = torch.ops.aten
_DATA: Any = Tensor.data
_TO: Any = Tensor.to
_SDPA: Any = torch.nn.functional.scaled_dot_product_attention
_PICKING = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}
_CROSSING = {"aten::to", "aten::_to_copy", "aten::copy_", "aten::type_as", "aten::cpu"}
_WHOLE = {"aten::cat", "aten::stack", "aten::embedding", "aten::gather", "aten::index_select"}
_WHOLE |= {"aten::index_add", "aten::index_add_", "aten::scatter", "aten::scatter_"}
"""What takes no CPU number beside tensors of the card either."""


def _dispatched(
    self: Any,
    func: Any,
    types: Any,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
) -> Any:
    """`__torch_dispatch__`, of a class or of a mode: carries an operation out."""
    return _carried_out(func, args, kwargs or {})


class OnCard(Tensor):
    """A tensor that says it is on the card."""

    held: Tensor
    """The values, on the CPU."""

    @staticmethod
    def __new__(cls, held: Tensor, device: torch.device) -> OnCard:
        """Around a CPU tensor, which it shares."""
        made: Any = Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            device=device,
        )
        made.held = held
        return made

    def __init__(self, held: Tensor, device: torch.device) -> None: ...

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"OnCard({self.held!r})"

    def tolist(self) -> Any:
        """The values; waits for the card."""
        return self.held.tolist()

    def numpy(self, *, force: bool = False) -> Any:
        """Not of a card, unless forced."""
        if not force:
            raise TypeError(f"can't convert {self.device} device type tensor to numpy")
        return self.held.numpy(force=True)

    __torch_dispatch__ = classmethod(_dispatched)


class _Placing(TorchDispatchMode):
    """Sees what has no tensor of the card among its arguments."""

    __torch_dispatch__ = _dispatched


class _Generator(torch.Generator):
    """The CPU's numbers for whatever device."""

    def __new__(cls, device: Any = CPU) -> _Generator:
        return super().__new__(cls)

    def __init__(self, device: Any = CPU) -> None: ...


def _carried_out(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """The operation on the CPU, and its results on the device that they belong to."""
    values, spec = tree_flatten((tuple(args), dict(kwargs)))
    wrappers = {id(v.held): v for v in values if isinstance(v, OnCard)}
    named = [v for v in values if isinstance(v, torch.device) and v.type in ("cpu", *KINDS)]
    name = func._schema.name
    devices = [*(v.device for v in wrappers.values()), *named]
    kind = next((KINDS[device.type] for device in devices if device.type in KINDS), None)
    if kind is None:
        return func(*args, **kwargs)
    if name == "aten::_has_compatible_shallow_copy_type":
        return True  # of a card: `.data` takes tensors of either device
    if name not in _CROSSING:
        _check_devices(func, args, values)
    if name == "aten::type_as" or func is _ATEN.to.other:
        named = [args[1].device]
    there = named[-1] if named else args[0].device if name in _CROSSING else kind.device
    if name == "aten::_fused_sdp_choice":
        return 0  # plain products
    kind.check(func)
    plain = [_plain(v) for v in values]
    plain_args, plain_kwargs = tree_unflatten(plain, spec)
    made = func(*plain_args, **plain_kwargs)
    moved = name in _CROSSING and name != "aten::copy_" and args[0].device.type != there.type
    if moved and isinstance(made, Tensor) and id(made) in {id(v) for v in plain}:
        made = made.clone()  # what goes to another device is another tensor
    if there.type == "cpu":
        return made

    def placed(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        known = wrappers.get(id(value))
        kind.check_dtype(value.dtype)
        if known is None:
            with torch.inference_mode(value.is_inference()):  # a view is what its base is
                return OnCard(value, kind.device)
        if known.shape != value.shape or known.stride() != value.stride():
            raise NotImplementedError(f"{func} gives a tensor of the card another shape")
        return known

    return tree_map(placed, made)


def _plain(value: Any) -> Any:
    if isinstance(value, OnCard):
        return value.held
    if isinstance(value, torch.device) and value.type in KINDS:
        return CPU
    return value


def _check_devices(func: Any, args: Sequence[Any], values: Sequence[Any]) -> None:
    """RuntimeError, as CUDA raises it, for tensors on different devices."""
    name, checked = func._schema.name, values
    if name in _PICKING:
        picked, indices = args[0], [i for i in args[1] if isinstance(i, Tensor)]
        if not isinstance(picked, OnCard) and any(isinstance(i, OnCard) for i in indices):
            raise RuntimeError(
                "indices should be either on cpu or on the same device as the indexed tensor (cpu)"
            )
        checked = [picked, *args[2:3]]
    tensors = [v for v in checked if isinstance(v, Tensor)]
    written = [
        a
        for a, argument in zip(args, func._schema.arguments, strict=False)
        if argument.alias_info is not None and argument.alias_info.is_write
    ]
    for tensor in tensors:
        number = tensor.dim() == 0 and name not in _WHOLE and not any(tensor is w for w in written)
        others = [v.device for v in tensors if isinstance(v, OnCard)]
        if tensor.device.type == "cpu" and not number and others:
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but found at least two devices, "
                f"{others[0]} and cpu! (when checking {func})"
            )


def _set_data(tensor: Tensor, value: Tensor) -> None:
    """`tensor.data = value`, which may be on the other device: whoever holds the tensor sees it."""
    if type(tensor) is not type(value) and (
        isinstance(tensor, OnCard) or isinstance(value, OnCard)
    ):
        if isinstance(tensor, nn.Parameter):
            value = nn.Parameter(value.detach(), requires_grad=tensor.requires_grad)
        torch.utils.swap_tensors(tensor, value)
        return
    _DATA.__set__(tensor, value)
    if isinstance(tensor, OnCard):
        tensor.held = cast(OnCard, value).held


def _to(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """`Tensor.to`; which card is meant by a device without a number is not asked of a driver."""

    def numbered(value: Any) -> Any:
        named = isinstance(value, (str, torch.device)) and str(value) in KINDS
        return KINDS[str(value)].device if named else value

    return _TO(tensor, *map(numbered, args), **{n: numbered(v) for n, v in kwargs.items()})


@contextmanager
def pretend_card(
    free: int = 16 * GIB, *, half: bool = False, gpu_only: bool = False, kind: KindOfCard = CUDA
) -> Iterator[None]:
    """Inside, ComfyUI has a card of 24 GiB with so many bytes free; a kind that has no memory of
    its own has the machine's. What is on it stays usable afterwards, for comparing.

    half: models in fp16 and bf16, as ComfyUI takes them for a card; else everything in fp32, so
    that values are the CPU's. gpu_only: as with --gpu-only, what goes over the wires is there.
    """
    import comfy.model_management as management
    from comfy.cli_args import args

    module = {CUDA: torch.cuda, MPS: torch.mps, XPU: torch.xpu}[kind]
    state = "SHARED" if kind is MPS else "HIGH_VRAM" if gpu_only else "NORMAL_VRAM"
    there: list[tuple[Any, str, Any]] = [
        (management, "cpu_state", management.CPUState["MPS" if kind is MPS else "GPU"]),
        (management, "vram_state", management.VRAMState[state]),
        (management, "current_loaded_models", []),
        (args, "gpu_only", gpu_only),
    ]
    if kind is MPS:
        there += [(management, "mac_version", lambda: (15, 0))]
        there += [(torch.backends.mps, "is_available", lambda: True)]
    if kind is XPU:
        there += [(management, "xpu_available", True)]
    if kind is not CUDA:  # as in a PyTorch that was built without it
        there += [(torch.version, "cuda", None), (torch.cuda, "_lazy_init", _no_cuda)]
        there += [(torch.nn.functional, "scaled_dot_product_attention", _attention)]
    if not half:
        there += [(args, f"fp32_{part}", True) for part in ("unet", "vae")]
        there += [(management, "lora_compute_dtype", lambda _: torch.float32)]
    with ExitStack() as stack:
        for name, answer in _answers(free).items():
            if hasattr(module, name):
                say = lambda *_, a=answer, **__: a  # noqa: E731
                stack.enter_context(mock.patch.object(module, name, say))
        stack.enter_context(mock.patch.object(torch, "Generator", _Generator))
        data = property(_DATA.__get__, _set_data)
        stack.enter_context(mock.patch.object(Tensor, "data", data, create=True))
        if kind is not CUDA:
            stack.enter_context(mock.patch.object(Tensor, "to", _to))
        else:
            stack.enter_context(mock.patch.object(Tensor, "pin_memory", lambda tensor, *_: tensor))
        for owner, name, value in there:
            stack.enter_context(mock.patch.object(owner, name, value))
        stack.enter_context(known_to_pytorch(kind))
        lifts_only = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)
        stack.callback(torch._C._set_only_lift_cpu_tensors, lifts_only)
        stack.enter_context(_Placing())
        yield


def _no_cuda() -> None:
    raise AssertionError("Torch not compiled with CUDA enabled")


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    *more: Any,
    **how: Any,
) -> Tensor:
    """What PyTorch has no kernel to choose for outside inference mode, as plain products."""
    if not isinstance(query, OnCard):
        return _SDPA(query, key, value, attn_mask, *more, **how)
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype).masked_fill(
            ~attn_mask, -math.inf
        )
    plain: Any = torch.ops.aten._scaled_dot_product_attention_math
    return plain(query, key, value, attn_mask, *more, **how)[0]


def _answers(free: int) -> dict[str, Any]:
    """What the functions of torch.cuda, torch.mps and torch.xpu give."""
    told = SimpleNamespace(
        name="pretended", major=9, minor=0, total_memory=24 * GIB, multi_processor_count=100
    )
    told.has_fp16 = True
    taken = told.total_memory - free
    answers: dict[str, Any] = {
        "is_available": True,
        "is_initialized": True,
        "is_bf16_supported": True,
        "device_count": 1,
        "current_device": 0,
        "get_device_name": told.name,
        "get_device_properties": told,
        "get_device_capability": (told.major, told.minor),
        "get_allocator_backend": "native",
        "mem_get_info": (free, told.total_memory),
        "memory_stats": {f"{what}_bytes.all.current": taken for what in ("active", "reserved")},
        "memory_allocated": 0,
        "max_memory_allocated": 0,
        "current_allocated_memory": 0,
        "driver_allocated_memory": 0,
        "recommended_max_memory": told.total_memory,
    }
    answers |= dict.fromkeys(("synchronize", "empty_cache", "ipc_collect", "set_device"))
    return answers | dict.fromkeys(("_lazy_init", "manual_seed", "manual_seed_all"))
