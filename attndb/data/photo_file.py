"""One picture from a file or an array: upright, in RGB."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from .photo import DatasetError, Photo


def upright(image: Image.Image) -> Image.Image:
    """The picture turned as its EXIF tag asks, in RGB; transparency becomes white."""
    image = ImageOps.exif_transpose(image)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        backdrop = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(backdrop, rgba).convert("RGB")
    if image.mode in ("I;16", "I;16B", "I"):
        scaled = np.asarray(image, dtype=np.float32) / 256.0
        return Image.fromarray(scaled.clip(0, 255).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")


def read_photo(path: Path, name: str) -> Photo:
    """One image file, upright. DatasetError names a file that is empty, broken or no image."""
    try:
        if path.stat().st_size == 0:
            raise DatasetError(f"{name} is empty (0 bytes)")
        with Image.open(path) as opened:
            opened.load()
            return Photo(name, upright(opened))
    except UnidentifiedImageError as error:
        raise DatasetError(f"{name} is not an image that can be read") from error
    except Image.DecompressionBombError as error:
        raise DatasetError(f"{name} is too large to be opened safely: {error}") from error
    except (OSError, SyntaxError) as error:
        raise DatasetError(f"{name} is broken or unreadable: {error}") from error


def photos_from_arrays(images: Sequence[np.ndarray], name: str = "image") -> tuple[Photo, ...]:
    """Photos from float arrays (height, width, 3 or 4) in 0..1, as ComfyUI's IMAGE holds them.

    They are called `<name> 1`, `<name> 2`, ... in messages.
    """
    photos = []
    for number, array in enumerate(images, start=1):
        pixels = np.round(np.clip(array, 0.0, 1.0) * 255.0).astype(np.uint8)
        photos.append(Photo(f"{name} {number}", upright(Image.fromarray(pixels))))
    return tuple(photos)
