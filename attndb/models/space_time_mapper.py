"""SpaceTimeMapper: a word that is another one at every timestep and layer (Alaluf et al. 2023).

Shapes: N pairs of timestep and layer, F frequencies, A anchors, W hidden width, D text width.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .precision import full_precision
from .seeded_linear import seeded_linear

WIDTH = 128
"""W."""
BYPASS_SHARE = 0.2
"""How long the bypass is next to the state that it is added to (section 4.2)."""

_FREQUENCIES = 1024
_SCALES = (0.03, 2.0)
"""sigma_t and sigma_l: how fast the encoding turns with the timestep and with the layer."""
_TIME_ANCHORS = 10
_TIMESTEPS = 1000


class SpaceTimeMapper(nn.Module):
    """M(t, l): Fourier features of both, two hidden layers, and the word's vector; with a bypass
    also the vector that is added behind the text encoder (sections 4.1 and 4.2)."""

    frequencies: Tensor
    """(F, 2), fixed."""
    norm: Tensor
    """Of what comes out. With a bypass, of both vectors as one, as the published code has it."""

    def __init__(
        self,
        width: int,
        layers: int,
        *,
        bypass: bool = True,
        norm: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> None:
        """`width`: D; `layers`: of cross-attention in the denoiser; `norm`: of the category's
        embedding; `generator`: of the first weights."""
        super().__init__()
        self.width, self.layers, self.bypass = width, layers, bypass
        scales = torch.tensor(_SCALES)
        self.register_buffer(
            "frequencies", torch.randn(_FREQUENCIES, 2, generator=generator) * scales
        )
        self.register_buffer("norm", torch.tensor(float(norm)))
        anchors = _TIME_ANCHORS * layers
        self.input = seeded_linear(2 * _FREQUENCIES, anchors, generator)
        self.first = seeded_linear(anchors, WIDTH, generator)
        self.first_norm = nn.LayerNorm(WIDTH)
        self.second = seeded_linear(WIDTH, WIDTH, generator)
        self.second_norm = nn.LayerNorm(WIDTH)
        self.output = seeded_linear(WIDTH, width * (2 if bypass else 1), generator)
        with torch.no_grad():
            self.input.weight.copy_(self._anchors())

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], width: int) -> SpaceTimeMapper:
        """A trained mapper from what `tensors` gave, for a text width D. ValueError if it is not
        one."""
        try:
            rows, anchors = tensors["output.weight"].shape[0], tensors["input.weight"].shape[0]
            mapper = cls(width, anchors // _TIME_ANCHORS, bypass=rows == 2 * width)
            mapper.load_state_dict(dict(tensors))
        except (KeyError, IndexError, RuntimeError) as error:
            raise ValueError(f"its mapper cannot be read ({str(error).splitlines()[0]})") from error
        return mapper.requires_grad_(False).eval()

    def tensors(self) -> dict[str, Tensor]:
        """All of it by name, fp32, on the CPU."""
        return {n: v.detach().float().cpu().clone() for n, v in self.state_dict().items()}

    def forward(
        self, t: Tensor, layer: Tensor, keep: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Vector (N, D) and bypass (N, D) for timesteps t (N,) and layers (N,), counted from 0.
        `keep` (N, W): which hidden values count (nested dropout)."""
        with full_precision(self.norm.device):
            hidden_NW = self.input(self._encoded(t, layer))
            hidden_NW = F.leaky_relu(self.first_norm(self.first(hidden_NW)))
            hidden_NW = F.leaky_relu(self.second_norm(self.second(hidden_NW)))
            if keep is not None:
                hidden_NW = hidden_NW * keep
            out_NE = F.normalize(self.output(hidden_NW), dim=-1) * self.norm
        if not self.bypass:
            return out_NE, None
        return out_NE[:, : self.width], out_NE[:, self.width :]

    def _encoded(self, t: Tensor, layer: Tensor) -> Tensor:
        """Fourier features (N, 2F) of length 1 (section 4.1)."""
        place_N2 = torch.stack([t.float(), layer.float()], dim=1)
        angle_NF = place_N2 @ self.frequencies.T
        features_NF = torch.cat([angle_NF.sin(), angle_NF.cos()], dim=1)
        return features_NF / features_NF.norm(dim=1, keepdim=True)

    def _anchors(self) -> Tensor:
        """Features (A, 2F) of a grid of timesteps and layers: what the first layer begins as."""
        times = torch.arange(0, _TIMESTEPS, _TIMESTEPS // _TIME_ANCHORS)
        grid = torch.cartesian_prod(times, torch.arange(self.layers))
        return self._encoded(grid[:, 0], grid[:, 1])


def nested_dropout(
    samples: int, layers: int, probability: float, generator: torch.Generator
) -> Tensor:
    """Which hidden values count, (samples, layers, W): for each layer it is decided whether any are
    cut off, and then for each sample behind which (section 4.3)."""
    cut_L = torch.rand(layers, generator=generator) < probability
    behind_BL = torch.randint(0, WIDTH, (samples, layers), generator=generator)
    behind_BL = torch.where(cut_L, behind_BL, WIDTH)
    return (torch.arange(WIDTH) < behind_BL[:, :, None]).float()


def bypassed(state: Tensor, bypass: Tensor, share: float = BYPASS_SHARE) -> Tensor:
    """h + 0.2 ||h|| b / ||b|| (section 4.2), of states and bypasses (N, D)."""
    direction_ND = bypass / bypass.norm(dim=-1, keepdim=True)
    return state + share * state.norm(dim=-1, keepdim=True) * direction_ND
