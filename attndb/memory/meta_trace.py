"""MetaTrace: a training step on the meta device, and the most bytes that its tensors would hold.

Meta tensors have a shape, a precision and no memory, so the step costs no more than its Python.
Everything else is the real thing: the modules, autograd and what it saves, gradient checkpointing,
the attention tap. Where the meta device would choose otherwise than the real one, the trace
stands in for it: attention is fused where it is there, and autocast casts what it would cast there.

Shapes: B batch, H heads, P queries, T keys, D head dim.
"""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

META = torch.device("meta")
_Module = TypeVar("_Module", bound=nn.Module)

# PyTorch's "Autocast Op Reference", as far as a U-Net and a text encoder use it.
_TO_BF16: set[Any] = {
    *(F.linear, F.conv1d, F.conv2d, F.conv3d, F.conv_transpose2d, F.scaled_dot_product_attention),
    *(torch.matmul, torch.mm, torch.bmm, torch.baddbmm, torch.addmm, torch.einsum),
    *(Tensor.matmul, Tensor.__matmul__, Tensor.mm, Tensor.bmm, Tensor.baddbmm, Tensor.addmm),
}
_TO_FP32_ON_A_CARD: set[Any] = {
    *(F.layer_norm, F.group_norm, F.softmax, F.mse_loss, F.softplus),
    *(torch.layer_norm, torch.group_norm, torch.softmax, torch.exp, torch.pow, torch.rsqrt),
    *(Tensor.softmax, Tensor.exp, Tensor.pow, Tensor.__pow__, Tensor.rsqrt),
    *(torch.sum, torch.prod, torch.norm, Tensor.sum, Tensor.prod, Tensor.norm),
}


def on_meta_device(module: _Module) -> _Module:
    """A copy whose parameters and buffers are on the meta device. The module is only read."""
    memo: dict[int, Any] = {}
    for tensor in [*module.parameters(), *module.buffers()]:
        twin: Tensor = torch.empty_like(tensor, device=META)
        if isinstance(tensor, nn.Parameter):
            twin = nn.Parameter(twin, requires_grad=tensor.requires_grad)
        memo[id(tensor)] = twin
    return copy.deepcopy(module, memo)


def unique_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of some tensors' storages, each counted once."""
    storages = {s._cdata: s.nbytes() for s in (t.untyped_storage() for t in tensors)}
    return sum(storages.values())


class Ledger(TorchDispatchMode):
    """Bytes of the tensors made inside a `with` and still alive. Serves on any device."""

    def __init__(self, held: Iterable[Tensor] = ()) -> None:
        """`held`: tensors from before that do not count, whatever is done with them."""
        super().__init__()
        self.live = 0
        self.peak = 0
        self._known: dict[int, Any] = {}
        for tensor in held:
            storage = tensor.untyped_storage()
            self._known[storage._cdata] = storage

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        for one in made if isinstance(made, (tuple, list)) else (made,):
            if isinstance(one, Tensor):
                self._note(one.untyped_storage())
        return made

    def _note(self, storage: Any) -> None:
        key = storage._cdata
        if key in self._known:
            return
        count = storage.nbytes()

        def gone(_: object) -> None:
            self.live -= count
            self._known.pop(key, None)

        self._known[key] = weakref.ref(storage, gone)
        self.live += count
        self.peak = max(self.peak, self.live)


class MetaTrace:
    """Work on the meta device as `device` would do it. A context manager."""

    def __init__(self, device: torch.device, held: Iterable[Tensor]) -> None:
        """`held`: the weights, which the peak leaves out."""
        self._standing_in = _StandIn(device.type)
        self._ledger = _MetaLedger(held, self._standing_in.forget_casts)
        self._entered = ExitStack()

    @property
    def peak(self) -> int:
        """The most bytes that were alive at once."""
        return self._ledger.peak

    def __enter__(self) -> MetaTrace:
        if gc.isenabled():  # looking for cycles takes as long as the rest, and there are none
            gc.disable()
            self._entered.callback(gc.enable)
        self._entered.enter_context(self._ledger)
        self._entered.enter_context(self._standing_in)
        return self

    def __exit__(self, *_: object) -> None:
        self._entered.close()
        self._standing_in.forget_casts()


def backward(loss: Tensor) -> None:
    """The backward pass of a scalar inside a trace.

    PyTorch's own `backward` is overridable and so runs with the innermost function mode put aside;
    then what gradient checkpointing recomputes would be without the stand-ins. This is the call
    inside it.
    """
    engine = torch.autograd.Variable._execution_engine
    engine.run_backward(
        (loss,), (torch.ones_like(loss),), False, False, (), True, accumulate_grad=True
    )


class _MetaLedger(Ledger):
    """Also ends the life of autocast's copies of weights where autocast ends."""

    def __init__(self, held: Iterable[Tensor], forget_casts: Callable[[], None]) -> None:
        super().__init__(held)
        self._forget_casts = forget_casts

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        torch.autocast_increment_nesting()
        if torch.autocast_decrement_nesting() == 0:  # the only way to ask how deep it is
            self._forget_casts()
        return super().__torch_dispatch__(_SHAPES.get(func, func), types, args, kwargs)


