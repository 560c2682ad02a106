"""ImageAttention: image cross-attention at work in a U-Net (ViCo, Hao et al. 2023, section 3.2).

The reference image runs through the same U-Net, at the picture's timestep and with its text, but
without noise. Behind every second transformer block of the decoder the picture looks at what the
reference has become there, where that attends to the subject's word.

Shapes: B pictures, N references, P pixels, T text tokens, W chosen words, E width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn

from .image_cross_attention import ImageCrossAttention, otsu_mask
from .precision import full_precision
from .protocol import TextAttention


def image_layers(layers: Sequence[TextAttention]) -> list[TextAttention]:
    """Those text attention layers behind whose blocks an image is looked at: in the decoder, every
    one that has an even number among all. ValueError without one."""
    chosen = [x for number, x in enumerate(layers) if x.region == "up" and number % 2 == 0]
    if not chosen:
        raise ValueError("this model's decoder has no cross-attention for ViCo to stand behind")
    return chosen


def _block_of(layer: TextAttention) -> str:
    return layer.name.removesuffix(".attn2")


class ImageBlocks(nn.Module):
    """The image cross-attention of a U-Net, a block for each of its `image_layers`."""

    def __init__(
        self,
        unet: nn.Module,
        layers: Sequence[TextAttention],
        generator: torch.Generator | None = None,
    ) -> None:
        """`layers`: all text attention of the U-Net; `generator`: of the first weights."""
        super().__init__()
        self.names = [_block_of(layer) for layer in image_layers(layers)]
        self.blocks = nn.ModuleList(
            ImageCrossAttention(_width(unet, layer), layer.heads, generator)
            for layer in image_layers(layers)
        )

    @classmethod
    def from_tensors(
        cls, tensors: Mapping[str, Tensor], unet: nn.Module, layers: Sequence[TextAttention]
    ) -> ImageBlocks:
        """Trained blocks from what `tensors` gave, on its memory. ValueError if they are not of
        this U-Net."""
        with torch.device("meta"):
            made = cls(unet, layers)
        own = made.state_dict()
        named = dict(zip(_names(made), own, strict=True))
        wrong = [n for n in tensors if n not in named]
        wrong += [n for n in named if n not in tensors or tensors[n].shape != own[named[n]].shape]
        if wrong:
            raise ValueError(f"its image cross-attention does not fit ({sorted(wrong)[0]})")
        made.load_state_dict({p: tensors[n] for n, p in named.items()}, assign=True)
        return made.requires_grad_(False).eval()

    def tensors(self) -> dict[str, Tensor]:
        """All of it by name, fp32, on the CPU."""
        values = self.state_dict().values()
        return {
            n: v.detach().float().cpu().clone() for n, v in zip(_names(self), values, strict=True)
        }


def _names(blocks: ImageBlocks) -> list[str]:
    """Of the parameters, by the transformer block that each stands behind."""
    pairs = zip(blocks.names, blocks.blocks, strict=True)
    return [f"{name}.{own}" for name, block in pairs for own in block.state_dict()]


def _width(unet: nn.Module, layer: TextAttention) -> int:
    return int(unet.get_submodule(f"{layer.name}.to_q").weight.shape[0])  # type: ignore[index]


@dataclass(frozen=True)
class SeenReference:
    """What reference images have become behind a transformer block."""

    states: Tensor
    """(N, P, E)."""
    maps: Tensor
    """(N, P, W): how much each pixel attends to the chosen words, mean of heads, fp32."""


class ImageAttention:
    """Image blocks behind the blocks of a U-Net, by hooks that are there from `begin` to `rest`.

    A forward pass holds pictures, and references behind them, or one of both alone: references
    that an earlier pass saw are looked at by the pictures of a later one.
    """

    def __init__(
        self,
        unet: nn.Module,
        layers: Sequence[TextAttention],
        blocks: ImageBlocks,
        strength: float = 1.0,
    ) -> None:
        """`strength`: 0: the pictures as they were, 1: as trained."""
        self._places = list(zip(image_layers(layers), blocks.blocks, strict=True))
        self._unet, self._strength = unet, strength
        self._pictures = 0
        self._words: Tensor | None = None
        self._maps: dict[str, Tensor] = {}
        self.seen: dict[str, SeenReference] = {}
        """By transformer block."""
        self._undo: list[Callable[[], None]] = []

    def begin(self, pictures: int, words: Tensor | None = None) -> None:
        """From now on a pass begins with so many pictures. `words` (N, T, W): which tokens of each
        reference's text are looked for, as weights; the first word's map is the mask. None: a pass
        has no references, and `seen` are looked at."""
        self._pictures, self._words = pictures, words
        if words is not None:
            self.seen = {}
        if not self._undo:
            for layer, block in self._places:
                self._stand_behind(layer, block)

    def rest(self) -> None:
        """The U-Net is as it was found, and what was seen is forgotten."""
        while self._undo:
            self._undo.pop()()
        self._words, self.seen = None, {}
        self._maps.clear()

    def _stand_behind(self, layer: TextAttention, block: nn.Module) -> None:
        name = _block_of(layer)

        def see(q_BPE: Tensor, k_BTE: Tensor) -> None:
            if self._words is not None:
                q_NPE, k_NTE = q_BPE[self._pictures :], k_BTE[self._pictures :]
                self._maps[name] = word_maps(q_NPE, k_NTE, layer.heads, self._words)

        def after(_module: nn.Module, _inputs: object, x_BPE: Tensor) -> Tensor:
            x_BPE, reference_NPE = x_BPE[: self._pictures], x_BPE[self._pictures :]
            if len(reference_NPE):
                self.seen[name] = SeenReference(reference_NPE, self._maps.pop(name))
            if len(x_BPE):
                x_BPE = self._looked(x_BPE, self.seen[name], block)
            return torch.cat([x_BPE, reference_NPE])

        hook = self._unet.get_submodule(name).register_forward_hook(after)
        self._undo += [layer.observe(see).remove, hook.remove]

    def _looked(self, x_BPE: Tensor, seen: SeenReference, block: nn.Module) -> Tensor:
        """Pictures that looked at their references; each reference is that of as many in a row."""
        each = len(x_BPE) // len(seen.states)
        keep_BR = otsu_mask(seen.maps[..., 0]).repeat_interleave(each, dim=0)
        found_BPE = block(x_BPE, seen.states.repeat_interleave(each, dim=0), keep_BR)
        if self._strength == 1.0:
            return found_BPE
        return torch.lerp(x_BPE, found_BPE, self._strength)


def word_maps(q_NPE: Tensor, k_NTE: Tensor, heads: int, words_NTW: Tensor) -> Tensor:
    """Weighted sums of columns of softmax(Q K^T / sqrt(D)), mean of heads, (N, P, W), fp32;
    differentiable."""
    with full_precision(q_NPE.device):
        q_NHPD, k_NHTD = (
            rearrange(x.float(), "n p (h d) -> n h p d", h=heads) for x in (q_NPE, k_NTE)
        )
        scores_NHPT = q_NHPD @ k_NHTD.transpose(2, 3) * q_NHPD.shape[-1] ** -0.5
        return scores_NHPT.softmax(dim=-1).mean(dim=1) @ words_NTW


def columns(length: int, words: Iterable[Sequence[int]], device: torch.device) -> Tensor:
    """(T, W): for each word the mean of its tokens' columns."""
    chosen = list(words)
    weights_TW = torch.zeros(length, len(chosen))
    for w, places in enumerate(chosen):
        weights_TW[list(places), w] = 1.0 / len(places)
    return weights_TW.to(device)
