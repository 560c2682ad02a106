"""The forward process and the prediction target (docs/formulas.md, The denoising loss).

Shapes: B batch, C latent channels, Y X latent pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

PredictionType = Literal["epsilon", "v"]


def scaled_linear_alphas_cumprod(
    timesteps: int = 1000, beta_start: float = 0.00085, beta_end: float = 0.012
) -> Tensor:
    """abar_t of Stable Diffusion's schedule, shape (timesteps,), fp64."""
    betas = torch.linspace(beta_start**0.5, beta_end**0.5, timesteps, dtype=torch.float64) ** 2
    return torch.cumprod(1.0 - betas, dim=0)


@dataclass(frozen=True, kw_only=True)
class Diffusion:
    """The forward process and what the model predicts of it."""

    alphas_cumprod: Tensor
    """abar_t, shape (T,)."""
    prediction_type: PredictionType
    """`epsilon` (SD 1.5, SD 2.1-base) or `v` (SD 2.1-768)."""

    def __post_init__(self) -> None:
        if self.prediction_type not in ("epsilon", "v"):
            raise ValueError(f"prediction_type = {self.prediction_type!r}: use epsilon or v")

    @property
    def timesteps(self) -> int:
        """T, the number of noise levels."""
        return len(self.alphas_cumprod)

    def to(self, device: torch.device) -> Diffusion:
        """The same, its schedule on a device: in fp32, as it is used; not every one has fp64."""
        return replace(self, alphas_cumprod=self.alphas_cumprod.float().to(device))

    def _abar(self, t: Tensor) -> Tensor:
        return self.alphas_cumprod.float().to(t.device)[t]

    def _scales(self, t: Tensor) -> tuple[Tensor, Tensor]:
        abar_B111 = self._abar(t)[:, None, None, None]
        return abar_B111.sqrt(), (1.0 - abar_B111).sqrt()

    def add_noise(self, z0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """z_t = sqrt(abar_t) z_0 + sqrt(1 - abar_t) eps."""
        signal, sigma = self._scales(t)
        return signal * z0 + sigma * noise

    def target(self, z0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """What the U-Net should output: eps, or v = sqrt(abar) eps - sqrt(1 - abar) z_0."""
        if self.prediction_type == "epsilon":
            return noise
        signal, sigma = self._scales(t)
        return signal * noise - sigma * z0

    def min_snr_weights(self, t: Tensor, gamma: float) -> Tensor:
        """Weight (B,) of each sample's loss: min(SNR, gamma) / SNR, or / (SNR + 1) for v
        (Hang et al. 2023, section 3.4), with SNR = abar / (1 - abar)."""
        abar_B = self._abar(t)
        snr_B = abar_B / (1.0 - abar_B).clamp_min(1e-8)
        clamped_B = snr_B.clamp_max(gamma)
        return clamped_B / (snr_B + 1.0 if self.prediction_type == "v" else snr_B)
