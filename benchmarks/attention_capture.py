"""What Capture Attention costs: time of one guided step with and without it, side by side.

    python benchmarks/attention_capture.py [--kind sd15] [--side 256] [--rounds 8] [--json FILE]

Both are timed in turn on the same weights, so that other work on the machine hits both. The small
checkpoints of the tests are used, whose attention is a larger part of a step than in full models.
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
import statistics
import time
from typing import Any

from ..devkit.host_path import host_on_path

PROMPT = "a photo of a red guitar and two cats on a wooden table"


def main(arguments: Sequence[str]) -> int:
    """Prints one JSON line."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--kind", default="sd15", choices=["sd15", "sd21"])
    parser.add_argument("--side", type=int, default=256, help="pixels")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--words", default="", help="words to capture; all without")
    parser.add_argument("--cuda", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    host_on_path(cpu=not options.cuda)
    import torch

    with torch.inference_mode():
        found = measure(options)
    line = json.dumps(found)
    print(line)
    if options.json:
        options.json.write_text(line + "\n")
    return 0


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Median and least time of a step, without capture and with it."""
    import torch

    from ..devkit.captured import NEGATIVE, capture
    from ..devkit.wires import load

    loaded = load(options.kind)
    model, handle, positive = capture(loaded, PROMPT, options.words, slices=10)
    negative = loaded.encode(NEGATIVE)
    side = options.side // 8
    times: dict[str, list[float]] = {"plain": [], "captured": []}
    for round_ in range(options.rounds + 1):
        for name, wire in (("plain", loaded.model), ("captured", model)):
            start = time.perf_counter()
            loaded.draw(wire, positive, negative, size=(side, side), batch=options.batch, steps=2)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if round_:  # the first warms up
                times[name].append((time.perf_counter() - start) / 2)
    plain, captured = times["plain"], times["captured"]
    return {
        "kind": options.kind,
        "side": options.side,
        "batch": options.batch,
        "words": len(handle.words),
        "plain_s": round(min(plain), 4),
        "captured_s": round(min(captured), 4),
        "ratio_of_least": round(min(captured) / min(plain), 3),
        "ratio_of_medians": round(statistics.median(captured) / statistics.median(plain), 3),
        "record_mb": round(handle.runs[-1].record.bytes / 1e6, 2),
        "device": torch.cuda.get_device_name() if options.cuda else "CPU",
        "threads": torch.get_num_threads(),
    }
