"""AdamWInBackward: AdamW inside the backward pass, on bf16 weights, for cards with little memory.

Every weight is updated the moment its gradient is there, and the gradient is dropped: all of them
together never exist. Matrices and both running means are bf16 and are rounded by chance; the
arithmetic of an update is fp32, in pieces.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from ..data.draws import step_generator
from ..models.precision import round_stochastically

PIECE = 1 << 22
"""Values that are updated at once: 16 MiB in fp32."""

Mode = Literal["update", "gather", "drop"]


def update_bytes(parameters: Sequence[Tensor]) -> int:
    """What an update in the backward pass holds at most: a piece of a weight, its gradient, both
    means, and the noise and the sums that round them, in 32 bits."""
    return 7 * 4 * min(PIECE, max(parameter.numel() for parameter in parameters))


def has_fused_adamw(device: torch.device) -> bool:
    """Whether AdamW's update is one kernel there."""
    return device.type in ("cuda", "cpu")


class AdamWInBackward(torch.optim.Optimizer):
    """AdamW (Loshchilov & Hutter 2019) over hooks on the gradients. A context manager.

    What a gradient does when it arrives is `mode`: `update` the weight, `gather` it in fp32 for the
    next backward pass (micro-batches), or `drop` it (a trial of the memory).
    """

    def __init__(
        self,
        parameters: Sequence[nn.Parameter] | Sequence[dict[str, Any]],
        *,
        lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
        seed: int,
    ) -> None:
        """`seed`: of the rounding."""
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(parameters, defaults)
        self.mode: Mode = "drop"
        self._seed = seed
        self._gathered: dict[nn.Parameter, Tensor] = {}
        every = [(n, p) for n, g in enumerate(self.param_groups) for p in g["params"]]
        self._places = {p: (number, index) for index, (number, p) in enumerate(every)}
        """Of a parameter: its group's number, for a checkpoint brings new groups, and its own."""
        self._handles: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> AdamWInBackward:
        for parameter in self._places:
            handle = parameter.register_post_accumulate_grad_hook(self._on_gradient)
            self._handles.append(handle)
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._gathered.clear()

    @contextmanager
    def room_taken(self) -> Iterator[None]:
        """Inside, all that updates will need is taken: both means of every weight, from now on, and
        the memory of an update. What fits beside it fits beside them."""
        for parameter in self._places:
            self._state_of(parameter)
        device = next(iter(self._places)).device
        pieces = torch.empty(update_bytes(list(self._places)), dtype=torch.uint8, device=device)
        yield
        del pieces

    def step(self, closure: Any = None) -> None:
        """Updates what the last backward pass did not reach; mostly that is nothing."""
        for parameter in list(self._gathered):
            self._update(parameter, self._gathered.pop(parameter))

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets what was gathered."""
        super().zero_grad(set_to_none)
        self._gathered.clear()

    def _on_gradient(self, parameter: nn.Parameter) -> None:
        gradient, parameter.grad = parameter.grad, None
        if gradient is None or self.mode == "drop":
            return
        if parameter in self._gathered:
            gradient = self._gathered.pop(parameter).add_(gradient)
        if self.mode == "gather":
            self._gathered[parameter] = gradient.float()
        else:
            self._update(parameter, gradient)

    def _state_of(self, parameter: nn.Parameter) -> dict[str, Any]:
        state = self.state[parameter]
        if not state:
            means = {name: torch.zeros_like(parameter.data) for name in ("exp_avg", "exp_avg_sq")}
            state.update(step=0, **means)
        return state

    @torch.no_grad()
    def _update(self, parameter: nn.Parameter, gradient: Tensor) -> None:
        number, index = self._places[parameter]
        group = self.param_groups[number]
        state = self._state_of(parameter)
        generator = torch.Generator(parameter.device)
        key = ("round", self._seed, index, state["step"])
        generator.manual_seed(step_generator(*key).initial_seed())
        fused = has_fused_adamw(parameter.device)
        # the fused kernel takes the step counter on the device; without it the host reads the
        # counter for every piece, and would wait for a device (MPS, XPU) that had it
        count = torch.full((), float(state["step"]), device=parameter.device if fused else "cpu")
        state["step"] += 1
        kept = [t.view(-1) for t in (parameter.data, state["exp_avg"], state["exp_avg_sq"])]
        for start in range(0, parameter.numel(), PIECE):
            piece = slice(start, start + PIECE)
            weight, mean, square = (tensor[piece].float() for tensor in kept)
            adamw(
                [weight],
                [gradient.view(-1)[piece].float()],
                [mean],
                [square],
                [],
                [count.clone()],
                fused=fused,
                amsgrad=False,
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                lr=group["lr"],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                maximize=False,
            )
            for tensor, value in zip(kept, (weight, mean, square), strict=True):
                if tensor.dtype == torch.bfloat16:
                    tensor[piece] = round_stochastically(value, generator)