def _group_norm(
    x: Tensor, weight: Any, bias: Any, n: int, c: int, hw: int, groups: int, _: float
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(x), x.new_empty(n, groups), x.new_empty(n, groups)


def _group_norm_backward(
    gradient: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, weight: Any, *rest: Any
) -> tuple[Tensor | None, ...]:
    return _gradients(rest[-1], x, weight, weight)


def _layer_norm(x: Tensor, shape: list[int], *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    rows = (*x.shape[: -len(shape)], *(1 for _ in shape))
    mean, rstd = (x.new_empty(rows, dtype=torch.float32) for _ in range(2))
    return torch.empty_like(x), mean, rstd


def _layer_norm_backward(
    gradient: Tensor, x: Tensor, shape: Any, mean: Any, rstd: Any, weight: Any, bias: Any, mask: Any
) -> tuple[Tensor | None, ...]:
    return _gradients(mask, x, weight, bias)


def _gradients(wanted: list[bool], *of: Tensor) -> tuple[Tensor | None, ...]:
    return tuple(torch.empty_like(t) if w else None for w, t in zip(wanted, of, strict=True))


def _elementwise(plain: Any) -> Callable[..., Any]:
    """`plain`; of two tensors of one precision and layout, or of one and a number, like it."""

    def made(x: Any, other: Any, *rest: Any, **options: Any) -> Any:
        if isinstance(other, Tensor):
            alike = x.shape == other.shape and x.stride() == other.stride()
            alike = alike and x.dtype == other.dtype and x.device == other.device
        else:
            alike = x.is_floating_point() and isinstance(other, (int, float))
        return torch.empty_like(x) if alike and x.is_meta else plain(x, other, *rest, **options)

    return made


def _addmm(bias: Tensor, a: Tensor, b: Tensor, **options: Any) -> Tensor:
    if not a.is_meta:
        return torch.ops.aten.addmm.default(bias, a, b, **options)
    return a.new_empty(a.shape[0], b.shape[1])


# PyTorch finds the shapes of these by working through their formulas: half of the time.
_SHAPES: dict[Any, Callable[..., Any]] = {
    torch.ops.aten.native_group_norm.default: _group_norm,
    torch.ops.aten.native_group_norm_backward.default: _group_norm_backward,
    torch.ops.aten.native_layer_norm.default: _layer_norm,
    torch.ops.aten.native_layer_norm_backward.default: _layer_norm_backward,
    torch.ops.aten.addmm.default: _addmm,
    **{
        op: _elementwise(op)
        for op in (
            *(torch.ops.aten.add.Tensor, torch.ops.aten.sub.Tensor),
            *(torch.ops.aten.mul.Tensor, torch.ops.aten.div.Tensor),
        )
    },
}


_FUSED = ("cpu", "cuda")
"""Kinds of devices whose fused attention has a backward pass. Elsewhere (of MPS see PyTorch's pull
request 182746) a training has it written out: every pixel's attention to every other."""


class _StandIn(TorchFunctionMode):
    """Attention and autocast for meta tensors, as on a kind of device."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self._to_fp32 = _TO_FP32_ON_A_CARD if kind != "cpu" else set()
        self._attention = _fused_attention if kind in _FUSED else _attention_written_out
        self._casts: dict[int, Tensor] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if torch.is_autocast_enabled("cpu"):
            dtype = None
            if func in _TO_BF16:
                dtype = torch.bfloat16
            elif func in self._to_fp32:
                dtype = torch.float32
            if dtype is not None:
                args = [self._cast(value, dtype) for value in args]
                kwargs = {name: self._cast(value, dtype) for name, value in kwargs.items()}
        if func is F.scaled_dot_product_attention:
            return self._attention(*args, **kwargs)
        return func(*args, **kwargs)

    def forget_casts(self) -> None:
        """As autocast does at its end."""
        if self._casts:
            self._casts.clear()

    def _cast(self, value: Any, dtype: torch.dtype) -> Any:
        if isinstance(value, (list, tuple)):
            return type(value)(self._cast(one, dtype) for one in value)
        if not isinstance(value, Tensor) or not value.is_floating_point():
            return value
        if value.dtype in (dtype, torch.float64):
            return value
        if not (isinstance(value, nn.Parameter) and value.requires_grad):
            return value.to(dtype)
        if id(value) not in self._casts:  # autocast keeps those of trained weights
            self._casts[id(value)] = value.to(dtype)
        return self._casts[id(value)]


class _FusedAttention(torch.autograd.Function):
    """What the fused kernels keep: q, k, v, the output and the log-sum-exp of every row."""

    @staticmethod
    def forward(ctx: Any, q_BHPD: Tensor, k_BHTD: Tensor, v_BHTD: Tensor, mask: Any) -> Tensor:
        out_BHPD = _rows_last(q_BHPD, v_BHTD.shape[-1])
        log_sum_BHP = q_BHPD.new_empty(q_BHPD.shape[:-1], dtype=torch.float32)
        ctx.save_for_backward(q_BHPD, k_BHTD, v_BHTD, mask, out_BHPD, log_sum_BHP)
        return out_BHPD

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q_BHPD, k_BHTD, v_BHTD, *_ = ctx.saved_tensors
        made = [_rows_last(like, like.shape[-1]) for like in (q_BHPD, k_BHTD, v_BHTD)]
        return made[0], made[1], made[2], None


def _rows_last(like: Tensor, width: int) -> Tensor:
    """(..., H, P, width), laid out as (..., P, H, width): the fused kernels' output."""
    *batch, heads, rows, _ = like.shape
    return like.new_empty((*batch, rows, heads, width)).transpose(-3, -2)


def _fused_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **_: Any
) -> Any:
    return _FusedAttention.apply(query, key, value, attn_mask)


def _attention_written_out(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **_: Any
) -> Tensor:
    scale = query.shape[-1] ** -0.25
    scores_BHPT = (query * scale) @ (key * scale).transpose(-1, -2)
    if attn_mask is not None:
        scores_BHPT = scores_BHPT + attn_mask
    attention_BHPT = scores_BHPT.softmax(dim=-1)
    del scores_BHPT
    return attention_BHPT @ value
