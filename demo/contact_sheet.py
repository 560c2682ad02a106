"""ContactSheet: what a subject looks like in its photos, before training and after each stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..attndb.artifacts.tensor_file import png_writer, write_whole
from ..attndb.viz.grid import BACKGROUND, table
from ..attndb.viz.heatmaps import Cell, HeatmapStyle
from ..micro.world import SIZE
from .scenes import SCENES

_STYLE = HeatmapStyle(cell=160, normalization="per word")


class ContactSheet:
    """Rows of pictures, and rows of attention maps below them. The pictures are also kept one by
    one, as they come."""

    def __init__(self, output: Path, words: tuple[str, str], photos: Sequence[Image.Image]) -> None:
        """`output`: the folder of it all. `words`: the placeholder and its category."""
        self._output, self._words = output, words
        self._photos = [
            Cell(f"photo {number}", _tensor(photo)) for number, photo in enumerate(photos, 1)
        ][: len(SCENES)]
        self._rows: list[list[Cell]] = []
        self._maps: list[list[Cell]] = []

    def add(self, title: str, drawn: Sequence[Cell]) -> None:
        """A row of scenes."""
        self._rows.append([replace(cell, caption=f"{title}: {cell.caption}") for cell in drawn])
        for number, cell in enumerate(drawn, start=1):
            assert cell.picture is not None, "a scene was drawn"
            name = f"{title} {number}.png".replace(" ", "-")
            save_image(_image(cell.picture), self._output / "pictures" / name)

    def add_maps(self, title: str, mapped: Sequence[Cell]) -> None:
        """A row of scenes and their maps."""
        self._maps.append(
            [replace(cell, caption=cell.caption or f"after {title}") for cell in mapped]
        )

    def save(self) -> Path:
        """Writes the sheet; where it is."""
        placeholder, category = self._words
        learned = f"what {placeholder} is learned from: photos of the painted world"
        drawn = (
            f"drawn by attndb-micro ({SIZE} x {SIZE} px): {category} before training, "
            f"{placeholder} {category} after each stage"
        )
        look = f"where {placeholder} and {category} look"
        tables = {learned: [self._photos], drawn: self._rows, look: self._maps}
        path = self._output / "contact_sheet.png"
        made = [_image(table(rows, _STYLE, title=title)) for title, rows in tables.items()]
        save_image(_stacked(made), path)
        return path


def save_image(image: Image.Image, path: Path) -> None:
    """Writes a PNG."""
    write_whole({path: png_writer(image)})


def _image(picture: torch.Tensor) -> Image.Image:
    return Image.fromarray((picture.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy())


def _tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.asarray(image.convert("RGB"), dtype=np.float32) / 255.0)


def _stacked(pictures: Sequence[Image.Image]) -> Image.Image:
    width = max(picture.width for picture in pictures)
    stacked = Image.new("RGB", (width, sum(p.height for p in pictures)), BACKGROUND)
    top = 0
    for picture in pictures:
        stacked.paste(picture, (0, top))
        top += picture.height
    return stacked
