"""A picture of a workflow as the front end shows it, run first if asked.

    python dev.py picture workflows/NAME.json [--output FILE.jpg] [--run] [--server HOST:PORT]

Without --server a ComfyUI of its own is started, with the pack and nothing else in it; --run needs
one that has the models and photos that the workflow names.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.frontend import FrontEnd, browser_page, find_chromium
from support.server import HostServer


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("workflow", type=Path)
    parser.add_argument("--output", type=Path, help="default: the workflow's name with .jpg")
    parser.add_argument("--run", action="store_true", help="press Run, and show what it made")
    parser.add_argument("--server", help="address of a running ComfyUI")
    parser.add_argument("--width", type=int, default=1800, help="of the picture, in pixels")
    parser.add_argument("--timeout", type=float, default=1800, help="seconds that a run may take")
    arguments = parser.parse_args()
    chromium = find_chromium()
    if chromium is None:
        print("no Chromium found: install one, or set ATTNDB_CHROMIUM to its program")
        return 1
    output = arguments.output or arguments.workflow.with_suffix(".jpg")
    with contextlib.ExitStack() as stack:
        address = arguments.server
        if address is None:
            base = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            address = stack.enter_context(HostServer(base)).address
        front_end = FrontEnd(stack.enter_context(browser_page(chromium)))
        front_end.open(address)
        front_end.load(json.loads(arguments.workflow.read_text(encoding="utf-8")))
        if arguments.run:
            front_end.run(arguments.timeout)
        front_end.picture(output, arguments.width)
    print(f"{output} written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
