"""Run a workflow and make its card for the template browser of what it shows and saves.

    .venv/bin/python tests/browser/result.py workflows/NAME.json

The card shows the pictures of every node that previews (photos, a dataset), then of every SaveImage
node (results): a row for each node, under its title where it has one of its own; at the end the
table of a node that scores. It goes to workflows/NAME.jpg. Its width is that of a card on a large
screen.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from score_row import score_row
from support.outcome import Outcome
from support.server import HostServer
from support.workflow import ui_workflow_to_api

SECONDS = 3600
WIDTH, GAP, PAPER, INK = 1000, 10, (24, 25, 29), (222, 224, 230)
TITLE = 26
"""Height of a row's title in pixels."""
TALLEST, EVEN, ALIKE = 0.9, 12, 0.8
"""Of a long sheet: its card's height by its width, the largest difference of 255 in a row of pixels
that shows nothing, and the share of the widest gap that is as wide."""
WIDE = 1.2
SHOWN = ("PreviewImage", "AttnDBPreviewDataset", "SaveImage")


def card(
    rows: list[list[Image.Image]], width: int = WIDTH, titles: Sequence[str] = ()
) -> Image.Image:
    """Rows of pictures, each as wide as the card and under its title, if it has one; small pictures
    are enlarged."""
    lines = []
    for row in rows:
        unit = (width - GAP * (len(row) + 1)) / sum(p.width / p.height for p in row)
        lines.append([p.resize((round(unit * p.width / p.height), round(unit))) for p in row])
    named = list(titles) or [""] * len(rows)
    height = GAP + sum(line[0].height + GAP for line in lines)
    height += sum(TITLE + GAP for name in named if name)
    sheet, y = Image.new("RGB", (width, height), PAPER), GAP
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(TITLE)
    for line, name in zip(lines, named, strict=True):
        x = GAP
        if name:
            draw.text((x, y + TITLE // 2), name, INK, font, anchor="lm")
            y += TITLE + GAP
        for picture in line:
            sheet.paste(picture, (x, y))
            x += picture.width + GAP
        y += line[0].height + GAP
    return sheet


def head(picture: Image.Image) -> Image.Image:
    """As much of a long sheet as a card has room for, cut at the widest gap of those below each
    other, the last of them."""
    room = round(TALLEST * picture.width)
    if picture.height <= picture.width or room >= picture.height:
        return picture
    spread = np.ptp(np.asarray(picture, dtype=np.int16), axis=1).max(axis=1)  # (Y,)
    shows = np.flatnonzero(spread > EVEN)
    gaps = np.diff(shows)[shows[:-1] < room]  # what follows the last of them may lie lower
    last = np.flatnonzero(gaps >= ALIKE * gaps.max())[-1]
    return picture.crop((0, 0, picture.width, int(shows[last]) + 1 + GAP))


def shown(server: HostServer, outcome: Outcome, key: str) -> list[Image.Image]:
    """The pictures that a node of a run shows or saves."""
    files = outcome.outputs[key]["images"]
    pictures = [Image.open(io.BytesIO(server.view(file))).convert("RGB") for file in files]
    return [head(picture) for picture in pictures]


def seen(row: list[Image.Image], kind: str) -> list[Image.Image]:
    """What a card shows of a node's pictures: of wide sheets the first, so that its words can be
    read, and no other single preview (a mask), which would fill it."""
    if row[0].width > WIDE * row[0].height:
        return row[:1]
    return [] if kind == "PreviewImage" and len(row) == 1 else row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("workflow", type=Path)
    arguments = parser.parse_args()
    workflow = json.loads(arguments.workflow.read_text(encoding="utf-8"))
    target = arguments.workflow.with_suffix(".jpg")
    with tempfile.TemporaryDirectory() as base, HostServer(Path(base)) as server:
        prompt = ui_workflow_to_api(workflow, server.object_info())
        outcome = server.run(prompt, timeout=SECONDS)
        found = {
            key: shown(server, outcome, key)
            for kind in SHOWN
            for key in prompt
            if prompt[key]["class_type"] == kind
        }
    rows = {key: seen(row, prompt[key]["class_type"]) for key, row in found.items()}
    rows = {key: row for key, row in rows.items() if row}
    own = {str(node["id"]): node.get("title", "") for node in workflow["nodes"]}
    asks = {key for key in rows if prompt[key]["class_type"] == "PreviewImage"}  # of who runs it
    titles = ["" if key in asks else own.get(key, "") for key in rows]
    scored = [key for key in prompt if prompt[key]["class_type"] == "AttnDBEvaluateConcept"]
    tables = [[score_row(outcome.outputs[key]["text"][0])] for key in scored]
    titles += [""] * len(tables)
    card([*rows.values(), *tables], titles=titles).save(target, quality=90)
    print(f"{target} written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
