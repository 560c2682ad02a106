"""`python dev.py evaluate`: the compared methods on attndb-micro, scored against the truth.

Every method learns the twelve evaluation concepts of the embedded world; what it draws for 26
prompts is compared with the true rendering of that very prompt, and judged. Rows are kept: a
stopped table goes on, and processes with the same --rows share the work (--jobs starts them).
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
from dataclasses import asdict

from ..attndb.artifacts.tensor_file import png_writer, text_writer, write_whole
from ..attndb.evaluation.report import HTML, PICTURE, report_html, report_picture, to_picture
from ..devkit.pack import ROOT
from ..micro.concepts import CONCEPTS, EVALUATION, PHOTO_SETS, TUNING, Concept
from ..micro.prompts import PROMPTS
from ..micro.scores import VERSION
from .contest.command import add_options, asked_by, beside, open_studio
from .contest.contestant import OUR_TITLE, all_contestants, recipes
from .contest.documented import COMPARED
from .contest.report import both_sides, contest_report, sheets
from .contest.rows import COMMITTED, Row
from .contest.standings import (
    difference_lines,
    differences,
    kind_lines,
    on_common_concepts,
    seconds_of,
    standings,
    standings_lines,
    unfinished,
)
from .contest.table import BASE, ORACLE, Table, documented_asked
from .markdown import markdown

QUICK = ("AttnDreamBooth", "Textual Inversion", "DreamBooth")
"""Methods of the quick table."""
SCORES = "scores.png"
"""Of the report's folder: the subject against the prompt, by method."""


def _record(rows: Sequence[Row], options: argparse.Namespace, lacks: str) -> dict:
    took = seconds_of(rows)
    table = [
        {
            "method": method,
            **{score: asdict(value) for score, value in columns.items()},
            "seconds": took[method],
        }
        for method, columns in standings(rows).items()
    ]
    return {
        "rows": table,
        "differences": {
            method: {score: asdict(value) for score, value in columns.items()}
            for method, columns in differences(rows, OUR_TITLE).items()
        },
        "concepts": sorted({row.concept for row in rows}),
        "unfinished": lacks,
        "prompts": len(PROMPTS),
        "images": options.images,
        "seed": options.seed,
        "photos": options.places,
        "scores_version": VERSION,
    }


def main(arguments: Sequence[str]) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="evaluate", description=str(__doc__).split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="two concepts, few methods, one image")
    parser.add_argument("--methods", nargs="+", help="names of rows; all if not given")
    parser.add_argument("--concepts", nargs="+", choices=sorted(CONCEPTS))
    parser.add_argument("--tuning", action="store_true", help="on the four tuning concepts")
    parser.add_argument("--places", choices=sorted(PHOTO_SETS), default="many")
    add_options(parser, ROOT / ".cache" / "evaluate", images=4)
    parser.add_argument("--only-print", action="store_true", help="from the rows that are there")
    parser.add_argument(
        "--documented",
        action="store_true",
        help="only print the committed rows of the methods that docs/evaluation.md compares",
    )
    parser.add_argument(
        "--report",
        type=Path,
        metavar="FOLDER",
        help=f"write {HTML}, {PICTURE}, {SCORES} and sheets",
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    options = parser.parse_args(arguments)
    if options.quick:
        options.images = 1
    asked = asked_by(options, options.places)
    contestants = all_contestants(recipes())
    known = [c.name for c in contestants]
    usual = QUICK if options.quick else known
    if options.documented:
        asked, options.rows, options.only_print = documented_asked(options.places), COMMITTED, True
        options.images, options.seed, options.precision = asked.images, asked.seed, asked.precision
        usual = [name for name in known if name in COMPARED]
    chosen = options.methods or usual
    if unknown := sorted(set(chosen) - set(known)):
        parser.error(f"--methods {', '.join(unknown)}: unknown; choose from {', '.join(known)}")
    contestants = [c for c in contestants if c.name in chosen]
    concepts: Sequence[Concept] = TUNING if options.tuning else EVALUATION
    if options.concepts:
        concepts = [CONCEPTS[name] for name in options.concepts]
    elif options.quick:
        concepts = concepts[:2]
    table = Table(asked, options.rows, pictures=True)
    if not options.only_print:
        with beside(options, __file__, arguments), open_studio(asked) as studio:
            table.fill(studio, contestants, concepts)
    if options.beside:
        return 0
    found = table.found(contestants, concepts)
    if not found:
        raise SystemExit(f"evaluate: no row in {options.rows} answers this; leave out --only-print")
    rows = on_common_concepts(found)
    if not rows:
        raise SystemExit(
            f"evaluate: {len(found)} rows are there, but no concept has one of every method yet; "
            "leave out --only-print, or choose --methods"
        )
    lacks = unfinished(found, [ORACLE, BASE, *(c.name for c in contestants)], len(concepts))
    if lacks:
        sys.stdout.write(f"{lacks}\n\n")
    tables = [standings_lines(rows), difference_lines(rows, OUR_TITLE), kind_lines(rows)]
    sys.stdout.write("\n\n".join(markdown(lines) for lines in tables if lines) + "\n")
    files = {}
    if options.json:
        files[options.json] = text_writer(json.dumps(_record(rows, options, lacks), indent=1))
    if options.report:
        figure, pictures = both_sides(rows), sheets(rows, options.rows)
        drawn = figure, pictures.values()
        report = contest_report(rows, contestants, drawn, _said(options, lacks))
        files[options.report / HTML] = text_writer(report_html(report))
        files[options.report / PICTURE] = png_writer(to_picture(report_picture(report)))
        files[options.report / SCORES] = png_writer(figure.picture)
        for name, sheet in pictures.items():
            files[options.report / f"sheet-{name}.png"] = png_writer(sheet)
    write_whole(files)
    return 0


def _said(options: argparse.Namespace, lacks: str) -> str:
    said = (
        f"attndb-micro, {len(PROMPTS)} prompts, {options.images} picture(s) of each, "
        f"seed {options.seed}, {options.precision}, photos of {options.places} places; no method "
        "with prior images"
    )
    return f"{said}\n{lacks}" if lacks else said
