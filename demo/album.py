"""`python demo/album.py FOLDER [NAME ...]`: the concepts as folders of photos and masks."""

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
from dataclasses import asdict

from PIL import Image

from ..attndb.artifacts.tensor_file import png_writer, text_writer, write_whole
from ..micro.concepts import CONCEPTS
from ..micro.world import SIZE

log = logging.getLogger(__name__)


def write_concept(name: str, folder: Path, side: int = SIZE) -> list[Path]:
    """Write photo-1.png ... into `folder`, masks and attributes into `folder`/truth; the photos,
    of `side` px.
    """
    concept, paths, scenes = CONCEPTS[name], [], []
    for number, (photo, scene) in enumerate(concept.photos(), start=1):
        paths.append(folder / f"photo-{number}.png")
        _save(Image.fromarray(photo.picture), paths[-1], side)
        _save(Image.fromarray(photo.mask), folder / "truth" / paths[-1].name, side)
        scenes.append(asdict(scene))
    record = {"name": concept.name, "category": concept.category, "scenes": scenes}
    write_whole({folder / "truth" / "scenes.json": text_writer(json.dumps(record, indent=1))})
    return paths


def _save(image: Image.Image, path: Path, side: int) -> None:
    write_whole({path: png_writer(image.resize((side, side), Image.Resampling.NEAREST))})


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="album.py", description=__doc__)
    parser.add_argument("folder", type=Path, help="where the folders of the concepts go")
    parser.add_argument("names", nargs="*", help="default: all")
    parser.add_argument("--side", type=int, default=SIZE, help="px of a photo")
    options = parser.parse_args(arguments)
    names = options.names or list(CONCEPTS)
    if unknown := [name for name in names if name not in CONCEPTS]:
        parser.error(f"no concept {', '.join(unknown)}; known: {', '.join(CONCEPTS)}")
    for name in names:
        paths = write_concept(name, options.folder / name, options.side)
        log.info("%s: %d photos in %s", name, len(paths), paths[0].parent)
    return 0
