"""What a stage trains of the U-Net (paper, section 4.1): whole weights, or a LoRA on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor, nn

from ..artifacts.weight_delta import WeightDelta
from ..config.methods import TrainedPart
from ..config.stage import StageConfig
from ..data.draws import step_generator
from ..models.precision import is_matrix
from .low_rank import LowRankLayer, LowRankParameter
from .orthogonal import OrthogonalWeights


class TrainedWeights(Protocol):
    """The trainable part of a U-Net during a stage."""

    parameters: dict[str, nn.Parameter]
    """What the optimiser updates, by name."""

    def delta(self) -> dict[str, WeightDelta]:
        """What training changed so far, by weight name, fp32, on the CPU."""
        ...

    def release(self) -> None:
        """Leaves the U-Net's structure as it was found."""
        ...


def trained_parameters(unet: nn.Module, trained: frozenset[TrainedPart]) -> dict[str, nn.Parameter]:
    """The U-Net's parameters that are trained by name, in module order; none for an embedding."""
    named = dict(unet.named_parameters())
    if "unet" in trained:
        return named
    if "keys and values" in trained:
        kept = (".attn2.to_k.", ".attn2.to_v.")
        return _some({name: value for name, value in named.items() if any(k in name for k in kept)})
    if "cross-attention" in trained:
        return _some({name: value for name, value in named.items() if ".attn2." in f".{name}"})
    return {}


def _some(named: dict[str, nn.Parameter]) -> dict[str, nn.Parameter]:
    if not named:
        raise ValueError("the model has no cross-attention parameters (attn2) to train")
    return named


def trained_weights(unet: nn.Module, config: StageConfig) -> TrainedWeights:
    """The trainable part of the U-Net that a stage's settings ask for."""
    if "rotations" in config.trains:
        return OrthogonalWeights(unet, config.orthogonal)
    named = trained_parameters(unet, config.trains)
    if config.lora_rank:
        return LowRankWeights(unet, named, config.lora_rank, config.seed)
    return WholeWeights(named, in_bf16=config.optimizer_in_backward)


class WholeWeights:
    """The weights themselves, as published; the matrices in bf16 if asked for."""

    def __init__(self, named: Mapping[str, nn.Parameter], in_bf16: bool = False) -> None:
        self.parameters = dict(named)
        for parameter in named.values():
            if in_bf16 and is_matrix(parameter):
                parameter.data = parameter.data.bfloat16()
        self.start = {name: _put_aside(p) for name, p in named.items()}
        """As they were, in main memory."""

    def delta(self) -> dict[str, WeightDelta]:
        """Final minus initial weights, both as they were kept: rounding is no change."""
        return {
            name: value.detach().cpu().float() - self.start[name].float()
            for name, value in self.parameters.items()
        }

    def release(self) -> None:
        """The weights are fp32 again."""
        for parameter in self.parameters.values():
            parameter.data = parameter.data.float()


def _put_aside(weight: Tensor) -> Tensor:
    """A copy in main memory; of a meta tensor (memory/meta_trace.py) another one."""
    return weight.detach().to("meta" if weight.is_meta else "cpu", copy=True)


class LowRankWeights:
    """A low-rank change on every matrix and convolution; biases and norms stay as they are."""

    def __init__(self, unet: nn.Module, named: Mapping[str, Tensor], rank: int, seed: int) -> None:
        self.changes = {
            name: LowRankParameter(weight, rank, step_generator("lora", seed, name))
            for name, weight in named.items()
            if weight.ndim >= 2
        }
        """By the name of the weight."""
        self._layers: list[LowRankLayer] = []
        for name, change in self.changes.items():
            path, _, kind = name.rpartition(".")
            self._layers.append(LowRankLayer(unet.get_submodule(path), kind, change))
        self.parameters = {
            f"{name}:{part}": parameter
            for name, change in self.changes.items()
            for part, parameter in change.named_parameters()
        }

    def delta(self) -> dict[str, WeightDelta]:
        """The low-rank factors."""
        return {name: change.delta() for name, change in self.changes.items()}

    def release(self) -> None:
        """Takes the changes off the layers; the weights are as they were."""
        for layer in self._layers:
            layer.remove()
