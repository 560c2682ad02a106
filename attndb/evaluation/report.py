"""Report: what a person would send to a friend of a training, as one HTML file and one picture.

The file opens without a server and asks for nothing: pictures are in it.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..config.printable import printable
from ..viz.text_panel import text_panel

Row = tuple[str, ...]
HTML, PICTURE = "report.html", "report.png"
"""Names of its two files."""
WIDTH = 1200
"""Of the picture, in pixels."""
_LARGE = 1 << 20
_JPEG_SIDE = 65_500
"""The most pixels of a JPEG's side."""
_MOST_COLUMNS = 9
"""Of a table in the picture, beside its first: in narrower ones a number would be cut."""
_STYLE = """
body { margin: 2em auto; max-width: 75em; padding: 0 1em; background: #18181c; color: #ececf0;
  font: 16px/1.5 system-ui, sans-serif; }
h1, h2 { font-weight: 600; } figure { margin: 1em 0; } img, svg { max-width: 100%; height: auto; }
figcaption, summary { color: #a0a0aa; } table { border-collapse: collapse; margin: 1em 0; }
td, th { border-bottom: 1px solid #3a3c44; padding: .3em .9em .3em 0; text-align: left;
  vertical-align: top; font-weight: 400; } tr:first-child th { color: #a0a0aa; }
pre { white-space: pre-wrap; }
"""
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A drawing as both things that a report is: sharp at any size, and pixels."""

    caption: str
    svg: str
    """An `<svg>` element of our own (viz/svg.py): it goes into the page as it is."""
    picture: Image.Image


@dataclass(frozen=True, kw_only=True)
class Section:
    """One part of a report; what is empty is left out."""

    title: str
    text: str = ""
    rows: Sequence[Row] = ()
    """A table; its first row is the head if `head`."""
    head: bool = True
    pictures: Sequence[tuple[str, Image.Image]] = ()
    """Caption and picture."""
    figures: Sequence[Figure] = ()
    folded: bool = False
    """Shut until somebody opens it, and not in the picture."""

    @property
    def empty(self) -> bool:
        """Whether there is nothing to show."""
        return not (self.text.strip() or self.rows or self.pictures or self.figures)


@dataclass(frozen=True, kw_only=True)
class Report:
    """A title and its sections."""

    title: str
    sections: Sequence[Section]

    @property
    def shown(self) -> list[Section]:
        """The sections that hold something."""
        return [section for section in self.sections if not section.empty]


def to_picture(pixels: Tensor) -> Image.Image:
    """The PIL picture of (Y, X, 3) in 0..1."""
    whole = pixels[..., :3].expand(-1, -1, 3).detach().cpu().float().clamp(0, 1)
    return Image.fromarray((whole * 255).round().to(torch.uint8).numpy())


def report_html(report: Report) -> str:
    """One HTML file that needs nothing else."""
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{_safe(report.title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{_safe(report.title)}</h1>",
    ]
    for section in report.shown:
        body = _body(section)
        if section.folded:
            parts.append(f"<details><summary>{_safe(section.title)}</summary>{body}</details>")
        else:
            parts.append(f"<h2>{_safe(section.title)}</h2>{body}")
    return "\n".join([*parts, "</body></html>", ""])


def _body(section: Section) -> str:
    parts = []
    if section.text.strip():
        parts.append(f"<pre>{_safe(section.text, lines=True)}</pre>")
    if section.rows:
        parts.append(_table(section.rows, section.head))
    for caption, picture in section.pictures:
        shown = f"<figcaption>{_safe(caption)}</figcaption>" if caption else ""
        alt = html.escape(printable(caption or section.title))
        parts.append(f'<figure><img alt="{alt}" src="{data_url(picture)}">{shown}</figure>')
    for figure in section.figures:
        shown = f"<figcaption>{_safe(figure.caption)}</figcaption>" if figure.caption else ""
        parts.append(f"<figure>{figure.svg}{shown}</figure>")
    return "\n".join(parts)


def _table(rows: Sequence[Row], head: bool) -> str:
    lines = []
    for number, row in enumerate(rows):
        kind = "th" if head and number == 0 else "td"
        cells = "".join(f"<{kind}>{_safe(cell)}</{kind}>" for cell in row)
        lines.append(f"<tr>{cells}</tr>")
    return f"<table>{''.join(lines)}</table>"


def _safe(text: str, *, lines: bool = False) -> str:
    shown = "\n".join(map(printable, text.splitlines())) if lines else printable(text)
    return html.escape(shown)


def data_url(picture: Image.Image) -> str:
    """The picture within its address: PNG, or JPEG where that is larger than 1 MB and JPEG can."""
    kind, data = "png", png(picture)
    if len(data) > _LARGE and max(picture.size) <= _JPEG_SIDE:
        buffer = io.BytesIO()
        picture.convert("RGB").save(buffer, "JPEG", quality=92)
        kind, data = "jpeg", buffer.getvalue()
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def png(picture: Image.Image) -> bytes:
    """The content of a PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def report_picture(report: Report) -> Tensor:
    """All that is not folded, one below the other, (Y, 1200, 3) in 0..1."""
    parts = [text_panel([report.title], WIDTH, 28)]
    for section in report.shown:
        if section.folded:
            continue
        parts.append(text_panel([section.title], WIDTH, 20))
        if section.text.strip():
            parts.append(text_panel([printable(t) for t in section.text.splitlines()], WIDTH, 15))
        if section.rows:
            parts.append(_drawn_rows(section.rows))
        drawn = [(figure.caption, figure.picture) for figure in section.figures]
        for caption, picture in [*section.pictures, *drawn]:
            parts.append(_fitted(picture))
            if caption:
                parts.append(text_panel([printable(caption)], WIDTH, 14))
    return torch.cat(parts)


