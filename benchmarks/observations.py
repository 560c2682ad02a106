"""`python dev.py observations`: what the paper says of [V], over training, as one figure.

Trains AttnDreamBooth, the same without its regulariser, Textual Inversion, DreamBooth and TI+DB on
the embedded model and looks at them as they go: how much attention the new word takes, how far its
embedding has moved, how far its map is from its category's, and what is drawn. Every moment is a
small JSON file that is kept: a stopped figure goes on, and two processes share the work.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # started as a program: it goes on as a part of the package
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "devkit"))
    from pack import run_program

    run_program(__file__)

import argparse
import json
import logging
from dataclasses import asdict, replace
from tempfile import TemporaryDirectory

import torch

from ..attndb.artifacts.tensor_file import png_writer, text_writer, write_whole
from ..attndb.evaluation.report import report_html
from ..devkit.host_path import host_on_path
from ..devkit.pack import ROOT
from ..micro.weight_files import FOLDER
from .contest.command import settled
from .contest.contestant import OURS, Contestant, ablations, contestant, recipes
from .observed.course import Course, TrackingOptions, points_of
from .observed.figure import UNTIED, report
from .observed.points import Point
from .observed.world import MicroWorld, World

log = logging.getLogger(__name__)

RIVALS = ("textual_inversion", "dreambooth", "ti_dreambooth")
QUICK = 20
"""The quick figure makes a twentieth of the steps."""
PAGE, PICTURE = "observations.html", "observations.png"


def contestants(shorter: int = 1) -> list[Contestant]:
    """The lines of the figure, with the recorded recipes."""
    found = {
        method: [(max(2, steps // shorter), rate) for steps, rate in pairs]
        for method, pairs in recipes().items()
    }
    ours = contestant(OURS, found[OURS])
    untied = [c for c in ablations(ours) if c.name == UNTIED]
    return [ours, *untied, *(contestant(method, found[method]) for method in RIVALS)]


def main(arguments: Sequence[str]) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="observations", description=str(__doc__).split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few steps: does it run at all")
    parser.add_argument("--concepts", nargs="+", help="means over them; the first if not given")
    parser.add_argument("--every", type=int, default=20, help="steps between looks")
    parser.add_argument("--score-every", type=int, default=100, help="between drawn pictures")
    parser.add_argument("--prompts", type=int, default=12, help="drawn for each score")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0, help="0: as PyTorch chooses")
    parser.add_argument(
        "--weights", type=Path, default=FOLDER, help="folder of the model's files and their card"
    )
    parser.add_argument("--rows", type=Path, default=ROOT / ".cache" / "observations")
    parser.add_argument("--output", type=Path, help=f"of {PAGE} and {PICTURE}; --rows")
    parser.add_argument("--only-draw", action="store_true", help="from the points that are there")
    parser.add_argument("--json", type=Path, help="write the points to this file, too")
    options = parser.parse_args(arguments)
    if min(options.every, options.prompts, options.score_every + 1) < 1:
        parser.error("--every and --prompts need 1 or more, --score-every 0 or more")
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.quick:
        options.prompts, options.every = min(2, options.prompts), min(5, options.every)
    host_on_path(cpu=not torch.cuda.is_available())
    with TemporaryDirectory() as folder, torch.inference_mode():
        world = MicroWorld(Path(folder), options.prompts, options.weights)
        concepts = options.concepts or world.subjects[:1]
        unknown = [name for name in concepts if name not in world.subjects]
        if unknown:
            known = ", ".join(world.subjects)
            parser.error(f"--concepts {', '.join(unknown)}: unknown; choose from {known}")
        lines = contestants(QUICK if options.quick else 1)
        courses = _courses(lines, concepts, world, options)
        if not options.only_draw:
            for course in courses:
                course.fill()
    points = points_of(courses)
    if not points:
        raise SystemExit(f"observations: no point in {options.rows}; leave out --only-draw")
    caption = f"attndb-micro, {', '.join(concepts)}, seed {options.seed}"
    _write(points, courses, caption, options)
    return 0


def _courses(
    lines: Sequence[Contestant], concepts: Sequence[str], world: World, options: argparse.Namespace
) -> list[Course]:
    precision = settled("auto")  # moments in bf16 are no part of a line in fp32
    lines = [
        replace(line, stages=tuple(c.with_(precision=precision) for c in line.stages))
        for line in lines
    ]
    every, score_every = options.every, options.score_every
    how = TrackingOptions(every=every, score_every=score_every, seed=options.seed)
    return [
        Course(line, concept, world, how, options.rows) for concept in concepts for line in lines
    ]


def _write(
    points: Sequence[Point], courses: Sequence[Course], caption: str, options: argparse.Namespace
) -> None:
    missing = {course.folder.name: len(course.missing()) for course in courses}
    missing = {name: count for name, count in missing.items() if count}
    if missing:
        still = ", ".join(f"{name} ({count})" for name, count in missing.items())
        caption += f"; moments still missing: {still}"
    settings = [
        (
            course.contestant.name,
            "; ".join(f"{s.steps} x {s.optimizer.learning_rate:g}" for s in course.stages),
            f"batch {course.stages[0].batch_size}",
        )
        for course in {course.contestant.name: course for course in courses}.values()
    ]
    made = report(points, courses[0].ends, caption, settings)
    output = options.output or options.rows
    files = {
        output / PAGE: text_writer(report_html(made)),
        output / PICTURE: png_writer(made.sections[0].figures[0].picture),
    }
    if options.json:
        text = json.dumps({"caption": caption, "points": [asdict(p) for p in points]}, indent=1)
        files[options.json] = text_writer(text)
    write_whole(files)
    for row in made.sections[1].rows:
        sys.stdout.write(" | ".join(row) + "\n")
    log.info("%s and %s in %s", PAGE, PICTURE, output)
