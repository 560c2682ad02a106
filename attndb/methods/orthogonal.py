"""OrthogonalWeights: rotations of the inputs of attention's layers (Qiu et al. 2023).

Shapes: O output features, R blocks, D input features of a block.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..artifacts.weight_delta import WeightDelta
from ..config.orthogonal import OrthogonalConfig
from ..models.precision import full_precision

_TURNED = ("to_q", "to_k", "to_v", "to_out.0")


class OrthogonalParameter(nn.Module):
    """W -> W blkdiag(Q)^T, for torch.nn.utils.parametrize; starts at no rotation."""

    def __init__(self, weight: Tensor, config: OrthogonalConfig) -> None:
        super().__init__()
        inputs, blocks = weight.shape[1], config.blocks
        size = inputs // blocks
        self.generator = nn.Parameter(torch.zeros(blocks, size, size, device=weight.device))
        self.limit = config.constraint * size**2 / blocks**0.5

    def rotation(self) -> Tensor:
        """Q = (I - S)(I + S)^-1 of every block, (R, D, D); S is the skew part (Cayley)."""
        generator_RDD = self.generator
        skew_RDD = 0.5 * (generator_RDD - generator_RDD.transpose(1, 2))
        eye_DD = torch.eye(skew_RDD.shape[1], dtype=skew_RDD.dtype, device=skew_RDD.device)
        # both factors are functions of S, so their order does not matter. I + S is never singular:
        # `solve` would ask the card whether it was, and wait for it, in every layer
        return _solved(eye_DD + skew_RDD, eye_DD - skew_RDD)

    def forward(self, weight: Tensor) -> Tensor:
        with full_precision(weight.device):
            return turned(weight, self.rotation().to(weight.dtype))

    @torch.no_grad()
    def project(self) -> None:
        """COFT: every block back into its ball, ||R_i||_F <= epsilon (d/r)^2 / sqrt(r)."""
        if self.limit:
            norm_R11 = torch.linalg.matrix_norm(self.generator, keepdim=True)
            self.generator.mul_((self.limit / norm_R11.clamp_min(1e-30)).clamp_max(1.0))


def _solved(left_RDD: Tensor, right_RDD: Tensor) -> Tensor:
    """left^-1 right, where they are; for MPS on the CPU, as PyTorch 2.11 has no operation there for
    the gradient (linalg_lu_solve)."""
    device = left_RDD.device
    if device.type == "mps":
        left_RDD, right_RDD = left_RDD.cpu(), right_RDD.cpu()
    return torch.linalg.solve_ex(left_RDD, right_RDD).result.to(device)


def turned(weight_OI: Tensor, rotation_RDD: Tensor) -> Tensor:
    """W blkdiag(Q)^T, (O, R D)."""
    weight_ORD = weight_OI.unflatten(1, rotation_RDD.shape[:2])
    return torch.einsum("ord,red->ore", weight_ORD, rotation_RDD).flatten(1)


class OrthogonalWeights:
    """Rotations in every attention layer's to_q, to_k, to_v and to_out."""

    def __init__(self, unet: nn.Module, config: OrthogonalConfig) -> None:
        self._unet = unet
        self._turns: dict[str, OrthogonalParameter] = {}
        for name, weight in _attention_weights(unet).items():
            if weight.shape[1] % config.blocks:
                raise ValueError(
                    f"blocks = {config.blocks}: {name} has {weight.shape[1]} inputs, which that "
                    "does not divide; use 4, as published, or another divisor"
                )
            turn = OrthogonalParameter(weight, config)
            parametrize.register_parametrization(self._module(name), "weight", turn, unsafe=True)
            self._turns[name] = turn
        self.parameters = {name: turn.generator for name, turn in self._turns.items()}

    def _module(self, name: str) -> nn.Module:
        return self._unet.get_submodule(name.removesuffix(".weight"))

    def project(self) -> None:
        """Keeps what COFT allows."""
        for turn in self._turns.values():
            turn.project()

    def delta(self) -> dict[str, WeightDelta]:
        """The exact change of the weights: a rotated weight is an ordinary one."""
        changes: dict[str, WeightDelta] = {}
        with torch.no_grad():
            for name, turn in self._turns.items():
                changed: Any = self._module(name).parametrizations
                weight = changed.weight.original.cpu().double()
                rotation = turn.rotation().cpu().double()
                changes[name] = (turned(weight, rotation) - weight).float()
        return changes

    def release(self) -> None:
        """Takes the rotations off the modules; the weights are as they were."""
        for name in self._turns:
            module = self._module(name)
            if parametrize.is_parametrized(module, "weight"):
                parametrize.remove_parametrizations(module, "weight", leave_parametrized=False)


def _attention_weights(unet: nn.Module) -> dict[str, nn.Parameter]:
    """The matrices of self- and cross-attention by name. ValueError if there is none."""
    found = {
        name: weight
        for name, weight in unet.named_parameters()
        for attention, _, layer in [name.removesuffix(".weight").rpartition(".attn")]
        if attention and layer[2:] in _TURNED and name.endswith(".weight")
    }
    if not found:
        raise ValueError("the model has no attention layers (attn1, attn2) to turn")
    return found
