"""How sharp a photo is at the size at which it is trained on."""

from __future__ import annotations

import numpy as np
from PIL import Image

from .augmentation import SUBJECT_LEVEL, scaled_size
from .photo import Photo

BLURRED = 50.0
"""Below it a photo is taken for blurred. Nine photographs of scikit-image have 65 to 1535 at a
resolution of 512, and 2 to 15 after a Gaussian blur of 2 pixels (2026-11-26). The 100 of many
tutorials would also name smooth ones: the moon (65), a retina (91)."""


def sharpness(photo: Photo, resolution: int) -> float:
    """The variance of the Laplacian (Pech-Pacheco et al. 2000) of grey levels 0..255, at the size
    of the photo's crops, over the subject where a mask says it. Smaller photos stay as they are.
    """
    image, mask = photo.image, photo.mask
    if min(image.size) > resolution:
        size = scaled_size(image.size, resolution)
        image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
        mask = None if mask is None else mask.resize(size, Image.Resampling.BILINEAR)
    grey_YX = np.asarray(image.convert("L"), dtype=np.float32)
    if min(grey_YX.shape) < 3:
        return 0.0
    laplacian = (
        grey_YX[:-2, 1:-1]
        + grey_YX[2:, 1:-1]
        + grey_YX[1:-1, :-2]
        + grey_YX[1:-1, 2:]
        - 4.0 * grey_YX[1:-1, 1:-1]
    )
    if mask is not None:
        subject = np.asarray(mask)[1:-1, 1:-1] >= SUBJECT_LEVEL
        laplacian = laplacian[subject] if subject.any() else laplacian
    return float(laplacian.var())
