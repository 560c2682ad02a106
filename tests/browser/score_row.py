"""A table of scores in Markdown as a picture, for a workflow's card."""

from __future__ import annotations

import re
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

WIDTH, LINE, TEXT, EDGE = 980, 38, 21, 12
PAPER, INK, BEST = (32, 34, 40), (190, 193, 202), (255, 214, 102)
FIRST = 0.3
"""Share of the width that the rows' names have."""
SHOWN = ("identity", "foreground", "text", "present")
"""Columns: more cannot be read on a card."""


def rows_of(markdown: str) -> list[list[str]]:
    """The cells of its table, the head first, without those columns that are not shown."""
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    head, *body = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for number, line in enumerate(lines)
        if number != 1  # the rule below the head
    ]
    kept = [0, *(number for number, name in enumerate(head) if name in SHOWN)]
    return [[row[number] for number in kept] for row in [head, *body]]


def score_row(markdown: str) -> Image.Image:
    """The table, the best of each column, bold there, in another colour."""
    rows = rows_of(markdown)
    sheet = Image.new("RGB", (WIDTH, LINE * len(rows) + 2 * EDGE), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(TEXT)
    for number, row in enumerate(rows):
        y = EDGE + LINE * number + LINE // 2
        for x, cell in zip(_places(row), row, strict=True):
            best = cell.startswith("**")
            draw.text((x, y), cell.strip("*"), BEST if best else INK, font, anchor="lm")
    return sheet


def _places(row: Sequence[str]) -> list[float]:
    each = WIDTH * (1 - FIRST) / max(1, len(row) - 1)
    return [2 * EDGE, *(WIDTH * FIRST + each * number for number in range(len(row) - 1))]
