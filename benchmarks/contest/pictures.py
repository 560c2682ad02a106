"""Pictures: of each row of the table a strip, one picture for some of the prompts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...attndb.artifacts.tensor_file import write_whole
from ...micro.prompts import PROMPTS, Prompt
from .rows import Row

SHOWN = (0, 2, 5, 8, 12, 18, 20, 24)
"""Numbers of the prompts whose first picture is kept: two of each kind."""
QUALITY = 85


def shown_prompts() -> list[Prompt]:
    """Those of the strip, from left to right."""
    return [PROMPTS[number] for number in SHOWN]


def strip_path(folder: Path, row: Row) -> Path:
    """Beside the row, under its name."""
    return folder / Path(row.file).with_suffix(".webp")


def keep_pictures(folder: Path, row: Row, pictures: NDArray[np.uint8], images: int) -> None:
    """Write a row's strip; `pictures` (N, Y, X, 3) are `images` of each prompt in turn."""
    strip = Image.fromarray(np.concatenate([pictures[n * images] for n in SHOWN], axis=1))
    path = strip_path(folder, row)
    write_whole({path: lambda handle: strip.save(handle, "WEBP", quality=QUALITY)})
