"""Batch: what one optimiser step trains on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from .tokens import TokenizedText


@dataclass(frozen=True)
class Batch:
    """What one optimiser step trains on."""

    latents: Tensor
    noise: Tensor
    timesteps: Tensor
    prompts: tuple[TokenizedText, ...]
    """One per sample."""
    mask: Tensor | None = None
    """Weight of every latent pixel in the loss; None counts all."""
    prior: Batch | None = None
    """Samples of the category for prior preservation; the regulariser does not look at them."""
    prior_weight: float = 1.0
    """What the denoising loss of the prior samples counts."""
    is_prior: bool = False
    """Whether these are prior samples themselves."""
    subject: Tensor | None = None
    """(B, 1, Y, X) share of subject in every latent pixel, where masks say it."""
    of_base: bool = False
    """Whether the base model's prediction for these samples is what is learned."""
    others: tuple[Batch, ...] = ()
    """Samples of the same step whose latents have other shapes, a batch for each shape."""
    sizes: Tensor | None = None
    """(B, 6) pixels of photo and crop (crop_sizes.py), for a model that is told them."""
    reference: Tensor | None = None
    """(B, C, Y, X) latents of another photo for every sample, for a method that looks at one."""

    def __len__(self) -> int:
        return len(self.timesteps)

    def to(self, device: torch.device) -> Batch:
        """On a device; a copy to a CUDA card is queued, not waited for."""
        return Batch(
            _sent(self.latents, device),
            _sent(self.noise, device),
            _sent(self.timesteps, device),
            self.prompts,
            None if self.mask is None else _sent(self.mask, device),
            None if self.prior is None else self.prior.to(device),
            self.prior_weight,
            self.is_prior,
            None if self.subject is None else _sent(self.subject, device),
            self.of_base,
            tuple(other.to(device) for other in self.others),
            None if self.sizes is None else _sent(self.sizes, device),
            None if self.reference is None else _sent(self.reference, device),
        )

    @property
    def shapes(self) -> tuple[Batch, ...]:
        """All samples of the subject, those of one shape together."""
        return (self, *self.others)

    def part(self, start: int, stop: int) -> Batch:
        """Samples start..stop as a batch of their own, without prior samples and other shapes."""
        piece = slice(start, stop)
        return Batch(
            self.latents[piece],
            self.noise[piece],
            self.timesteps[piece],
            self.prompts[piece],
            None if self.mask is None else self.mask[piece],
            prior_weight=self.prior_weight,
            is_prior=self.is_prior,
            subject=None if self.subject is None else self.subject[piece],
            of_base=self.of_base,
            sizes=None if self.sizes is None else self.sizes[piece],
            reference=None if self.reference is None else self.reference[piece],
        )

    def for_base(self) -> Batch:
        """The same noisy latents, whole, under the prompts of the plain category: what the base
        model is asked for in prior by prediction."""
        plain = tuple(prompt.without_placeholder() for prompt in self.prompts)
        others = tuple(other.for_base() for other in self.others)
        told = (self.latents, self.noise, self.timesteps, plain)
        return Batch(*told, of_base=True, others=others, sizes=self.sizes)

    def parts(self, size: int) -> Iterator[Batch]:
        """The samples in order, up to `size` at a time, shape by shape, then the prior samples in
        the same way."""
        for one in self.shapes:
            for start in range(0, len(one), size):
                yield one.part(start, start + size)
        if self.prior is not None:
            prior = replace(self.prior, prior_weight=self.prior_weight, is_prior=True)
            yield from prior.parts(size)


def _sent(tensor: Tensor, device: torch.device) -> Tensor:
    """Only CUDA's allocator keeps a source until it is copied: on MPS it would be freed before."""
    if device.type != "cuda":
        return tensor.to(device)
    if tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


class BatchSource(Protocol):
    """Where the trainer takes batches from."""

    def __getitem__(self, step: int, /) -> Batch: ...
