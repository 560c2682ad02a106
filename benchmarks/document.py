"""`python benchmarks/document.py`: the tables of docs/evaluation.md from the committed rows.

`python dev.py evaluate --rows benchmarks/contest/evaluated` makes the rows; this writes what they
say between the marks of the page. Without all rows of a table those that are there are written,
and what lacks is said. Rows take many hours, so asked.json beside them says of which weights
those of the page are and of how many pictures of a prompt; others gather there until they are as
many (--now).
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

from ..attndb.artifacts.tensor_file import text_writer, write_whole
from ..devkit.pack import ROOT
from ..micro.concepts import EVALUATION
from ..micro.weight_files import card_hashes
from .contest.contestant import all_contestants, recipes
from .contest.documented import documented, of_weights, put
from .contest.rows import COMMITTED, Row
from .contest.table import DOCUMENTED, Asked, Table, documented_asked

PAGE = ROOT / "docs" / "evaluation.md"


def committed(places: str, folder: Path = COMMITTED) -> list[Row]:
    """The rows that answer what today's code asks, of the documented weights, in the order of the
    table."""
    return Table(documented_asked(places), folder).found(all_contestants(recipes()), EVALUATION)


def written(text: str) -> str:
    """A page with the tables of the committed rows."""
    tables = documented(committed("many"), committed("two"))
    return put(text, {**tables, "weights": of_weights(documented_asked().weights, card_hashes())})


def main(arguments: Sequence[str]) -> int:
    """Command line."""
    usual = Asked()
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument(
        "--now",
        action="store_true",
        help=f"the page is of the shipped weights from here on, and of {usual.images} pictures",
    )
    if parser.parse_args(arguments).now:
        asked = {"images": usual.images, "weights": dict(usual.weights)}
        write_whole({DOCUMENTED: text_writer(json.dumps(asked, indent=1) + "\n")})
    before = PAGE.read_text(encoding="utf-8")
    after = written(before)
    write_whole({PAGE: text_writer(after)})
    sys.stdout.write(f"{PAGE.name}: {'as it was' if after == before else 'written anew'}\n")
    return 0
