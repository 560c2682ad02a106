"""Which parameters of the U-Net a stage trains (paper, section 4.1)."""

from __future__ import annotations

from torch import Tensor, nn

from .config import Trained


def trained_parameters(unet: nn.Module, trained: Trained) -> dict[str, nn.Parameter]:
    """The U-Net's parameters of a stage by name, in module order; empty for the embedding stage."""
    if trained == "embedding":
        return {}
    named = dict(unet.named_parameters())
    if trained == "cross-attention":
        named = {name: value for name, value in named.items() if ".attn2." in f".{name}"}
        if not named:
            raise ValueError("the model has no cross-attention parameters (attn2) to train")
    return named


def difference(parameters: dict[str, nn.Parameter], base: dict[str, Tensor]) -> dict[str, Tensor]:
    """What training changed: final minus base (held on the CPU), fp32, by parameter name."""
    return {
        name: value.detach().cpu().float() - base[name].float()
        for name, value in parameters.items()
    }