def _drawn_rows(rows: Sequence[Row]) -> Tensor:
    """A table as text panels side by side, a row below the other; one of many columns in parts, one
    below the other, each with the first column."""
    more = max(len(row) for row in rows) - 1
    parts = max(1, -(-more // _MOST_COLUMNS))
    each = max(1, -(-more // parts))
    return torch.cat(
        [
            _drawn_part([(*row[:1], *row[first : first + each]) for row in rows])
            for first in range(1, 1 + parts * each, each)
        ]
    )


def _drawn_part(rows: Sequence[Row]) -> Tensor:
    count = max(len(row) for row in rows)
    first = WIDTH * 3 // 10 if count > 1 else WIDTH
    rest = (WIDTH - first) // max(1, count - 1)
    widths = [first, *([rest] * (count - 1))]
    widths[-1] += WIDTH - sum(widths)
    lines = []
    for row in rows:
        cells = [printable(cell, 120) for cell in (*row, *[""] * (count - len(row)))]
        panels = [text_panel([c or " "], w, 15) for c, w in zip(cells, widths, strict=True)]
        height = max(panel.shape[0] for panel in panels)
        lines.append(torch.cat([_tall(panel, height) for panel in panels], dim=1))
    return torch.cat(lines)


def _tall(panel: Tensor, height: int) -> Tensor:
    """The panel with its ground below, up to a height."""
    below = panel[:1, :1].expand(height - panel.shape[0], panel.shape[1], 3)
    return torch.cat([panel, below])


def _fitted(picture: Image.Image) -> Tensor:
    """The picture in the middle, made smaller where it is wider than the report."""
    shown = picture.convert("RGB")
    if shown.width > WIDTH:
        shown = shown.resize((WIDTH, max(1, round(shown.height * WIDTH / shown.width))))
    ground = text_panel([" "], WIDTH, 10)[:1, :1]
    whole = ground.expand(shown.height, WIDTH, 3).clone()
    left = (WIDTH - shown.width) // 2
    whole[:, left : left + shown.width] = torch.from_numpy(np.array(shown)).float() / 255
    return whole
