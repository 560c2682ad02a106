"""Pictures that look at a photo of the subject while they are drawn (ViCo): the MODEL's side.

In front of every call of the U-Net the photo's latent goes through it alone: without noise, at the
call's timestep and with its texts, without the patches and ControlNets that others have put on the
MODEL. What it becomes in the decoder is what the pictures of the call look at there, by forward
hooks that are gone when the call is over. Nothing is written to the MODEL that came in.

Shapes: B the call's batch, N rows of the photo, T tokens, C latent channels, Y X latent pixels.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from comfy.patcher_extension import WrappersMP
from PIL import Image
from torch import Tensor

from ....attndb.artifacts.lineage import Lineage
from ....attndb.data.augmentation import Crop, render
from ....attndb.models.cross_attention import cross_attention_layers
from ....attndb.models.image_attention import ImageAttention, ImageBlocks, columns
from .attn2 import attn2_layers
from .compiled import not_compiled
from .encoding import check_finite
from .mapped_text import MAPPED
from .unet_call import Options

_KEY = "attndb_reference_image"
_OF_OTHERS = ("patches", "patches_replace")


@dataclass(frozen=True, eq=False)
class ReferenceImage:
    """A photo on a MODEL, and the blocks that look at it."""

    lineage: Lineage
    blocks: ImageBlocks
    latent: Tensor
    """(1, C, Y, X), as the U-Net reads latents."""
    strength: float
    """0: nobody looks, 1: as trained."""


def reference_image(model: Any) -> ReferenceImage | None:
    """That of a MODEL."""
    wrappers = getattr(model, "wrappers", {}).get(WrappersMP.DIFFUSION_MODEL, {})
    for wrapper in wrappers.get(_KEY, []):
        return wrapper.__self__.reference
    return None


def with_reference_image(model: Any, reference: ReferenceImage | None) -> Any:
    """A clone of MODEL with this one, or with none."""
    clone = model.clone()
    for kind in (WrappersMP.OUTER_SAMPLE, WrappersMP.DIFFUSION_MODEL):
        clone.remove_wrappers_with_key(kind, _KEY)
    if reference is not None:
        session = _Session(reference)
        clone.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, _KEY, session.outer_sample)
        clone.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, _KEY, session.diffusion_model)
    return clone


def made_reference_image(
    model: Any,
    mark: Lineage,
    tensors: Mapping[str, Tensor],
    strength: float,
    latent: Mapping[str, Any] | None,
) -> ReferenceImage:
    """Of trained blocks and a LATENT on a wire. ValueError if there is none, or if they are not for
    this MODEL, which may have one photo to look at."""
    other = reference_image(model)
    if other is not None:
        raise ValueError(
            f"MODEL already looks at a photo for {other.lineage.placeholder} (ViCo), and it can "
            f"look at one: take that concept off, or use {mark.placeholder} without it"
        )
    attn2_layers(model)  # refuses what has none
    unet = model.model.diffusion_model
    try:
        blocks = ImageBlocks.from_tensors(tensors, unet, cross_attention_layers(unet))
    except ValueError as error:
        raise ValueError(
            f"the concept {mark.placeholder} is damaged, or was trained on another model: {error}; "
            "use the checkpoint that it was trained on, or restore its file"
        ) from error
    return ReferenceImage(mark, blocks, _as_the_unet_reads(model, latent, mark), strength)


def photo_latent(vae: Any, photo: Image.Image, side: int) -> dict[str, Tensor]:
    """The LATENT of a photo, cut to a square from its centre, `side` pixels."""
    pixels, _ = render(photo, Crop(), side)
    with torch.inference_mode():  # a training asks, too: the VAE's weights are not to be followed
        latent = vae.encode(torch.from_numpy(pixels)[None])
    return {"samples": check_finite(latent, vae).clone()}


def _as_the_unet_reads(model: Any, latent: Mapping[str, Any] | None, mark: Lineage) -> Tensor:
    if latent is None:
        raise ValueError(
            f"the concept {mark.placeholder} was trained by ViCo, whose pictures look at a photo "
            "of the subject while they are drawn: connect one to 'reference' (Load Image, "
            "then VAE Encode)"
        )
    samples, channels = latent["samples"], model.model.latent_format.latent_channels
    if samples.ndim != 4 or samples.shape[1] != channels or len(samples) != 1:
        raise ValueError(
            f"reference has shape {tuple(samples.shape)}: it is the latent of one photo, "
            f"(1, {channels}, height, width), by the VAE of this MODEL"
        )
    return model.model.process_latent_in(samples.float()).clone()


@dataclass
class _Run:
    """What is known while one sampling run is under way."""

    places: dict[Any, list[int]]
    """Tokens of the word, by uuid of the conditionings that have it."""
    attention: ImageAttention | None = None


class _Session:
    """The two wrappers on a MODEL."""

    def __init__(self, reference: ReferenceImage) -> None:
        self.reference = reference
        self._run: _Run | None = None

    def outer_sample(
        self, executor: Any, noise: Tensor, latent_image: Tensor, *args: Any, **kwargs: Any
    ) -> Tensor:
        """Around one sampling run of any guider."""
        places = _places(executor.class_obj, self.reference.lineage.key)
        before, self._run = self._run, _Run(places) if places else None
        try:
            with not_compiled():
                return executor(noise, latent_image, *args, **kwargs)
        finally:
            self._run = before

    def diffusion_model(
        self,
        executor: Any,
        x: Tensor,
        timesteps: Tensor | None = None,
        context: Tensor | None = None,
        y: Tensor | None = None,
        control: Any = None,
        transformer_options: Options | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Around one call of the U-Net: the photo first."""
        options = transformer_options if transformer_options is not None else {}
        run = self._run
        words = None if run is None or context is None else _words(run.places, x, context, options)
        if run is None or words is None or context is None or timesteps is None:
            return executor(x, timesteps, context, y, control, options, **kwargs)
        if run.attention is None:
            run.attention = self._attention(executor.class_obj, x)
        rows = _different_rows(context, len(words))
        each = len(x) // len(rows)
        words = words.repeat_interleave(len(rows) // len(words), dim=0)
        photo = self.reference.latent.to(x).expand(len(rows), -1, -1, -1)
        told = (timesteps[rows], context[rows], None if y is None else y[rows], None)
        own = {key: value for key, value in options.items() if key not in _OF_OTHERS}
        try:
            run.attention.begin(0, words)
            executor.original(photo, *told, own, **kwargs)
            run.attention.begin(each * len(rows))
            return executor(x, timesteps, context, y, control, options, **kwargs)
        finally:
            run.attention.rest()

    def _attention(self, unet: Any, x: Tensor) -> ImageAttention:
        """The blocks at work in a U-Net, where and as precisely as it computes."""
        blocks = self.reference.blocks
        first = next(blocks.parameters())
        if (first.device, first.dtype) != (x.device, x.dtype):
            blocks = copy.deepcopy(blocks).to(x.device, x.dtype)
        layers = cross_attention_layers(unet)
        return ImageAttention(unet, layers, blocks, self.reference.strength)


def _places(guider: Any, key: str) -> dict[Any, list[int]]:
    """Where the word stands in what a guider samples, by uuid."""
    found: dict[Any, list[int]] = {}
    for conds in getattr(guider, "conds", {}).values():
        for cond in conds:
            mapped = cond.get(MAPPED)
            if mapped is None:
                continue
            chunk = mapped.states.shape[1] // len(mapped.chunks)
            places = [c * chunk + t for (c, t), of in mapped.words.items() if of == key]
            if places:
                found[cond["uuid"]] = places
    return found


def _words(
    places: Mapping[Any, list[int]], x: Tensor, context: Tensor, options: Options
) -> Tensor | None:
    """(chunks of the batch, T, 1). A text without the word is looked at where the first with it has
    it, as in the published program: of the photo's maps it is the mask that counts."""
    idents = options.get("uuids") or []
    if not idents or len(x) % len(idents) or len(context) != len(x):
        return None
    first, length = next(iter(places.values())), context.shape[1]
    own = [[place % length for place in places.get(ident, first)] for ident in idents]
    return torch.stack([columns(length, [word], x.device) for word in own])


def _different_rows(context: Tensor, chunks: int) -> list[int]:
    """Rows of a batch that have a text of their own: one for each of its chunks, or all."""
    each = len(context) // chunks
    texts = context.unflatten(0, (chunks, each))
    alike = bool((texts == texts[:, :1]).all())
    return list(range(0, len(context), each)) if alike else list(range(len(context)))
