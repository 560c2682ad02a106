"""Word maps with the pictures they belong to, ready to be shown, measured and compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..attention import map_metrics
from ..attention.word_maps import WordMaps
from .grid import format_value, grid, table
from .heatmaps import Cell, HeatmapStyle, resize_map

_PIXELS_PER_LATENT = 8


@dataclass(frozen=True)
class MapNumbers:
    """What is measured of one word, each the mean over the pictures."""

    mass: float
    entropy: float
    iou: float | None
    """None without a mask."""
    similarity: float | None
    """None without another word."""


@dataclass(frozen=True)
class MapFigure:
    """Maps of words for a batch of pictures."""

    prompt: str
    maps: WordMaps
    pictures: Tensor | None = None
    """(B, Y, X, 3) in 0..1, one for each set of maps; None to show the maps alone."""

    def __post_init__(self) -> None:
        if self.pictures is not None and len(self.pictures) != len(self.maps.maps):
            raise ValueError(
                f"image holds {len(self.pictures)} picture(s) and samples {len(self.maps.maps)}: "
                "connect the pictures decoded from these samples"
            )

    @property
    def count(self) -> int:
        """Number of pictures."""
        return len(self.maps.maps)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the pictures, or of the latent times 8 without them."""
        if self.pictures is not None:
            return self.pictures.shape[1], self.pictures.shape[2]
        height, width = self.maps.maps.shape[-2:]
        return height * _PIXELS_PER_LATENT, width * _PIXELS_PER_LATENT

    def has(self, word: str) -> bool:
        """Whether there is a map of a word."""
        return _map_of(self, word, 0) is not None

    def picture(self, index: int) -> Tensor | None:
        """One picture, (Y, X, 3): of more channels (alpha) the first three, one as grey."""
        return None if self.pictures is None else self.pictures[index][..., :3].expand(-1, -1, 3)

    def grids(self, style: HeatmapStyle) -> Tensor:
        """A grid for each picture: the picture, then its map of each word; (B, Y, X, 3)."""
        grids = []
        for index in range(self.count):
            cells = [] if self.pictures is None else [Cell("picture", self.picture(index))]
            for word, heat in zip(self.maps.words, self.maps.maps[index], strict=True):
                detail = f"mass {format_value(float(map_metrics.mass(heat)))}"
                cells.append(Cell(word.label, self.picture(index), heat, detail))
            grids.append(grid(cells, style, title=self.prompt))
        return torch.stack(grids)

    def mask(self, word: str, *, binary: bool) -> Tensor:
        """The map of one word at the pictures' size, (B, Y, X).

        Scaled so that each picture's least and most are 0 and 1; `binary`: 1 above the Otsu
        threshold, else 0.
        """
        masks = []
        for heat in self.maps.of(word):
            sized = resize_map(heat, *self.size)
            if binary:
                masks.append(map_metrics.otsu_mask(sized).float())
            else:
                low, high = sized.min(), sized.max()
                masks.append((sized - low) / (high - low).clamp(min=1e-12))
        return torch.stack(masks)

    def measure(
        self, word: str, *, other: str | None = None, mask: Tensor | None = None
    ) -> MapNumbers:
        """Numbers of one word; `mask` (1 or B, Y, X, or Y, X) is brought to the pictures' size."""
        heat = self.maps.of(word)
        iou = similarity = None
        if mask is not None:
            mask = (mask[None] if mask.ndim == 2 else mask).to(heat.device)
            if len(mask) not in (1, self.count):
                raise ValueError(
                    f"mask holds {len(mask)} masks for {self.count} picture(s): use one, or one "
                    "for each picture"
                )
            wanted = F.interpolate(mask.float()[:, None], size=self.size, mode="bilinear")[:, 0]
            wanted = wanted.expand(self.count, -1, -1)
            overlaps = [map_metrics.iou_with_mask(h, m) for h, m in zip(heat, wanted, strict=True)]
            iou = sum(overlaps) / len(overlaps)
        if other is not None:
            similarity = float(map_metrics.similarity(heat, self.maps.of(other)).mean())
        return MapNumbers(
            mass=float(map_metrics.mass(heat).mean()),
            entropy=float(map_metrics.entropy(heat).mean()),
            iou=iou,
            similarity=similarity,
        )

    def resized(self, mask: Tensor | None) -> str:
        """That a mask had another size than the pictures; empty if not."""
        if mask is None or tuple(mask.shape[-2:]) == tuple(self.size):
            return ""
        (height, width), (own_height, own_width) = mask.shape[-2:], self.size
        return f"The mask of {width} x {height} was resized to {own_width} x {own_height}."

    def report(self, *, mask: Tensor | None = None) -> str:
        """A line of numbers for each word."""
        lines = [
            f"{'word':<20} {'mass':>8} {'entropy':>8}" + ("" if mask is None else f" {'IoU':>6}")
        ]
        for word in self.maps.words:
            found = self.measure(word.label, mask=mask)
            line = f"{word.label:<20} {format_value(found.mass):>8} {found.entropy:>8.3f}"
            lines.append(line if found.iou is None else f"{line} {found.iou:>6.3f}")
        return "\n".join(lines)


def comparison(
    figures: Sequence[MapFigure],
    labels: Sequence[str],
    words: Sequence[str | Sequence[str]],
    style: HeatmapStyle,
    *,
    title: str = "",
) -> Tensor:
    """Panels side by side, picture over map: a column for each, a row for each word, or for each
    set of words with one for every figure.

    (B, Y, X, 3), as many as the figure with the fewest pictures. A word that a figure's prompt
    lacks (a placeholder before it was learned) leaves a remark in its place. The columns' names
    stand below the pictures, without any below the first maps.
    """
    if not figures:
        raise ValueError("nothing to compare: connect at least one set of maps")
    of_rows = [[word] * len(figures) if isinstance(word, str) else word for word in words]
    for row in of_rows:
        if not any(figure.has(word) for figure, word in zip(figures, row, strict=True)):
            figures[0].maps.of(row[0])  # raises, with the words there are
    names = [*labels, *(f"{number + 1}" for number in range(len(labels), len(figures)))]
    grids = []
    for index in range(min(figure.count for figure in figures)):
        columns = list(zip(names, figures, strict=False))
        pictures = [Cell(name, figure.picture(index)) for name, figure in columns]
        pictured = any(cell.picture is not None for cell in pictures)
        rows = [pictures] if pictured else []
        for number, row in enumerate(of_rows):
            named = pictured or number > 0  # else nothing above says which column this is
            rows.append(
                [
                    _map_cell(figure, index, word, "" if named else f"{name}: ")
                    for (name, figure), word in zip(columns, row, strict=False)
                ]
            )
        grids.append(table(rows, style, title=title))
    return torch.stack(grids)


def _map_cell(figure: MapFigure, index: int, word: str, before: str) -> Cell:
    """The map of a word over its picture, or a remark; `before`: what its caption begins with."""
    heat = _map_of(figure, word, index)
    if heat is None:
        return Cell(f"{before}{word}: not in this prompt")
    mass = format_value(float(map_metrics.mass(heat)))
    return Cell(f"{before}{word}", figure.picture(index), heat, f"mass {mass}")


def _map_of(figure: MapFigure, word: str, index: int) -> Tensor | None:
    try:
        return figure.maps.of(word)[index]
    except ValueError:
        return None
