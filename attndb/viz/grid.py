"""Heat maps in rows and columns, with captions and colour bars that say the values.

Pictures are (Y, X, 3) fp32 in 0..1, maps (Y, X) and not negative.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from .colormap import colour_table
from .heatmaps import Cell, HeatmapStyle, overlay, resize_map, scaled
from .letters import letters

BACKGROUND = (24, 24, 28)
TEXT = (236, 236, 240)
FAINT_TEXT = (160, 160, 170)
_GAP = 10


def grid(cells: Sequence[Cell], style: HeatmapStyle, *, title: str = "") -> Tensor:
    """All cells in rows, with captions and colour bars, (Y, X, 3) in 0..1."""
    if not cells:
        raise ValueError("cells is empty: a grid needs at least one")
    per_row = style.columns or _columns_for(len(cells))
    per_row = min(per_row, len(cells))
    rows = [list(cells[start : start + per_row]) for start in range(0, len(cells), per_row)]
    return table(rows, style, title=title)


def table(rows: Sequence[Sequence[Cell]], style: HeatmapStyle, *, title: str = "") -> Tensor:
    """Cells at given rows and columns, like `grid`."""
    cells = [cell for row in rows for cell in row]
    of_all = _range([cell.heat for cell in cells])
    shared = style.normalization == "shared" and of_all[1] > of_all[0]
    shape = len(rows), max(len(row) for row in rows)
    font_size = max(12, style.cell // 17)
    sheet = _Sheet(shape, _cell_size(cells, style.cell), font_size, title, with_bar=shared)
    for r, row in enumerate(rows):
        for c, cell in enumerate(row):
            span = of_all if shared else _range([cell.heat])
            picture = _picture_of(cell, sheet.width, sheet.height, span, style.opacity)
            sheet.put((r, c), picture, cell, None if shared else span)
    if shared:
        sheet.put_bar(of_all)
    return torch.from_numpy(np.array(sheet.canvas)).float() / 255


class _Sheet:
    """A canvas with a title, places for cells of one size, and room for a colour bar beside them.

    Every cell has its label below it: its own colour bar too, where there is none for all.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        cell_size: tuple[int, int],
        font_size: int,
        title: str,
        *,
        with_bar: bool,
    ) -> None:
        """`shape`: rows and columns. `cell_size`: width and height of the cells' pictures."""
        rows, columns = shape
        self.width, self.height = cell_size
        self._font_size = font_size
        self._label_height = int(font_size * (1.7 if with_bar else 2.6))
        self._bar = int(font_size * 5.5) if with_bar else 0
        across = columns * (self.width + _GAP) - _GAP
        lines = _wrap(title, letters(font_size + 1), across)
        self._top = _GAP + (len(lines) * int(font_size * 1.5) + _GAP if lines else 0)
        down = self._top + rows * (self.height + self._label_height + _GAP)
        self.canvas = Image.new("RGB", (across + 2 * _GAP + self._bar, down), BACKGROUND)
        self._draw = ImageDraw.Draw(self.canvas)
        for number, line in enumerate(lines):
            place = (_GAP, _GAP + number * int(font_size * 1.5))
            self._draw.text(place, line, font=letters(font_size + 1), fill=TEXT)

    def put(
        self,
        place: tuple[int, int],
        picture: Image.Image,
        cell: Cell,
        span: tuple[float, float] | None,
    ) -> None:
        """A cell at a row and column; `span`: the values of its own colour bar, if it has one."""
        row, column = place
        left = _GAP + column * (self.width + _GAP)
        upper = self._top + row * (self.height + self._label_height + _GAP)
        self.canvas.paste(picture, (left, upper))
        self._caption(cell, left, upper + self.height)
        if span is not None and cell.heat is not None:
            self._level_bar(left, upper + self.height + int(self._font_size * 1.65), span)

    def _caption(self, cell: Cell, left: int, top: int) -> None:
        """Caption left, detail right."""
        font_size, room = self._font_size, self.width
        if cell.detail:
            small = letters(max(10, font_size - 3))
            taken = self._draw.textlength(cell.detail, font=small)
            place = (left + self.width - taken, top + font_size * 0.4)
            self._draw.text(place, cell.detail, font=small, fill=FAINT_TEXT)
            room = int(self.width - taken - 6)
        caption = _shorten(cell.caption, letters(font_size), room)
        place = (left, top + font_size * 0.25)
        self._draw.text(place, caption, font=letters(font_size), fill=TEXT)

    def _level_bar(self, left: int, top: int, span: tuple[float, float]) -> None:
        """A cell's colour bar between its least and its most."""
        draw, font_size = self._draw, self._font_size
        small = letters(max(10, font_size - 3))
        low, high = (format_value(value) for value in span)
        low_width, high_width = (int(draw.textlength(v, font=small)) + 5 for v in (low, high))
        draw.text((left, top), low, font=small, fill=FAINT_TEXT)
        draw.text((left + self.width, top), high, font=small, fill=FAINT_TEXT, anchor="ra")
        length = self.width - low_width - high_width
        if length > 8:
            strip = np.repeat(colour_table(length)[None], max(4, font_size // 2), axis=0)
            self.canvas.paste(Image.fromarray(strip), (left + low_width, top + font_size // 4))

    def put_bar(self, span: tuple[float, float]) -> None:
        """The colour bar for all cells, upright, with the values at five places."""
        left, top = self.canvas.width - self._bar + _GAP, self._top
        height = self.canvas.height - top - self._label_height - _GAP
        thickness = max(10, self._font_size)
        strip = np.repeat(colour_table(height)[::-1, None], thickness, axis=1)
        self.canvas.paste(Image.fromarray(strip), (left, top))
        small = letters(max(10, self._font_size - 2))
        for step in range(5):
            value = span[0] + (span[1] - span[0]) * step / 4
            line = top + (height - 1) * (1 - step / 4)
            self._draw.line((left + thickness, line, left + thickness + 4, line), fill=FAINT_TEXT)
            anchor = "la" if step == 4 else ("ls" if step == 0 else "lm")
            place = (left + thickness + 8, line)
            self._draw.text(place, format_value(value), font=small, fill=TEXT, anchor=anchor)


def _columns_for(count: int) -> int:
    """Columns of a wide rectangle with few empty places."""
    if count <= 5:
        return count
    return min(range(3, 9), key=lambda columns: _waste(count, columns))


def _waste(count: int, columns: int) -> float:
    rows = -(-count // columns)
    return (rows * columns - count) / count + abs(np.log(columns / rows / 1.6))


def _cell_size(cells: Sequence[Cell], longer: int) -> tuple[int, int]:
    """Width and height of every cell: the shape of the first picture or map."""
    for cell in cells:
        shown = cell.picture if cell.picture is not None else cell.heat
        if shown is not None:
            height, width = shown.shape[:2]
            scale = longer / max(height, width)
            return max(1, round(width * scale)), max(1, round(height * scale))
    return longer, longer


def _range(maps: Sequence[Tensor | None]) -> tuple[float, float]:
    found = [heat for heat in maps if heat is not None]
    if not found:
        return 0.0, 0.0
    return min(float(h.min()) for h in found), max(float(h.max()) for h in found)


def _picture_of(
    cell: Cell, width: int, height: int, span: tuple[float, float], opacity: float
) -> Image.Image:
    if cell.picture is None:
        base, opacity = torch.full((height, width, 3), 1.0), 1.0
    else:
        whole = cell.picture.detach().cpu().float().clamp(0, 1)
        picture = Image.fromarray((whole.numpy() * 255).round().astype(np.uint8))
        fitted = picture.resize((width, height), Image.Resampling.LANCZOS)
        base = torch.from_numpy(np.array(fitted)).float() / 255
    if cell.heat is not None:
        heat = scaled(resize_map(cell.heat.detach().cpu(), height, width), *span)
        base = overlay(base, heat, opacity)
    elif cell.picture is None:
        base = torch.tensor(BACKGROUND).float().div(255).mul(1.5).expand(height, width, 3)
    return Image.fromarray((base.clamp(0, 1).numpy() * 255).round().astype(np.uint8))


def format_value(value: float) -> str:
    """A share as a short number with two figures that count: 12%, 0.84%, 0.013%."""
    percent = 100 * value
    if percent >= 9.95 or percent == 0:
        return f"{percent:.0f}%"
    decimals = max(1, 1 - int(np.floor(np.log10(abs(percent)))))
    return f"{percent:.{min(decimals, 6)}f}%"


def _shorten(text: str, font: Any, room: int) -> str:
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(text + "...") > room:
        text = text[:-1]
    return text + "..."


def broken(text: str, font: Any, room: int) -> list[str]:
    """The text in lines of at most `room` pixels; a word that is longer takes several."""
    lines: list[str] = []
    for word in text.split():
        joined = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(joined) <= room:
            lines[-1] = joined
        else:
            lines += _pieces(word, font, room)
    return lines


def _pieces(word: str, font: Any, room: int) -> list[str]:
    pieces = []
    while len(word) > 1 and font.getlength(word) > room:
        fits = bisect_right(range(1, len(word)), room, key=lambda n: font.getlength(word[:n]))
        pieces.append(word[: max(1, fits)])
        word = word[max(1, fits) :]
    return [*pieces, word]


def _wrap(text: str, font: Any, room: int) -> list[str]:
    """Lines of at most `room` pixels, four at most."""
    lines = broken(text, font, room)
    if len(lines) > 4:
        lines = [*lines[:3], _shorten(" ".join(lines[3:]), font, room)]
    return lines
