"""Run a workflow and make its card for the template browser of what it shows and saves.

    .venv/bin/python tests/browser/result.py workflows/NAME.json

The card shows the pictures of every PreviewImage (photos), then of every SaveImage node (results),
a row for each node; it goes to workflows/NAME.jpg. Its width is that of a card on a large screen.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from PIL import Image
from support.outcome import Outcome
from support.server import HostServer
from support.workflow import ui_workflow_to_api

SECONDS = 3600
WIDTH, GAP, PAPER = 1000, 10, (24, 25, 29)
SHOWN = ("PreviewImage", "SaveImage")


def card(rows: list[list[Image.Image]], width: int = WIDTH) -> Image.Image:
    """Rows of pictures, each row as wide as the card; small pictures are enlarged."""
    lines = []
    for row in rows:
        unit = (width - GAP * (len(row) + 1)) / sum(p.width / p.height for p in row)
        lines.append([p.resize((round(unit * p.width / p.height), round(unit))) for p in row])
    height = GAP + sum(line[0].height + GAP for line in lines)
    sheet, y = Image.new("RGB", (width, height), PAPER), GAP
    for line in lines:
        x = GAP
        for picture in line:
            sheet.paste(picture, (x, y))
            x += picture.width + GAP
        y += line[0].height + GAP
    return sheet


def shown(server: HostServer, outcome: Outcome, key: str) -> list[Image.Image]:
    """The pictures that a node of a run shows or saves."""
    files = outcome.outputs[key]["images"]
    return [Image.open(io.BytesIO(server.view(file))).convert("RGB") for file in files]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("workflow", type=Path)
    arguments = parser.parse_args()
    workflow = json.loads(arguments.workflow.read_text(encoding="utf-8"))
    target = arguments.workflow.with_suffix(".jpg")
    with tempfile.TemporaryDirectory() as base, HostServer(Path(base)) as server:
        prompt = ui_workflow_to_api(workflow, server.object_info())
        outcome = server.run(prompt, timeout=SECONDS)
        rows = []
        for kind in SHOWN:
            for key in (key for key, node in prompt.items() if node["class_type"] == kind):
                rows.append(shown(server, outcome, key))
    card(rows).save(target, quality=90)
    print(f"{target} written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
