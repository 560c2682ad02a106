"""The micro VAE: 64 px pictures to 8 x 8 latents of 24 channels with unit variance, and back."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LATENT_CHANNELS = 24
DOWNSCALE = 8


class _Residual(nn.Module):
    """x + conv(silu(conv(silu(x)))); starts as the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.silu(self.conv1(F.silu(x))))


class MicroAutoencoder(nn.Module):
    """A linear encoder and a learned convolutional decoder.

    The encoder keeps the whitened principal components of 8 x 8 px patches
    (`start_from_components`): every channel has mean 0 and variance 1 over the world, so the
    diffusion model needs no scale factor. The decoder adds to their linear reconstruction what
    neighbouring patches and the world's sharp edges tell. No attention, no sampling.
    Pictures are (B, 3, H, W) in -1..1 with H and W multiples of 8.
    """

    def __init__(self, channels: int = LATENT_CHANNELS) -> None:
        super().__init__()
        self.linear_in = nn.Conv2d(3, channels, DOWNSCALE, stride=DOWNSCALE)
        self.linear_out = nn.Conv2d(channels, 3 * DOWNSCALE**2, 1)
        self.decoder = nn.Sequential(
            nn.Conv2d(channels, 128, 3, padding=1),
            _Residual(128),
            _Residual(128),
            nn.Conv2d(128, 4 * 96, 3, padding=1),
            nn.PixelShuffle(2),
            _Residual(96),
            _Residual(96),
            _Residual(96),
            nn.Conv2d(96, 4 * 48, 3, padding=1),
            nn.PixelShuffle(2),
            _Residual(48),
            nn.Conv2d(48, 12, 3, padding=1),
            nn.PixelShuffle(2),
        )
        nn.init.zeros_(self.decoder[-2].weight)
        nn.init.zeros_(self.decoder[-2].bias)

    def encode(self, x: Tensor) -> Tensor:
        """Whitened latents (B, C, H/8, W/8) of pictures (B, 3, H, W) in -1..1."""
        return self.linear_in(x)

    def decode(self, z: Tensor) -> Tensor:
        """Pictures (B, 3, H, W), about -1..1, of whitened latents."""
        return F.pixel_shuffle(self.linear_out(z), DOWNSCALE) + self.decoder(z)

    @torch.no_grad()
    def start_from_components(self, x: Tensor) -> None:
        """Set the linear maps to the whitened components of the patches of x (B, 3, H, W)."""
        patches = F.unfold(x, DOWNSCALE, stride=DOWNSCALE).transpose(1, 2).flatten(0, 1)  # (N, 192)
        mean = patches.mean(dim=0)
        values, vectors = torch.linalg.eigh(torch.cov((patches - mean).T))
        channels = self.linear_in.out_channels
        scale, basis = values[-channels:].sqrt(), vectors[:, -channels:].T  # (C,), (C, 192)
        whitening = basis / scale[:, None]
        self.linear_in.weight.copy_(whitening.view_as(self.linear_in.weight))
        self.linear_in.bias.copy_(-whitening @ mean)
        self.linear_out.weight.copy_((basis * scale[:, None]).T[:, :, None, None])
        self.linear_out.bias.copy_(mean)


def to_model_range(pictures: Tensor) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) float in -1..1."""
    return pictures.permute(0, 3, 1, 2).float().div(127.5).sub(1.0)
