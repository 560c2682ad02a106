"""Where a MODEL sees a word on photos that it did not draw: masks from its own attention."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import comfy.sample
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate, max_pool2d

from ....attndb.attention.affinity import Affinity
from ....attndb.attention.capture import Capture
from ....attndb.attention.map_metrics import otsu_mask
from ....attndb.attention.prompt_words import Word
from ....attndb.attention.subject_map import subject_map
from ....attndb.config.choices import require
from ..model.encoding import check_finite
from .capture import capture_model
from .prompt import encode, prompt_words

_MULTIPLE = 8
_LEAST_NOISE = 1 / 999


@dataclass(frozen=True, kw_only=True)
class SubjectMaskSettings:
    """How a subject is looked for."""

    noise: float = 0.1
    """Where on the noise schedule the model looks, 0 (none) to 1 (all)."""
    resolution: int = 512
    """Shorter side in pixels at which it looks; smaller photos stay as they are."""
    grow: float = 0.0
    """By how much of the shorter side the mask is made larger on every side."""
    seed: int = 0
    """Of the noise."""

    def __post_init__(self) -> None:
        require(0.0 <= self.noise <= 1.0, "noise", self.noise, "use 0 to 1, 0.1 for example")
        require(self.resolution >= 8, "resolution", self.resolution, "use 8 pixels or more")
        require(0.0 <= self.grow <= 0.5, "grow", self.grow, "use 0 (not at all) to 0.5")


@dataclass(frozen=True)
class Sought:
    """A word that is looked for, of one CLIP."""

    prompt: str
    """In which it is."""
    word: Word
    """Its place there."""
    positive: list[Any]
    """The prompt as CONDITIONING."""
    negative: list[Any]


def sought(clip: Any, word: str) -> Sought:
    """A word of the prompt `a photo of a <word>`. ValueError if the prompt does not have it as it
    is written, `dog#2` for example."""
    prompt = f"a photo of a {word}"
    place = prompt_words(clip, prompt).find(word)[-1]  # a photo of a photo: the second
    return Sought(prompt, place, encode(clip, prompt), encode(clip, ""))


def subject_masks(
    wires: tuple[Any, Any],
    photos: Sequence[np.ndarray],
    subject: Sought,
    settings: SubjectMaskSettings,
    done: Callable[[int, int], None] = lambda done, total: None,
) -> list[Tensor]:
    """A mask (Y, X), 1 where the MODEL attends to the word, of each photo (Y, X, 1, 3 or 4).

    One forward pass for each: the photo's latent with noise, and the word's prompt; the word's
    `subject_map`, parted by Otsu's threshold. `wires`: MODEL and VAE, which stay as they are.
    `done` is told how many photos are done of how many, and may raise.
    """
    model, vae = wires
    masks = []
    for number, photo in enumerate(photos):
        done(number, len(photos))
        pixels = torch.from_numpy(photo).float()[..., :3]
        small = _scaled(pixels.expand(-1, -1, 3), settings.resolution)
        capture = Capture(prompt=subject.prompt, words=[subject.word], slices=1)
        affinity = Affinity()
        watched = capture_model(model, capture, subject.positive, affinity)
        samples = _looked_at(watched, vae, small, subject, settings)
        record, note = capture.find(samples)
        if note and not record.sums:
            raise ValueError(f"nothing was recorded. {note}")
        mask = otsu_mask(subject_map(record, affinity, small[0])).float()
        masks.append(_grown(mask[None], settings.grow, (photo.shape[0], photo.shape[1])))
    done(len(photos), len(photos))
    return masks


def _looked_at(
    model: Any, vae: Any, small: Tensor, subject: Sought, settings: SubjectMaskSettings
) -> Tensor:
    """The latent that one step of Euler from the settings' noise makes of a photo."""
    latent = check_finite(vae.encode(small), vae)
    latent = comfy.sample.fix_empty_latent_channels(model, latent)
    sampling = model.get_model_object("model_sampling")
    # Not of a timestep, which is another thing in every kind of model.
    sigma = float(sampling.percent_to_sigma(1.0 - max(settings.noise, _LEAST_NOISE)))
    sigmas = torch.tensor([min(sigma, float(sampling.sigma_max)), 0.0])
    noise = comfy.sample.prepare_noise(latent, settings.seed)
    return comfy.sample.sample(
        model,
        noise,
        1,
        1.0,
        "euler",
        "normal",
        subject.positive,
        subject.negative,
        latent,
        sigmas=sigmas,
        disable_pbar=True,
        seed=settings.seed,
    )


def _scaled(photo_YX3: Tensor, resolution: int) -> Tensor:
    """(1, Y, X, 3): the shorter side at most `resolution`, both multiples of 8."""
    height, width = photo_YX3.shape[:2]
    scale = min(1.0, resolution / min(height, width))
    size = [max(_MULTIPLE, round(side * scale / _MULTIPLE) * _MULTIPLE) for side in (height, width)]
    picture = photo_YX3.permute(2, 0, 1)[None]
    if size != [height, width]:
        picture = interpolate(picture, size, mode="bilinear", antialias=True)
    return picture.permute(0, 2, 3, 1).clamp(0.0, 1.0)


def _grown(mask_1YX: Tensor, grow: float, size: tuple[int, int]) -> Tensor:
    """The mask with a wider edge, (Y, X) at the photo's size."""
    reach = round(grow * min(mask_1YX.shape[-2:]))
    mask = mask_1YX[None]
    if reach:  # a square is rows of columns: a photo of 512 px is grown in a second, not in minutes
        mask = max_pool2d(mask, (2 * reach + 1, 1), stride=1, padding=(reach, 0))
        mask = max_pool2d(mask, (1, 2 * reach + 1), stride=1, padding=(0, reach))
    return interpolate(mask, size, mode="bilinear", antialias=True)[0, 0].clamp(0.0, 1.0)
