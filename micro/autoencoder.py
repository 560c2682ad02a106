"""The autoencoder: 128 px pictures to 16 x 16 latents of 32 channels, and back."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LATENT_CHANNELS = 32
DOWNSCALE = 8
WEIGHT = 0.3  # of a component's spread in its latent channel: 0 is whitening, 1 plain components
STRONGEST, ORDER = 1.4, 0.6  # of `put_in_order`: spread of the strongest channel, power of the rest


class Residual(nn.Module):
    """x + conv(silu(conv(silu(x)))); starts as the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        assert self.conv2.bias is not None
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.silu(self.conv1(F.silu(x))))


class LatentNorm(nn.Module):
    """Channels at mean 0 and variance 1 over the world, by running statistics, also in training.

    No gradient flows through the statistics: the encoder cannot outgrow the noise of the training
    for long, and one batch's statistics do not blur the others' colours as in BatchNorm.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, momentum: float = 0.02) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, z: Tensor) -> Tensor:
        if self.training:
            with torch.no_grad():
                var, mean = torch.var_mean(z, dim=(0, 2, 3))
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(var, self.momentum)
        scale = self.running_var.add(1e-6).rsqrt().view(1, -1, 1, 1)
        return (z - self.running_mean.view(1, -1, 1, 1)) * scale


def _zero(layer: nn.Conv2d) -> nn.Conv2d:
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


class Autoencoder(nn.Module):
    """Principal components of 8 x 8 px patches in and out, and convolutions beside them.

    What the convolutions add starts at zero (`start_from_components`). Each latent channel is
    normalised over the world (`norm`) and then weighed (`weights`): strong components keep a
    little more spread, so that the diffusion model settles them first and flat skies stay flat.
    The mean square over all channels is 1. Pictures are (B, 3, H, W) in -1..1, H and W multiples
    of 8; latents (B, 32, H/8, W/8).
    """

    weights: Tensor

    def __init__(self, channels: int = LATENT_CHANNELS) -> None:
        super().__init__()
        self.linear_in = nn.Conv2d(3, channels, DOWNSCALE, stride=DOWNSCALE)
        self.linear_out = nn.Conv2d(channels, 3 * DOWNSCALE**2, 1)
        self.norm = LatentNorm(channels)
        self.register_buffer("weights", torch.ones(channels))
        self.encoder = nn.Sequential(
            nn.Conv2d(3, 48, 4, stride=4),
            Residual(48),
            nn.Conv2d(48, 96, 4, stride=2, padding=1),
            Residual(96),
            Residual(96),
            nn.SiLU(),
            _zero(nn.Conv2d(96, channels, 3, padding=1)),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(channels, 128, 3, padding=1),
            Residual(128),
            Residual(128),
            nn.Conv2d(128, 4 * 80, 3, padding=1),
            nn.PixelShuffle(2),
            Residual(80),
            Residual(80),
            Residual(80),
            nn.Conv2d(80, 4 * 40, 3, padding=1),
            nn.PixelShuffle(2),
            Residual(40),
            Residual(40),
            nn.SiLU(),
            _zero(nn.Conv2d(40, 12, 3, padding=1)),
            nn.PixelShuffle(2),
        )

    def encode(self, x: Tensor) -> Tensor:
        """Latents (B, C, H/8, W/8) of pictures (B, 3, H, W) in -1..1."""
        z = self.linear_in(x) + self.encoder(x)
        return self.norm(z) * self.weights.view(1, -1, 1, 1)

    def decode(self, z: Tensor) -> Tensor:
        """Pictures (B, 3, H, W), about -1..1, of latents."""
        return F.pixel_shuffle(self.linear_out(z), DOWNSCALE) + self.decoder(z)

    @torch.no_grad()
    def start_from_components(self, x: Tensor) -> None:
        """Set the linear maps to the components of the patches of x (B, 3, H, W)."""
        patches = F.unfold(x, DOWNSCALE, stride=DOWNSCALE).transpose(1, 2).flatten(0, 1)  # (N, 192)
        mean = patches.mean(dim=0)
        values, vectors = torch.linalg.eigh(torch.cov((patches - mean).T))
        channels = self.linear_in.out_channels
        spread, basis = values[-channels:].sqrt(), vectors[:, -channels:].T  # (C,), (C, 192)
        whitening = basis / spread[:, None]
        weights = spread**WEIGHT
        weights = weights / weights.square().mean().sqrt()
        self.weights.copy_(weights)
        self.linear_in.weight.copy_(whitening.view_as(self.linear_in.weight))
        assert self.linear_in.bias is not None and self.linear_out.bias is not None
        self.linear_in.bias.copy_(-whitening @ mean)
        out = (basis * (spread / weights)[:, None]).T  # (192, C)
        self.linear_out.weight.copy_(out[:, :, None, None])
        self.linear_out.bias.copy_(mean)

    @torch.no_grad()
    def put_in_order(self, strongest: float = STRONGEST, order: float = ORDER) -> None:
        """Give each channel a spread by what it does to pixels; pictures come back as before.

        A channel's part in the picture is the spread of its pixels through the linear map. The
        diffusion model then settles what is seen from afar at high noise and the last fine detail
        at the end, as with pixels, instead of everything at once; and its loss, which weighs
        channels by their spread, no longer spends half of itself on a hundredth of the picture.
        """
        columns = self.linear_out.weight.flatten(1)  # (192, C)
        seen = columns.norm(dim=0) * self.weights
        spread = strongest * (seen / seen.max()) ** order
        back = self.weights / spread
        self.linear_out.weight.mul_(back.view(1, -1, 1, 1))
        first = self.decoder[0]
        assert isinstance(first, nn.Conv2d)
        first.weight.mul_(back.view(1, -1, 1, 1))
        self.weights.copy_(spread)
