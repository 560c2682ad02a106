"""Muon, in fp32 if asked: `torch.optim.Muon` iterates in bf16, ten times slower on plain CPUs."""

from collections.abc import Iterable

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of Newton-Schulz, as published


def orthogonal(g: Tensor, steps: int, dtype: torch.dtype | None = None) -> Tensor:
    """About the nearest matrix to g whose singular values are all one.

    Every step multiplies X from the left by a polynomial of X X^T, so all of them are gathered in
    one small matrix first, and the long side is walked twice, not twice a step. The two long
    products are in `dtype`.
    """
    a, b, c = COEFFICIENTS
    x = g.T if g.shape[0] > g.shape[1] else g
    x = (x / x.norm().clamp(min=1e-7)).to(dtype or g.dtype)
    gram = (x @ x.T).to(g.dtype)
    factor = torch.eye(len(gram), dtype=g.dtype, device=g.device)
    for step in range(steps):
        polynomial = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        polynomial.diagonal().add_(a)
        factor = polynomial @ factor
        if step < steps - 1:
            gram = polynomial @ gram @ polynomial
    x = (factor.to(x.dtype) @ x).to(g.dtype)
    return x.T if g.shape[0] > g.shape[1] else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, made orthogonal, at the step size that matches AdamW's.

    For matrices, and for convolutions as matrices (out, in * h * w). `dtype` is that of the
    iteration, None for the parameters' own.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        weight_decay: float = 0.01,
        momentum: float = 0.95,
        ns_steps: int = 4,
        dtype: torch.dtype | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "ns_steps": ns_steps,
        }
        super().__init__(params, defaults)
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure=None) -> None:
        """One update of every matrix with a gradient."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                if p.ndim < 2:
                    raise ValueError(f"Muon: a parameter of shape {tuple(p.shape)} is no matrix")
                gradient = p.grad.flatten(1)
                state = self.state[p]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(gradient)
                momentum = state["momentum"]
                momentum.lerp_(gradient, 1 - group["momentum"])
                ahead = gradient.lerp(momentum, group["momentum"])
                update = orthogonal(ahead, group["ns_steps"], self.dtype)
                p.mul_(1 - group["lr"] * group["weight_decay"])
                size = 0.2 * max(gradient.shape) ** 0.5
                p.add_(update.view(p.shape), alpha=-group["lr"] * size)
