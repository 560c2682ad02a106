"""One step of the host's own LoRA trainer, and the regulariser that it is held against."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .gradients import gradient

SIDE = 8


@dataclass
class Recorder:
    """An optimiser that changes nothing and keeps the gradients that it was to step along."""

    params: list[Tensor]
    steps: list[list[Tensor]] = field(default_factory=list)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [{"params": self.params}]

    def step(self) -> None:
        self.steps.append([gradient(p).clone() for p in self.params])

    def zero_grad(self) -> None:
        for p in self.params:
            p.grad = None


class Scaler:
    """As torch's GradScaler for fp16."""

    def get_scale(self) -> float:
        return 1024.0

    def scale(self, loss: Tensor) -> Tensor:
        return loss * 1024.0

    def unscale_(self, optimizer: Recorder) -> None:
        for p in optimizer.params:
            gradient(p).div_(1024.0)

    def step(self, optimizer: Recorder) -> None:
        optimizer.step()

    def update(self) -> None: ...


def trainable(model: Any) -> Any:
    with torch.inference_mode(False):
        for name in ("diffusion_model", "model_sampling"):
            setattr(model.model, name, copy.deepcopy(getattr(model.model, name)))
        model.model.requires_grad_(False)
        for module in attn2_of(model).values():
            module.requires_grad_(True)
    return model


def attn2_of(model: Any) -> dict[str, Any]:
    found = model.model.diffusion_model.named_modules()
    return {name: module for name, module in found if name.endswith("attn2")}


def gradients(
    model: Any,
    positive: list[Any],
    *,
    add: Callable[[], Any] | None = None,
    images: int = 1,
    batch: int = 1,
    accumulate: int = 1,
    depth: int = 0,
    sizes: list[tuple[int, int]] | None = None,
    bucket: bool = False,
    scaler: Any = None,
) -> tuple[list[float], list[Tensor]]:
    """Losses and gradients of one optimiser step of the host's trainer on fixed latents and noise.

    add: a loss that is added to the trainer's own of each forward pass.
    """
    from comfy_extras import nodes_train

    with torch.inference_mode(False), torch.enable_grad():
        modules = attn2_of(model).values()
        params = [m.weight for a in modules for m in (a.to_q, a.to_k, a.to_v)]
        optimizer, losses = Recorder(params), []
        mse = torch.nn.MSELoss()
        generator = torch.Generator().manual_seed(3)
        shapes = sizes or [(SIDE, SIDE)] * images
        latents = [torch.randn(1, 4, *shape, generator=generator) for shape in shapes]
        several: Any = latents if sizes else torch.cat(latents)
        if bucket:
            several = [torch.cat(latents[:2]), torch.cat(latents[2:])]
        sampler = nodes_train.TrainSampler(
            lambda pred, x0: mse(pred, x0) + (0.0 if add is None else add()),
            optimizer,
            loss_callback=losses.append,
            batch_size=batch,
            grad_acc=accumulate,
            total_steps=accumulate,
            seed=5,
            training_dtype=torch.float32,
            real_dataset=latents if sizes and not bucket else None,
            **({"bucket_latents": several} if bucket else {}),
        )
        if scaler is not None:
            sampler.grad_scaler = scaler
        guider = nodes_train.TrainGuider(model)
        guider.set_conds([entry for encoded in positive for entry in encoded])
        patched = []
        if depth:
            patched = nodes_train.find_modules_at_depth(model.model.diffusion_model, depth=depth)
        torch.manual_seed(11)
        try:
            for module in patched:
                nodes_train.patch(module)
            nodes_train._run_training_loop(
                guider, sampler, several, len(shapes), 5, bucket, bool(sizes) and not bucket
            )
        finally:
            for module in patched:
                nodes_train.unpatch(module)
    assert len(optimizer.steps) == 1
    return losses, optimizer.steps[0]


class SlowRegularizer:
    """L_reg of the last forward pass: explicit softmax in fp64, by hooks on the projections.

    columns: of each conditioning of the batch in the order of the model's rows, None for one
    without both words; with the tokens that it has.
    """

    def __init__(
        self,
        model: Any,
        columns: list[tuple[tuple[int, ...], int] | None],
        weights: tuple[float, float],
        times: float = 1.0,
    ) -> None:
        self.layers = attn2_of(model)
        self.columns, self.weights, self.times = columns, weights, times
        self.seen: dict[str, dict[str, Tensor]] = {name: {} for name in self.layers}

    def __enter__(self) -> Callable[[], Tensor]:
        self.handles = []
        for name, module in self.layers.items():
            for part in ("to_q", "to_k"):
                note = lambda _m, _i, out, at=(name, part): self.note(at, out)  # noqa: E731
                self.handles.append(getattr(module, part).register_forward_hook(note))
        return self.loss

    def __exit__(self, *_: object) -> None:
        for handle in self.handles:
            handle.remove()

    def note(self, at: tuple[str, str], out: Tensor) -> None:
        self.seen[at[0]][at[1]] = out

    def loss(self) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for name, module in self.layers.items():
            q, k = self.seen[name]["to_q"].double(), self.seen[name]["to_k"].double()
            size = len(q) // len(self.columns)
            for row in range(len(q)):
                place = self.columns[row // size]
                if place is not None:
                    total = total + self.sample(q[row], k[row], module.heads, *place)
        return self.times * total / len(self.layers) / len(self.columns)

    def sample(self, q: Tensor, k: Tensor, heads: int, columns: tuple[int, ...], tokens: int):
        maps: list[Tensor] = []
        for head in torch.arange(q.shape[-1]).chunk(heads):
            weights = (q[:, head] @ k[:, head].T / len(head) ** 0.5).softmax(dim=1)
            folded = weights.unflatten(1, (-1, tokens)).sum(dim=1)  # a repeated prompt counts whole
            maps.append(folded[:, list(columns)])
        new, tied = torch.cat(maps).T
        mean, variance = (new.mean() - tied.mean()) ** 2, (new.var() - tied.var()) ** 2
        return self.weights[0] * mean + self.weights[1] * variance
