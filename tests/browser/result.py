"""Run a workflow and keep the picture that it saves as the workflow's own.

    .venv/bin/python tests/browser/result.py workflows/NAME.json

The picture is what the first SaveImage node of the graph saves; it goes to workflows/NAME.jpg.
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
from support.server import HostServer
from support.workflow import ui_workflow_to_api

SECONDS = 3600


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("workflow", type=Path)
    arguments = parser.parse_args()
    workflow = json.loads(arguments.workflow.read_text(encoding="utf-8"))
    target = arguments.workflow.with_suffix(".jpg")
    with tempfile.TemporaryDirectory() as base, HostServer(Path(base)) as server:
        prompt = ui_workflow_to_api(workflow, server.object_info())
        saved = next(key for key, node in prompt.items() if node["class_type"] == "SaveImage")
        outcome = server.run(prompt, timeout=SECONDS)
        data = server.view(outcome.outputs[saved]["images"][0])
    Image.open(io.BytesIO(data)).convert("RGB").save(target, quality=90)
    print(f"{target} written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
