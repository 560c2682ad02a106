"""Preprocessing: a picture as an image encoder of Hugging Face transformers takes it.

As the library's own PIL processors do it: 8 bit, resized, cut, scaled, normalised; with the values
of the folder's preprocessor_config.json.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

FILES = ("preprocessor_config.json", "processor_config.json")
"""Where the values stand; in the second within `image_processor`."""
_UNUSABLE = (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError)


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """Sizes in pixels (height, width), mean and spread by channel."""

    shortest: int | None
    """The shorter side after resizing; None: `size` is the whole size."""
    size: tuple[int, int] | None
    """None, and no shortest: not resized."""
    crop: tuple[int, int] | None
    """Cut from the middle; None: not cut."""
    resample: int
    """PIL's number."""
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, picture: Tensor) -> Tensor:
        """(3, Y, X) fp32 of a picture (Y, X, 3) in 0..1."""
        pixels = (picture[..., :3].clamp(0.0, 1.0) * 255.0).round().to(torch.uint8)
        pixels = pixels.expand(-1, -1, 3).cpu().numpy()
        image = Image.fromarray(pixels)
        wanted = self._size(image.height, image.width)
        if wanted != (image.height, image.width):
            image = image.resize((wanted[1], wanted[0]), Image.Resampling(self.resample))
        if self.crop is not None:
            top = (image.height - self.crop[0]) // 2
            left = (image.width - self.crop[1]) // 2
            image = image.crop((left, top, left + self.crop[1], top + self.crop[0]))
        values = torch.from_numpy(np.array(image)).float() * self.scale
        mean, std = torch.tensor(self.mean), torch.tensor(self.std)
        return ((values - mean) / std).permute(2, 0, 1)

    def _size(self, height: int, width: int) -> tuple[int, int]:
        if self.shortest is None:
            return self.size or (height, width)
        short, long = min(height, width), max(height, width)
        longer = int(self.shortest * long / short)
        return (self.shortest, longer) if height <= width else (longer, self.shortest)


def read_preprocessing(folder: Path) -> Preprocessing:
    """Of a folder of transformers. ValueError if it has none, or one that is not understood."""
    path = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if path is None:
        raise ValueError(
            f"{folder} lacks {FILES[0]}, which says how pictures are resized: download it with "
            "the model"
        )
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return _parsed(values.get("image_processor", values))
    except _UNUSABLE as error:
        raise ValueError(f"{path} cannot be used ({error}): download it again") from error


def _parsed(values: dict[str, Any]) -> Preprocessing:
    kind = str(values.get("image_processor_type", values.get("feature_extractor_type", "")))
    shortest, whole = _resized(values, kind)
    normal = values.get("do_normalize", True)
    smooth = Image.Resampling.BILINEAR if kind.startswith("ViT") else Image.Resampling.BICUBIC
    return Preprocessing(
        shortest=shortest,
        size=whole,
        crop=_crop(values),
        resample=int(values.get("resample", smooth)),
        scale=float(values.get("rescale_factor", 1 / 255)) if values.get("do_rescale", True) else 1,
        mean=_three(values["image_mean"]) if normal else (0.0, 0.0, 0.0),
        std=_three(values["image_std"]) if normal else (1.0, 1.0, 1.0),
    )


def _resized(values: dict[str, Any], kind: str) -> tuple[int | None, tuple[int, int] | None]:
    """The shorter side, or height and width, that pictures are resized to; neither: they stay."""
    if not values.get("do_resize", True):
        return None, None
    size = values.get("size")
    if size is None:
        raise ValueError("it says no size that pictures are resized to")
    if isinstance(size, int):  # of old: CLIP's is the shorter side, ViT's the whole
        return (None, (size, size)) if kind.startswith("ViT") else (size or None, None)
    if not isinstance(size, dict):
        return None, None
    if shortest := size.get("shortest_edge"):
        return int(shortest), None
    return None, (int(size["height"]), int(size["width"]))


def _crop(values: dict[str, Any]) -> tuple[int, int] | None:
    """Height and width of what is cut from the middle."""
    crop = values.get("crop_size") if values.get("do_center_crop", True) else None
    if crop is None:
        return None
    if isinstance(crop, dict):
        return int(crop["height"]), int(crop["width"])
    return int(crop), int(crop)


def _three(values: Sequence[float]) -> tuple[float, ...]:
    if len(values) != 3 or not all(isinstance(v, (int, float)) for v in values):
        raise ValueError(f"{values} are not three numbers")
    return tuple(float(v) for v in values)
