"""Lines of text as a picture, broken where they are too long."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from .grid import BACKGROUND, TEXT, broken
from .letters import letters

_EDGE = 10


def text_panel(lines: Sequence[str], width: int, size: int) -> Tensor:
    """The lines, each broken into as many as it takes, in letters of a size in pixels: (Y, width,
    3) in 0..1."""
    font = letters(size)
    shown = [part for line in lines for part in broken(line, font, width - 2 * _EDGE)]
    step = round(size * 1.5)
    panel = Image.new("RGB", (width, step * len(shown) + 2 * _EDGE), BACKGROUND)
    draw = ImageDraw.Draw(panel)
    for number, line in enumerate(shown):
        draw.text((_EDGE, _EDGE + number * step), line, font=font, fill=TEXT)
    return torch.from_numpy(np.array(panel)).float() / 255
