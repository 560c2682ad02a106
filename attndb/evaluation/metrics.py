"""What is measured of pictures by unit vectors: identity, text, presence against distractors.

Source: Textual Inversion's protocol (Gal et al., 2022): mean cosines of CLIP features; DINO for
identity since DreamBooth (Ruiz et al., 2023). N pictures, R photos of the subject, D features.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

GROUND = 0.5
"""The grey that takes the background's place."""
_SEEN = 1e-3
"""Share of a picture that a mask has to cover: less is no subject."""


def identity(pictures_ND: Tensor, photos_RD: Tensor) -> Tensor:
    """Mean cosine of each picture with all photos, (N,); their mean is that over all pairs."""
    return (pictures_ND @ photos_RD.T).mean(dim=1)


def best_identity(pictures_ND: Tensor, photos_RD: Tensor) -> Tensor:
    """Cosine of each picture with the photo that it is most like, (N,)."""
    return (pictures_ND @ photos_RD.T).amax(dim=1)


def agreement(pictures_ND: Tensor, texts_ND: Tensor) -> Tensor:
    """Cosine of each picture with its own text, (N,)."""
    return (pictures_ND * texts_ND).sum(dim=1)


def outdone(likeness: float, others: Sequence[float]) -> float | None:
    """Share of distractors that look less like the subject than a picture does, ties half; None
    without one.

    `likeness`: the picture's identity; `others`: that of other subjects of the category in the
    same scene. A picture that shows just another one of the category has 0.5 on average.
    """
    if not others:
        return None
    points = sum(1.0 if other < likeness else 0.5 if other == likeness else 0.0 for other in others)
    return points / len(others)


def foreground(picture: Tensor, mask_YX: Tensor) -> Tensor | None:
    """The picture with grey where the mask is 0; the mask (0..1) is brought to its size. None if
    the mask shows nothing: there is no subject to look at."""
    height, width = picture.shape[:2]
    mask = mask_YX.detach().float().cpu()
    if mask.shape != (height, width):
        size = (height, width)
        mask = F.interpolate(mask[None, None], size=size, mode="bilinear", antialias=True)[0, 0]
    mask = mask.clamp(0.0, 1.0)
    if float(mask.mean()) < _SEEN:
        return None
    share = mask[..., None]
    return share * picture.float().cpu() + (1.0 - share) * GROUND


def mean(values: Sequence[float | None]) -> float | None:
    """Of those that there are; None of none."""
    there = torch.tensor([v for v in values if v is not None], dtype=torch.float64)
    return float(there.mean()) if len(there) else None
