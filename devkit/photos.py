"""Photographs of one subject: crops and views of the cat that ships with scikit-image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

EXIF_ORIENTATION = 0x0112
ROTATED_90 = 6  # "turn me clockwise to be upright"

_VIEWS = {
    # name: box (left, upper, right, lower) in the photo of 451 x 300 pixels
    "cat_1.png": (0, 0, 451, 300),
    "cat_2.jpg": (70, 0, 350, 280),
    "cat_3.jpg": (120, 20, 320, 260),
    "cat_4.png": (60, 40, 300, 240),
    "cat_5.jpg": (20, 0, 320, 300),
}
TURNED = "cat_3.jpg"
"""Stored lying on its side, with the EXIF tag that says so: a phone held upright."""
MIRRORED = "cat_4.png"


def write_photos(folder: Path, count: int = 5) -> list[Path]:
    """Write `count` (1-5) photos into `folder` and return their paths in sorted order."""
    import skimage.data

    if not 1 <= count <= len(_VIEWS):
        raise ValueError(f"count: there are 1 to {len(_VIEWS)} photos, not {count}")
    folder.mkdir(parents=True, exist_ok=True)
    photo = Image.fromarray(skimage.data.chelsea())
    paths = []
    for name, box in list(_VIEWS.items())[:count]:
        view = photo.crop(box)
        exif = Image.Exif()
        if name == MIRRORED:
            view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if name == TURNED:
            view = view.transpose(Image.Transpose.ROTATE_90)
            exif[EXIF_ORIENTATION] = ROTATED_90
        path = folder / name
        quality: dict[str, Any] = {"quality": 92} if path.suffix == ".jpg" else {}
        view.save(path, exif=exif, **quality)
        paths.append(path)
    return paths
