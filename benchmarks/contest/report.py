"""Report of the contest: tables, contact sheets method x prompt, settings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from string import ascii_uppercase

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...attndb.evaluation.report import Figure, Report, Section, to_picture
from ...attndb.viz.grid import table
from ...attndb.viz.heatmaps import Cell, HeatmapStyle
from ...attndb.viz.scatter import Scatter, ScatterPoint, scatter, scatter_svg
from ...micro.concepts import CONCEPTS
from .contestant import OUR_TITLE, Contestant
from .pictures import shown_prompts, strip_path
from .rows import Row
from .standings import Interval, Line, difference_lines, kind_lines, standings, standings_lines
from .table import ORACLE

MEANINGS = """\
truth: how near the subject's parts are to the true rendering of that very prompt
present: nearer to it than to 20 other objects of the category
text: judges that saw no picture of the model see place, style, light, category, second object, \
relation and hat as the prompt says, and the body is nearest to the colour it says; things held \
are not scored
joint: text and present
clip_i, clip_t: micro CLIP, likeness to the photos and to the prompt
samples: pictures that a training sees; training: median of its seconds by the clock, on a machine \
with other work
Means over concepts with 95 % intervals (percentile bootstrap, too narrow for few concepts). \
Differences have a star where the exact sign-flip test over concepts gives 5 % or less, each by \
itself: of twenty without a difference one is, too."""


def contest_report(
    rows: Sequence[Row],
    contestants: Sequence[Contestant],
    drawn: tuple[Figure, Iterable[Image.Image]],
    said: str,
) -> Report:
    """Of the rows that answer. `drawn`: their `both_sides` and `sheets`."""
    prompts = [f"{letter}: {t}" for letter, t in zip(ascii_uppercase, _texts(), strict=False)]
    figure, pictures = drawn
    return Report(
        title="The compared methods on the embedded model",
        sections=(
            Section(title="Scores", text=said, rows=standings_lines(rows), figures=[figure]),
            Section(
                title=f"Minus {OUR_TITLE}, concept by concept",
                rows=difference_lines(rows, OUR_TITLE, sure="{} *"),
            ),
            Section(title="By kind of prompt", rows=kind_lines(rows)),
            Section(title="What the scores mean", text=MEANINGS),
            Section(
                title="Pictures",
                text="\n".join(prompts),
                pictures=[("", picture) for picture in pictures],
            ),
            Section(title="Settings", rows=_settings(contestants)),
        ),
    )


def both_sides(rows: Sequence[Row]) -> Figure:
    """How well each method keeps the subject over how well it obeys; the true renderings are left
    out, they would press all others into a corner."""
    points = [
        ScatterPoint(method, _span(columns["text"]), _span(columns["truth"]))
        for method, columns in standings(rows).items()
        if method != ORACLE
    ]
    drawn = Scatter(points, "obeys the prompt (text)", "keeps the subject (truth)")
    return Figure(
        caption="Means over concepts and their 95 % intervals. Up and to the right is better.",
        svg=scatter_svg(drawn),
        picture=scatter(drawn),
    )


def _span(value: Interval) -> tuple[float, float, float]:
    return value.mean, value.low, value.high


def sheets(rows: Sequence[Row], folder: Path) -> dict[str, Image.Image]:
    """Method x prompt, by concept: of the strips that lie beside the rows in `folder`."""
    concepts = dict.fromkeys(row.concept for row in rows)
    found = {name: _sheet(name, rows, folder) for name in concepts}
    return {name: to_picture(sheet) for name, sheet in found.items() if sheet is not None}


def _texts() -> list[str]:
    some = next(iter(CONCEPTS.values()))
    return [prompt.text("<v> <category>", some) for prompt in shown_prompts()]


def _settings(contestants: Sequence[Contestant]) -> list[Line]:
    lines: list[Line] = [("method", "steps x rate (batch) of each stage", "samples")]
    for one in contestants:
        stages = zip(one.pairs, one.stages, strict=True)
        said = ", ".join(f"{n} x {rate:g} ({stage.batch_size})" for (n, rate), stage in stages)
        lines.append((one.name, said, str(one.samples)))
    return lines


def _sheet(concept: str, rows: Sequence[Row], folder: Path) -> Tensor | None:
    """A line of pictures for each method, with its joint score over all prompts, the photos on top;
    None without a strip."""
    strips = {
        f"{row.method}: joint {row.values['joint']:.2f}": path
        for row in rows
        if row.concept == concept and (path := strip_path(folder, row)).is_file()
    }
    if not strips:
        return None
    photos = [drawn.picture for drawn, _ in CONCEPTS[concept].photos()]
    style = HeatmapStyle(cell=photos[0].shape[0])
    parts = [_line(f"{concept}: photos", photos, [""] * len(photos), style)]
    for title, path in strips.items():
        parts.append(_line(title, _cut(path), ascii_uppercase, style))
    width = max(part.shape[1] for part in parts)
    return torch.cat([_wide(part, width) for part in parts])


def _line(
    title: str, pictures: Sequence[np.ndarray], letters: Sequence[str], style: HeatmapStyle
) -> Tensor:
    cells = [
        Cell(letter, torch.from_numpy(picture).float() / 255)
        for letter, picture in zip(letters, pictures, strict=False)
    ]
    return table([cells], style, title=title)


def _cut(path: Path) -> list[np.ndarray]:
    with Image.open(path) as strip:
        pixels = np.array(strip.convert("RGB"))
    return np.split(pixels, pixels.shape[1] // pixels.shape[0], axis=1)


def _wide(part: Tensor, width: int) -> Tensor:
    return torch.cat([part, part[:1, :1].expand(part.shape[0], width - part.shape[1], 3)], dim=1)
