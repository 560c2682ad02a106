"""Pictures in the repository that the embedded model drew, and by which of its weights.

    python dev.py pictures                      those that other weights drew, and how they are made
    python dev.py pictures --make               make them anew
    python dev.py pictures --make "Two concepts" contact_sheet     these, whatever drew them

`drawn.json` beside this file says which weights drew each: the first digits of the sha256 in the
model card. Pictures of the comparison's rows are of the weights that its page is of, which may be
earlier ones: rows take hours. Numbers in docs are not looked at.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

if not __package__:  # started as a program: it goes on as a part of the package
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "devkit"))
    from pack import run_program

    run_program(__file__)

import argparse
import json
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field

from PIL import Image

from ..attndb.artifacts.tensor_file import text_writer, write_whole
from ..devkit.pack import ROOT
from ..micro.weight_files import DIGITS, MODEL, card_hashes

RECORD = Path(__file__).resolve().with_suffix(".json")
FOLDER = "{folder}"
"""In a command: an empty folder."""
CARDS = (
    *("Compare methods", "Compare stages", "Evaluate a concept", "Extract LoRA"),
    *("Masks and captions", "No class images", "Prior images", "Regularize a stock LoRA"),
    *("Teach a subject (toy model)", "Two concepts", "Where each word looks"),
    "Which step was best",
)
STAND_INS = (
    *("Teach a subject", "Teach a subject (app)", "Teach a subject (fast)"),
    *("Teach a subject (LoRA)", "Stage by stage"),
)


@dataclass(frozen=True)
class Drawing:
    """A command, and what it draws."""

    command: tuple[str, ...]
    """Of the interpreter, from the root; FOLDER is where it writes what is taken from there."""
    pictures: tuple[str, ...] = ()
    """Files that it writes in their places."""
    taken: Mapping[str, str] = field(default_factory=dict)
    """Picture -> file in FOLDER that becomes it."""
    weights: str = ""
    """Of the repository: the JSON file whose "weights" say of which it is; the card if empty."""

    @property
    def all(self) -> tuple[str, ...]:
        """Its pictures, by their paths in the repository."""
        return (*self.pictures, *self.taken)


def _card(name: str) -> str:
    return f"workflows/{name}.jpg"


DRAWINGS = (
    Drawing(
        ("demo/demo.py", "--output", FOLDER), taken={"docs/contact_sheet.png": "contact_sheet.png"}
    ),
    Drawing(("demo/registry_pictures.py",), ("docs/icon.png", "docs/banner.png")),  # of the sheet
    Drawing(
        ("demo/evaluate_micro.py", "--prompts", "32", "--sheet", f"{FOLDER}/sheet.png"),
        taken={"micro/weights/attndb-micro.jpg": "sheet.png"},
    ),
    *(
        Drawing(("tests/browser/result.py", f"workflows/{name}.json"), (_card(name),))
        for name in CARDS
    ),
    Drawing(("tests/browser/stand_in.py",), tuple(_card(name) for name in STAND_INS)),
    Drawing(("tests/browser/scores_card.py",), (_card("Evaluate a concept (SD 1.5)"),)),
    Drawing(
        ("tests/browser/control_card.py", "--steps", "450"), (_card("Concept with ControlNet"),)
    ),
    Drawing(
        ("demo/ranks.py", "--share", "0.35", "--each", "4", "--biases-and-norms"),
        ("docs/ranks.png",),
    ),
    Drawing(
        ("benchmarks/evaluate.py", "--documented", "--report", FOLDER),
        taken={
            "docs/compared_scores.png": "scores.png",
            "docs/compared_methods.jpg": "sheet-horned-car.png",
        },
        weights="benchmarks/contest/evaluated/asked.json",
    ),
    Drawing(
        ("benchmarks/observations.py", "--output", FOLDER),
        taken={"docs/observations.png": "observations.png"},
    ),
)


def shipped() -> str:
    """The weights that the pack has, as the record names them."""
    return card_hashes()[MODEL][:DIGITS]


def due(one: Drawing) -> str:
    """The weights that it should be of, named as by `shipped`."""
    if not one.weights:
        return shipped()
    return json.loads((ROOT / one.weights).read_text(encoding="utf-8"))["weights"][MODEL][:DIGITS]


def record() -> dict[str, str]:
    """Picture -> the weights that drew it."""
    return json.loads(RECORD.read_text(encoding="utf-8"))


def stale() -> list[Drawing]:
    """Those with a picture that other weights drew."""
    drawn_by = record()
    return [one for one in DRAWINGS if {drawn_by.get(path) for path in one.all} - {due(one)}]


def make(one: Drawing) -> None:
    """Runs it, puts what it drew in its place, and notes by which weights."""
    with tempfile.TemporaryDirectory() as folder:
        command = [part.replace(FOLDER, folder) for part in one.command]
        subprocess.run([sys.executable, *command], cwd=ROOT, check=True)  # noqa: S603 (ours)
        for path, file in one.taken.items():
            _put(Path(folder) / file, ROOT / path)
    by = {**record(), **dict.fromkeys(one.all, due(one))}
    text = json.dumps(dict(sorted(by.items())), indent=1) + "\n"
    write_whole({RECORD: text_writer(text)})


def _put(source: Path, target: Path) -> None:
    if source.suffix == target.suffix:
        shutil.copyfile(source, target)
    else:
        Image.open(source).convert("RGB").save(target, quality=90)


def _asked(names: Sequence[str]) -> list[Drawing]:
    """Those with a picture of such a name; ValueError names what no drawing has."""
    known = [Path(path).stem for one in DRAWINGS for path in one.all]
    if unknown := sorted(set(names) - set(known)):
        raise ValueError(f"no picture is called {', '.join(unknown)}: use {', '.join(known)}")
    return [one for one in DRAWINGS if any(Path(path).stem in names for path in one.all)]


def main(arguments: Sequence[str]) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n\n")[0])
    parser.add_argument("--make", nargs="*", metavar="NAME", help="all of other weights, or these")
    options = parser.parse_args(arguments)
    try:
        chosen = _asked(options.make) if options.make else stale()
    except ValueError as error:
        parser.error(str(error))
    for one in chosen:
        print(f"{', '.join(one.all)}: python {' '.join(one.command)}", flush=True)
        if options.make is not None:
            make(one)
    if not chosen:
        print(f"all pictures are of the weights that the pack has ({shipped()})")
    return 0
