"""AttentionLook: the queries and keys of a model of the moment, on one fixed noisy photo.

Shapes: B timesteps, C latent channels, Y X latent pixels, P pixels of a layer, T tokens, E width of
a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from ..data.draws import step_generator
from ..data.tokens import TokenizedText
from ..models.conditioning import Conditioning, Embeddings
from ..models.protocol import Model, See, TextAttention

Predict = Callable[[Tensor, Tensor, Conditioning], Tensor]
"""As Model.denoise."""


class Seen(NamedTuple):
    """One layer of the forward pass, a sample for each timestep."""

    layer: TextAttention
    queries: Tensor
    """(B, P, E)"""
    keys: Tensor
    """(B, T, E)"""


class AttentionLook:
    """Shows the same photo with the same noise whenever it is asked. Takes no part in a training:
    same weights, same losses, with and without it."""

    def __init__(self, latent: Tensor, timesteps: Sequence[int], seed: int) -> None:
        """`latent` (1, C, Y, X) of the photo; `timesteps` in 0..999; `seed` of the noise."""
        self.latent, self._timesteps, self._seed = latent, tuple(timesteps), seed

    @torch.no_grad()
    def __call__(
        self, model: Model, predict: Predict, prompt: TokenizedText, embeddings: Embeddings
    ) -> list[Seen]:
        """What every layer sees of the photo under a prompt with these vectors."""
        device, count = model.device, len(self._timesteps)
        z0_BCYX = self.latent.to(device).expand(count, -1, -1, -1)
        noise = torch.randn(self.latent.shape, generator=step_generator("watch", self._seed))
        noise = noise.to(device)
        t_B = torch.tensor(self._timesteps, device=device)
        z_t_BCYX = model.diffusion.add_noise(z0_BCYX, noise.expand_as(z0_BCYX), t_B)
        vectors = {name: value.to(device) for name, value in embeddings.items()}
        taken: list[Seen] = []
        try:
            conditioning = Conditioning.joined([model.encode_text(prompt, vectors)] * count)
            with _observed(model.text_attention(), taken):
                predict(z_t_BCYX, t_B, conditioning)
        finally:  # also where the look does not fit: the training that follows does
            if not any(vectors.requires_grad for vectors in embeddings.values()):
                model.offload_text_encoder()
        return taken


@contextmanager
def _observed(layers: Sequence[TextAttention], taken: list[Seen]) -> Iterator[None]:
    """Gathers queries and keys of these layers of the forward made inside."""

    def taker(layer: TextAttention) -> See:
        return lambda q_BPE, k_BTE: taken.append(Seen(layer, q_BPE, k_BTE))

    handles = [layer.observe(taker(layer)) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
