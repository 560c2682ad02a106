"""The figure of the paper's observations, from points: panels over the steps of all stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...attndb.evaluation.report import Figure, Report, Section
from ...attndb.viz.curves import Curve, CurvePanel, curves, curves_svg
from ..contest.contestant import OUR_TITLE
from .points import Kind, Point

SIZE, COLUMNS = (1400, 1020), 2
UNTIED = "without the regulariser"
MOVING = (OUR_TITLE, "Textual Inversion", "TI+DB")
"""Whose embedding is trained."""
TIED = (OUR_TITLE, UNTIED)
SAID = (
    "attention of [V]: its part of what the words of a prompt with a new place get, times their "
    "number, for Textual Inversion's prompt has no word for the category. The paper says that "
    "Textual Inversion's word swallows the others' and DreamBooth's is overlooked.\n"
    "cosine: of [V]'s embedding with its start. The paper says that TI+DB's stands still.\n"
    "gaps: |mean| and |variance| of [V]'s map minus those of its category's, which the regulariser "
    "ties.\n"
    "identity, and pictures in which judges find subject and prompt: of what the host's sampler "
    "draws."
)


def line_of(points: Sequence[Point], line: str, kind: Kind, name: str) -> Mapping[int, float]:
    """Step of all stages -> mean over concepts; moments that not all of its concepts have are left
    out."""
    found: dict[int, dict[str, float]] = {}
    for point in points:
        if point.line == line and point.kind == kind and name in point.values:
            found.setdefault(point.at, {})[point.concept] = point.values[name]
    most = max((len(values) for values in found.values()), default=0)
    return {
        at: float(np.mean(list(found[at].values())))
        for at in sorted(found)
        if len(found[at]) == most
    }


def panels(points: Sequence[Point], ends: Sequence[int]) -> list[CurvePanel]:
    """The six of them. `ends`: where AttnDreamBooth's stages end."""
    lines = list(dict.fromkeys(point.line for point in points))
    marks = [(end, f"stage {number}") for number, end in enumerate(ends[:-1], 2)]

    def panel(
        title: str, kind: Kind, name: str, shown: Sequence[str], **scale: float | None
    ) -> CurvePanel:
        drawn = []
        for line in shown:
            found = line_of(points, line, kind, name)
            if found:
                stroke, own = lines.index(line), marks if line == OUR_TITLE else ()
                drawn.append(Curve(line, list(found), list(found.values()), stroke, own))
        return CurvePanel(title, drawn, **scale)

    moving, tied = ([line for line in lines if line in some] for some in (MOVING, TIED))
    return [
        panel("attention of [V]; 1: as much as the average word", "look", "weight", lines),
        panel("cosine of [V]'s embedding with its start", "look", "cosine", moving, low=None),
        panel("gap of the maps' means", "look", "mean_gap", tied),
        panel("gap of the maps' variances", "look", "variance_gap", tied),
        panel("identity of drawn pictures", "score", "identity", lines, low=None),
        panel("drawn pictures with both subject and prompt", "score", "joint", lines),
    ]


def figure(points: Sequence[Point], ends: Sequence[int], caption: str) -> Figure:
    """As SVG and as pixels."""
    drawn = panels(points, ends)
    svg, picture = curves_svg(drawn, SIZE, COLUMNS), curves(drawn, SIZE, COLUMNS)
    return Figure(caption=caption, svg=svg, picture=picture)


def end_rows(points: Sequence[Point]) -> list[tuple[str, ...]]:
    """Of every line its first and its last values, as text; the head comes first."""
    columns: list[tuple[str, Kind, str]] = [
        ("weight of [V]", "look", "weight"),
        ("cosine", "look", "cosine"),
        ("gap of means", "look", "mean_gap"),
        ("gap of variances", "look", "variance_gap"),
        ("identity", "score", "identity"),
        ("text", "score", "text"),
        ("joint", "score", "joint"),
    ]
    rows = [("start -> end", *(title for title, *_ in columns))]
    for line in dict.fromkeys(point.line for point in points):
        cells = []
        for _, kind, name in columns:
            values = list(line_of(points, line, kind, name).values())
            cells.append(f"{values[0]:.3g} -> {values[-1]:.3g}" if values else "-")
        rows.append((line, *cells))
    return rows


def report(
    points: Sequence[Point], ends: Sequence[int], caption: str, settings: Sequence[tuple[str, ...]]
) -> Report:
    """The figure, the numbers at both ends, and what was trained."""
    return Report(
        title="AttnDreamBooth: the paper's observations on the embedded model",
        sections=[
            Section(title="Over training", figures=[figure(points, ends, caption)], text=SAID),
            Section(title="Before and after", rows=end_rows(points)),
            Section(title="What was trained", rows=settings, head=False, folded=True),
        ],
    )
