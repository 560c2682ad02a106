"""What all methods share: the denoising loss of a model, and its text states.

Shapes: B batch, C latent channels, Y X latent pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from ..config.stage import StageConfig
from ..data.batch import Batch
from ..data.tokens import TokenizedText
from ..losses.denoising import denoising_loss
from ..models.conditioning import Conditioning, Embeddings
from ..models.precision import autocast, computes_in_bf16
from ..models.protocol import Model


class Denoising:
    """A model asked in the precision of the settings."""

    def __init__(self, model: Model, config: StageConfig) -> None:
        self._model, self._config = model, config
        self._diffusion = model.diffusion.to(model.device)
        self.bf16 = config.low_memory or computes_in_bf16(config.precision, model.device)

    def predict(self, z_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """The denoiser's output, (B, C, Y, X)."""
        with autocast(self._model.device, self.bf16):
            return self._model.denoise(z_t, t, conditioning)

    def loss(
        self, batch: Batch, conditioning: Conditioning, normalizer: float | None = None
    ) -> Tensor:
        """L_diff of samples on the device, divided by `normalizer`."""
        z0_BCYX, noise_BCYX, t_B = batch.latents, batch.noise, batch.timesteps
        z_t_BCYX = self._diffusion.add_noise(z0_BCYX, noise_BCYX, t_B)
        prediction_BCYX = self.predict(z_t_BCYX, t_B, conditioning)
        target_BCYX = self._diffusion.target(z0_BCYX, noise_BCYX, t_B)
        weights_B = self._weights(t_B)
        return denoising_loss(prediction_BCYX, target_BCYX, batch.mask, normalizer, weights_B)

    def distance(
        self,
        base: Callable[[], AbstractContextManager[None]],
        batch: Batch,
        conditioning: Conditioning,
        normalizer: float | None = None,
    ) -> Tensor:
        """||eps_theta(z_t, t, c) - sg eps_base(z_t, t, c)||^2 of samples on the device, weighted
        and divided as L_diff (docs/formulas.md, Beyond the paper). Inside `base()` the model is
        the base."""
        t_B = batch.timesteps
        z_t_BCYX = self._diffusion.add_noise(batch.latents, batch.noise, t_B)
        with torch.no_grad(), base():
            target_BCYX = self.predict(z_t_BCYX, t_B, conditioning)
        prediction_BCYX = self.predict(z_t_BCYX, t_B, conditioning)
        weights_B = self._weights(t_B)
        return denoising_loss(prediction_BCYX, target_BCYX, batch.mask, normalizer, weights_B)

    def _weights(self, t_B: Tensor) -> Tensor | None:
        if not self._config.min_snr_gamma:
            return None
        return self._diffusion.min_snr_weights(t_B, self._config.min_snr_gamma)


class TextStates:
    """Text states of prompts: computed anew where the vectors in them learn, else once."""

    def __init__(self, model: Model, embeddings: Embeddings, bf16: bool) -> None:
        """`embeddings`: of this training; those that require a gradient learn."""
        self._model, self._embeddings, self._bf16 = model, embeddings, bf16
        self._learns = any(vectors.requires_grad for vectors in embeddings.values())
        self._kept: dict[TokenizedText, Conditioning] = {}

    def __call__(self, prompts: Sequence[TokenizedText]) -> Conditioning:
        """Of one prompt per sample."""
        fresh = {
            prompt: self._encode(prompt)
            for prompt in dict.fromkeys(prompts)
            if prompt not in self._kept
        }
        if fresh and not self._learns:
            self._model.offload_text_encoder()
        return Conditioning.joined([fresh.get(p) or self._kept[p] for p in prompts])

    def _encode(self, prompt: TokenizedText) -> Conditioning:
        # an encoder that every step runs through is kept in bf16 (Learner.modules)
        bf16 = self._bf16 and self._learns
        if self._learns and None in prompt.tokens:
            with autocast(self._model.device, bf16):
                return self._model.encode_text(prompt, self._embeddings)
        with torch.no_grad(), autocast(self._model.device, bf16):
            self._kept[prompt] = self._model.encode_text(prompt, self._embeddings)
        return self._kept[prompt]

    def clear(self) -> None:
        """Forgets all states."""
        self._kept.clear()
