"""Files of subjects for `python -m attndb train`: that of the document, and one beside a folder."""

from __future__ import annotations

import re
from pathlib import Path

from PIL import Image

from attndreambooth.devkit.pack import ROOT
from attndreambooth.micro.concepts import CONCEPTS

STEPS = 4
FOLDERS = """
model: micro
defaults:
  preset: micro
  stages: [{stage: 1, steps: 1}]
  settings: {data: {resolution: 64, augmentation: none}}
  photos: {category: robot}
folders:
  second: {name: own-name}
"""


def draw_photos(folder: Path) -> None:
    """The photos of *hatted-robot*."""
    folder.mkdir(parents=True)
    for number, (drawn, _) in enumerate(CONCEPTS["hatted-robot"].photos(), start=1):
        Image.fromarray(drawn.picture).save(folder / f"photo-{number}.png")


def example() -> str:
    """The document's file, a few steps long, with a subject in the middle that cannot be."""
    text = (ROOT / "docs" / "headless.md").read_text(encoding="utf-8")
    first = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)[0]
    short = re.sub(r"steps: \d+", f"steps: {STEPS}", first).replace("128, aug", "64, aug")
    photos = "photos: {folder: photos/hatted-robot, category: robot, masks: alpha}"
    return short.replace("  - name: my-robot-both", f"  - {photos}\n\n  - name: my-robot-both")


def write_folders(home: Path) -> None:
    """A file, and beside it a folder of three subjects."""
    for name in ("first", "second", "third"):
        draw_photos(home / "subjects" / name)
    (home / "all.yaml").write_text(FOLDERS, encoding="utf-8")
