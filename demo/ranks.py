"""`python demo/ranks.py`: what Extract LoRA loses, rank by rank, on the embedded model.

A subject is learned with whole weights; its change is extracted at several ranks, and the subject
is drawn in new scenes with each: a table, and docs/ranks.png.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

if not __package__:  # started as a program: it goes on as a part of the package
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "devkit"))
    from pack import run_program

    run_program(__file__)

import argparse
import io
import logging
from dataclasses import dataclass, replace

import torch
from PIL import Image, ImageDraw

from ..attndb.artifacts.concept_files import concept_files
from ..attndb.artifacts.lora_extraction import ExtractionConfig, extract_concept
from ..attndb.viz.axes import FONT, INK, PAPER, Axes
from ..attndb.viz.letters import letters
from ..attndb.viz.strokes import Stroke
from ..devkit.host_path import host_on_path
from ..devkit.in_process import host_folders
from ..devkit.pack import ROOT
from ..micro.concepts import CONCEPTS
from .category import SCENES, Measured

log = logging.getLogger(__name__)

RANKS = (1, 2, 4, 8, 16, 32, 64)
SIZE = (768, 340)


@dataclass(frozen=True)
class Point:
    """No change, one rank, or the whole change."""

    name: str
    error: float
    """Relative, of all weights together (Frobenius)."""
    identity: float
    text: float
    """Share of pictures that show place and style, the mean of the two shares."""
    bytes: int
    """Of the weight file."""

    @property
    def row(self) -> str:
        """A line of the table, in Markdown."""
        size = f"{self.bytes / 1e6:.2f} MB"
        values = (self.name, f"{self.error:.3f}", f"{self.identity:.3f}", f"{self.text:.0%}", size)
        return f"| {' | '.join(values)} |"


HEAD = (
    "| rank | relative error | identity | place and style obeyed | file |\n|---|---|---|---|---|\n"
)


def measured_points(
    measured: Measured, ranks: Sequence[int], each: int, keep_vectors: bool = False
) -> list[Point]:
    """No change of weights, every rank, the whole change, on the same prompts and noise; with
    `keep_vectors` the ranks have the changes of biases and norms, too."""
    whole, points = measured.trained(), []
    for rank in (0, *ranks, None):
        concept, error = whole, 0.0
        if rank == 0:
            concept, error = replace(whole, delta={}), 1.0
        elif rank is not None:
            with torch.inference_mode(False), torch.no_grad():
                config = ExtractionConfig(rank=rank, keep_vectors=keep_vectors)
                concept, extraction = extract_concept(whole, config)
            error = extraction.error
        identity, place, style = measured.subject(concept, each)
        name = "whole" if rank is None else str(rank or "none")
        points.append(Point(name, error, identity, (place + style) / 2, _file_size(concept)))
        log.info("rank %s: %s", name, points[-1])
    return points


def _file_size(concept: object) -> int:
    weights = Path("w.safetensors")
    files = concept_files(concept, "x", Path("e.safetensors"), weights)  # type: ignore[arg-type]
    if weights not in files:
        return 0
    buffer = io.BytesIO()
    files[weights](buffer)
    return len(buffer.getvalue())


def plot(points: Sequence[Point]) -> Image.Image:
    """Identity and error over the ranks, the whole change last. How prompts are obeyed is in the
    table alone: the subject, not the prompt, is what too low a rank loses."""
    image = Image.new("RGB", SIZE, PAPER)
    draw, font = ImageDraw.Draw(image), letters(FONT)
    box = (64, 72, SIZE[0] - 40, SIZE[1] - 48)
    left, _, right, bottom = box
    axes = Axes(draw, box, 0.0, 1.0)
    axes.frame("", "")
    draw.text((left, 14), "Extract LoRA, rank by rank (embedded model)", INK, font=font)
    series = (
        ("identity of the pictures", [point.identity for point in points]),
        ("relative error of the weights", [point.error for point in points]),
    )
    across = left
    for stroke, (name, values) in zip((Stroke(0), Stroke(1)), series, strict=True):
        stroke.sample(draw, (across, 51), 26)
        draw.text((across + 34, 42), name, stroke.color, font=font)
        across += int(draw.textlength(name, font=font)) + 58
        places = [
            axes.point(number / max(1, len(points) - 1), value)
            for number, value in enumerate(values)
        ]
        stroke.draw(draw, places)
    for number, point in enumerate(points):
        x = left + number / max(1, len(points) - 1) * (right - left)
        draw.text((x, bottom + 16), point.name, INK, font=font, anchor="mm")
    return image


def main(arguments: Sequence[str]) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="ranks.py", description=str(__doc__).split("\n")[0])
    parser.add_argument("--concept", choices=sorted(CONCEPTS), default="hatted-robot")
    parser.add_argument("--share", type=float, default=1.0, help="of the steps of preset micro")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--each", type=int, default=6, help=f"pictures of {len(SCENES)} scenes")
    parser.add_argument("--ranks", type=int, nargs="+", default=list(RANKS))
    parser.add_argument("--biases-and-norms", action="store_true", help="keep their changes")
    parser.add_argument("--plot", type=Path, default=ROOT / "docs" / "ranks.png")
    options = parser.parse_args(arguments)
    host_on_path(cpu=not torch.cuda.is_available())
    with TemporaryDirectory() as folder, torch.inference_mode():  # no run of before answers
        host_folders(Path(folder))
        measured = Measured(options.concept, options.share, options.seed)
        points = measured_points(measured, options.ranks, options.each, options.biases_and_norms)
    sys.stdout.write(HEAD + "".join(f"{point.row}\n" for point in points))
    plot(points).save(options.plot, optimize=True)
    return 0
