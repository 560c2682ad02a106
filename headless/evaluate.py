"""`python -m attndb evaluate`: scores of saved concepts, or of pictures, without a server.

The numbers are those of the nodes Evaluate Concept and Score Images. What follows `--` is
ComfyUI's own command line: `-- --cpu`, `-- --base-directory FOLDER`.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from ..attndb.config.applied import all_applied
from ..attndb.config.choices import MaskSource
from ..attndb.config.printable import quoted
from ..attndb.evaluation.prompts import SETS, prompt_lines
from ..attndb.evaluation.score_table import BEST_BY, BOTH
from ..attndb.jobs.document import Problem
from ..attndb.jobs.job import MICRO, ModelChoice
from .command_line import refused, split, standard_output
from .host import HostMissingError, become_host, host_folder

_SETS = {re.sub(r" \(\d+\)$", "", name): lines for name, lines in SETS.items()}
"""The node's sets of prompts, by their names without the count."""
STOPPED = 130


def main(arguments: Sequence[str]) -> int:
    """Command line. 0: all is scored. 1: something failed on the way. 2: nothing was begun."""
    own, host = split(arguments)
    options = _parse(own)
    with standard_output() as out:
        try:
            check(options)
            become_host(host_folder(os.environ), host)
        except (OSError, ValueError, HostMissingError) as error:
            return refused([Problem(0, str(error))], out, as_json=options.json)
        from .evaluation import evaluate
        from .wires import missing_models

        problems = missing_models(options.model) if options.concepts else []
        if problems:
            return refused(problems, out, as_json=options.json)
        try:
            return evaluate(options, out)
        except KeyboardInterrupt:
            sys.stderr.write("stopped\n")
            return STOPPED


def check(options: argparse.Namespace) -> None:
    """Settles what the options leave open: model, size and how to draw, prompts, encoders.
    ValueError for what cannot be."""
    if not options.concepts and not options.pictures:
        raise ValueError("there is nothing to score: name saved concepts, or --pictures FOLDER")
    toy = options.model == MICRO
    drawn = (
        {"size": 128, "steps": 20, "cfg": 3.0} if toy else {"size": 512, "steps": 30, "cfg": 7.5}
    )
    for name, value in drawn.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    for name, least in (("size", 64), ("steps", 1), ("images", 1), ("count", 0), ("cfg", 0)):
        if getattr(options, name) < least:
            raise ValueError(f"--{name} {getattr(options, name)}: use {least} or more")
    if options.size % 8:
        raise ValueError(f"--size {options.size}: use a multiple of 8")
    if options.grid is not None:
        _check_grid(options)
    all_applied(options.strengths, options.corrections)
    options.encoder = options.encoder or ([MICRO] if toy else [])
    if not options.encoder:
        raise ValueError(
            f"there is no encoder: say --encoder FOLDER of CLIP, DINO or DINOv2 below models/, or "
            f"--encoder {MICRO} for pictures of the embedded model"
        )
    options.lines = prompts_of(options)
    options.model = ModelChoice(checkpoint=options.model, vae=options.vae, line=0)


def _check_grid(options: argparse.Namespace) -> None:
    shown = quoted(options.grid, 200)
    if not options.concepts:
        raise ValueError(f"--grid {shown} shows what saved concepts draw: name some")
    if options.grid.suffix.lower() != ".png" or options.grid.is_dir():
        raise ValueError(f"--grid {shown}: give a file that ends in .png")


def prompts_of(options: argparse.Namespace) -> tuple[str, ...]:
    """The prompts with {} that concepts are drawn by. ValueError names a file that is none."""
    named = options.prompts
    if named in _SETS:
        lines = _SETS[named]
    elif _is_file(named):
        lines = prompt_lines(_text_of(named))
    elif "{}" in named:
        lines = prompt_lines(named)
    else:
        raise ValueError(
            f"--prompts {named!r} is neither a set ({', '.join(_SETS)}), nor a text file, nor a "
            "prompt with {}"
        )
    count = options.count
    if 0 < count < len(lines):
        return tuple(lines[number * len(lines) // count] for number in range(count))
    return tuple(lines)


def _is_file(named: str) -> bool:
    """Whether there is such a file; what the system takes for no name (a long prompt) is none."""
    try:
        return Path(named).is_file()
    except (OSError, ValueError):
        return False


def _text_of(named: str) -> str:
    try:
        return Path(named).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"--prompts {named!r} is no text in UTF-8: save it as such") from error


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m attndb evaluate", description=__doc__, allow_abbrev=False
    )
    add = parser.add_argument
    add("concepts", nargs="*", metavar="CONCEPT", help="names of saved concepts: a row for each")
    add("--photos", type=Path, required=True, metavar="FOLDER", help="the subject's own")
    add("--masks", choices=MaskSource.__args__, default="none", help="of the photos: foreground")
    add("--pictures", type=Path, action="append", default=[], metavar="FOLDER", help="a row, too")
    add("--asked", default="", metavar="TEXT", help="what --pictures were asked for; {}: category")
    add("--category", default="", help="of --pictures: the plain word for {}")
    add("--others", type=Path, metavar="FOLDER", help="others of the category: 'present'")
    add("--model", default=MICRO, metavar="NAME", help="checkpoint, or micro")
    add("--vae", default="", metavar="NAME", help="instead of the checkpoint's")
    add("--encoder", action="append", metavar="NAME", help="a folder, or micro (repeatable)")
    add("--prompts", default="toy model", metavar="SET", help=f"{', '.join(_SETS)}; a file; or one")
    add("--count", type=int, default=0, help="so many of the prompts; 0: all")
    add("--images", type=int, default=1, help="pictures of each prompt")
    add("--seed", type=int, default=0)
    add("--steps", type=int, help="of the sampler")
    add("--cfg", type=float, help="guidance")
    add("--size", type=int, help="of the pictures, in pixels")
    add("--strengths", default="1.0", metavar="LIST", help="of each concept: '1.0, 0.6' are 2 rows")
    add("--corrections", default="0.0", metavar="LIST", help="of each concept, as in Apply Concept")
    add("--negative", default="", metavar="TEXT", help="what the pictures should not show")
    add("--best-by", choices=BEST_BY, default=BOTH)
    add("--no-before", action="store_true", help="no row of the model before training")
    add("--grid", type=Path, metavar="FILE.png", help="also write the pictures as a grid")
    add("--json", action="store_true", help="JSON lines on standard output")
    return parser.parse_args(arguments)
