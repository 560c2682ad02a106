"""Joint attention of a MODEL: blocks in which text and picture attend to each other (SD 3, Flux).

Queries and keys are those of the softmax, after normalisation and rotary positions: they are taken
where the host calls its attention, by its own `optimized_attention_override`. A replacement of each
block, which does nothing else, gives the block's name to it, so that a block that is computed again
in the backward pass is still known. Both lie in copies of the options of one call, in front of
whatever was registered there, which goes on being called.

Shapes: B batch, N text and picture tokens, T text tokens, P picture tokens, E width, H heads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import comfy.model_base
from comfy.ldm.flux.model import Flux
from comfy.ldm.modules.diffusionmodules.mmdit import MMDiT
from einops import rearrange
from torch import Tensor

from ..model.attn2 import patches_replaced

SeeJoint = Callable[[str, Tensor, Tensor, int, tuple[int, int], Tensor | None], None]
"""Takes a block's name, the picture's queries (B, P, E), all keys (B, N, E) with the text's in
front, heads, the picture's height and width in tokens, and the attention mask of these queries if
there is one: (B or 1, H or 1, P or 1, N), added to the logits, or bools of what may be seen."""
Block = Callable[[dict[str, Any], dict[str, Any]], Any]
"""The host's kind of replacement of a block."""

Attention = Callable[..., Any]
"""The host's kind of override: gets the attention that it stands in for, then its arguments."""

_OVERRIDE = "optimized_attention_override"


class JointAttention:
    """The joint blocks of a denoiser."""

    def __init__(self, names: Mapping[tuple[str, int], str], patch: int) -> None:
        """`names`: of the blocks, by the host's key. `patch`: latent pixels along a token."""
        self.names = dict(names)
        self.patch = patch

    def observed(
        self,
        options: Mapping[str, Any],
        text_tokens: int,
        latent_size: tuple[int, int],
        see: SeeJoint,
        longer: Callable[[str], None],
    ) -> dict[str, Any]:
        """A copy of the transformer options in which `see` is told of every joint attention, and
        `longer` of blocks whose text another node lengthened: where its words stand is not known.
        """
        height, width = (-(-side // self.patch) for side in latent_size)
        first, last = text_tokens, text_tokens + height * width

        def seen_by(name: str, before: Attention | None) -> Attention:
            def attend(
                plain: Any, q: Tensor, k: Tensor, v: Tensor, heads: int, *args: Any, **named: Any
            ) -> Any:
                q_BNE, k_BNE = (_flat(x, named.get("skip_reshape", False)) for x in (q, k))
                if q_BNE.shape[1] == k_BNE.shape[1] >= last:  # else: the picture's own attention
                    mask = _mask(named.get("mask", args[0] if args else None), first, last)
                    see(name, q_BNE[:, first:last], k_BNE, heads, (height, width), mask)
                if before is not None:
                    return before(plain, q, k, v, heads, *args, **named)
                return plain(q, k, v, heads, *args, **named)

            return attend

        def entered(name: str, inner: Block | None) -> Block:
            def block(args: dict[str, Any], extra: dict[str, Any]) -> Any:
                told = args["transformer_options"]
                if _text_length(args, told, text_tokens) == text_tokens:
                    told = {**told, _OVERRIDE: seen_by(name, told.get(_OVERRIDE))}
                    args = {**args, "transformer_options": told}
                else:
                    longer(name)
                return extra["original_block"](args) if inner is None else inner(args, extra)

            return block

        def all_entered(blocks: dict[Any, Block]) -> dict[Any, Block]:
            named = self.names.items()
            return blocks | {key: entered(name, blocks.get(key)) for key, name in named}

        return patches_replaced(options, "dit", all_entered)


def joint_attention(model: Any) -> JointAttention | None:
    """That of a MODEL; None for one of another kind. Kinds that took over Flux's blocks (Flux 2,
    LongCat) wrap the prompt in words of their own or pad it in front: its words stand elsewhere."""
    denoiser = model.model.diffusion_model
    if isinstance(denoiser, MMDiT):
        count = len(denoiser.joint_blocks)
        names = {("double_block", i): f"joint_blocks.{i}" for i in range(count)}
    elif isinstance(denoiser, Flux) and type(model.model) is comfy.model_base.Flux:
        names = {
            (f"{kind}_block", i): f"{kind}_blocks.{i}"
            for kind in ("double", "single")
            for i in range(len(getattr(denoiser, f"{kind}_blocks")))
        }
    else:
        return None
    return JointAttention(names, int(denoiser.patch_size))


def _flat(x: Tensor, by_heads: bool) -> Tensor:
    """(B, N, E) of queries or keys, which some blocks give as (B, H, N, D)."""
    return rearrange(x, "b h n d -> b n (h d)") if by_heads else x


def _mask(mask: Tensor | None, first: int, last: int) -> Tensor | None:
    """The part of an attention mask that is of the picture's queries, with all four axes. The host
    takes it without heads, and without the batch."""
    if mask is None:
        return None
    mask = mask if mask.ndim == 4 else mask.reshape(-1, 1, *mask.shape[-2:])
    return mask if mask.shape[2] == 1 else mask[:, :, first:last]


def _text_length(args: Mapping[str, Any], told: Mapping[str, Any], usual: int) -> int:
    """Text tokens of a block, which are given apart or in front of the picture's."""
    if args.get("txt") is not None:
        return int(args["txt"].shape[1])
    return int(told.get("img_slice", (usual,))[0])
