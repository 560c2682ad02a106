"""Cards of workflows that have no result here, for they need trained weights: drawings that say so.

.venv/bin/python tests/browser/schematic.py "workflows/Teach a subject (SDXL).jpg"
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

SIZE, PAPER, INK, FRAME = (1000, 560), (24, 25, 29), (222, 224, 230), (127, 159, 176)
WIDTH, HEIGHT, TOP, GAP = 270, 210, 190, 55


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """What a card says."""

    head: str
    boxes: tuple[tuple[str, str], ...]
    """Title and text of each, from left to right."""
    seen: str
    """What was run, and what was not."""


CARDS = {
    "Teach a subject (SDXL)": Drawing(
        head="3-6 photos  >  three stages  >  embedding and weights for stock nodes",
        boxes=(
            ("1  Learn the word", "one placeholder,\ntwo vectors:\nclip_l and clip_g"),
            (
                "2  Tie its attention",
                "70 cross-attention\nlayers, pooled text,\nsizes of every crop",
            ),
            ("3  Learn the looks", "the whole U-Net,\n1024 px, batch 4"),
        ),
        seen="Checked on a small SDXL of random weights (docs/sdxl.md).",
    ),
    "Teach a subject (SDXL, LoRA)": Drawing(
        head="3-6 photos  >  three stages  >  embedding and a small LoRA for stock nodes",
        boxes=(
            ("1  Learn the word", "one placeholder,\ntwo vectors:\nclip_l and clip_g"),
            (
                "2  Tie its attention",
                "LoRA of rank 16 on\n70 cross-attention\nlayers",
            ),
            ("3  Learn the looks", "LoRA of rank 16,\n1024 px, batch 4"),
        ),
        seen="Checked on a small SDXL of random weights (docs/sdxl.md).",
    ),
}
"""By the workflow's name."""


def card(name: str) -> Image.Image:
    """Three boxes with arrows, and below them what nobody has seen yet."""
    drawing, sheet = CARDS[name], Image.new("RGB", SIZE, PAPER)
    draw = ImageDraw.Draw(sheet)
    _line(draw, 60, name, 44)
    _line(draw, 122, drawing.head, 24)
    left = (SIZE[0] - 3 * WIDTH - 2 * GAP) // 2
    for number, (title, text) in enumerate(drawing.boxes):
        x = left + number * (WIDTH + GAP)
        draw.rounded_rectangle((x, TOP, x + WIDTH, TOP + HEIGHT), 14, outline=FRAME, width=3)
        draw.text((x + 18, TOP + 18), title, INK, _font(26))
        draw.multiline_text((x + 18, TOP + 76), text, FRAME, _font(23), spacing=9)
        if number:
            y = TOP + HEIGHT // 2
            draw.line((x - GAP + 10, y, x - 16, y), INK, 4)
            draw.polygon([(x - 22, y - 9), (x - 22, y + 9), (x - 6, y)], INK)
    _line(draw, 440, "A drawing: never run on trained weights nor on a GPU.", 28)
    _line(draw, 486, drawing.seen, 24)
    return sheet


def _line(draw: ImageDraw.ImageDraw, y: int, text: str, size: int) -> None:
    draw.text((SIZE[0] / 2, y), text, INK, _font(size), anchor="ma")


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


if __name__ == "__main__":
    target = Path(sys.argv[1])
    card(target.stem).save(target, quality=90)
