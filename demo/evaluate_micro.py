"""`python dev.py evaluate-micro [--json FILE]`: does attndb-micro draw what a prompt says?

Held-out prompts are drawn by the host's sampler; judges trained on the world alone say what they
see. The oracle (the true renderings through the autoencoder) is always a row, and the
autoencoder's gate is measured anew.
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
import logging
import time

import numpy as np
import torch

from ..attndb.artifacts.tensor_file import text_writer, write_whole
from ..devkit.host_path import host_on_path
from ..micro.following import GOALS, following, prompt_scenes
from ..micro.gate import gate, gate_table, through
from ..micro.sampling import GUIDANCE, SAMPLER, STEPS, sample
from ..micro.shipped import load_autoencoder, load_judges
from ..micro.weight_files import FOLDER
from ..micro.world import full_caption, render
from .train_micro import contact_sheet

log = logging.getLogger(__name__)


def table(rows: dict[str, dict[str, float]]) -> str:
    """The shares as Markdown: a line for each thing asked, a column for each row of `rows`."""
    lines = [
        f"| asked for | {' | '.join(rows)} | goal |",
        "|---" * (len(rows) + 2) + "|",
    ]
    for name, goal in GOALS.items():
        cells = [f"{row[name]:.1%}" if name in row else "" for row in rows.values()]
        lines.append(f"| {name} | {' | '.join(cells)} | {goal:.0%} |")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="dev.py evaluate-micro", description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    parser.add_argument(
        "--weights", type=Path, default=FOLDER, metavar="FOLDER", help="of others than the shipped"
    )
    parser.add_argument("--prompts", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--guidance", type=float, default=GUIDANCE)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--sheet", type=Path, help="write a picture of the first 64 samples")
    options = parser.parse_args(arguments)
    host_on_path(cpu=not torch.cuda.is_available())
    from ..nodes.host.model.micro import load_micro

    start = time.monotonic()
    folder = options.weights
    coder, judges = load_autoencoder(folder), load_judges(folder)
    gate_rows = gate(coder)
    scenes = prompt_scenes(options.seed, options.prompts)
    true = np.stack([render(scene).picture for scene in scenes])
    copy = through(coder)
    copied = np.concatenate([copy(true[i : i + 50]) for i in range(0, len(true), 50)])
    wires = load_micro(folder=folder)
    drawn = sample(
        *wires,
        [full_caption(scene) for scene in scenes],
        seed=options.seed,
        steps=options.steps,
        guidance=options.guidance,
    ).numpy()
    rows = {
        "attndb-micro": following(judges, drawn, scenes),
        "oracle": following(judges, copied, scenes),
        "judges on real scenes": following(judges, true, scenes),
    }
    sys.stdout.write(gate_table(gate_rows) + "\n\n" + table(rows) + "\n")
    log.info(
        "%d prompts, %s, %d steps, CFG %g, seed %d: %.0f s",
        *(options.prompts, SAMPLER, options.steps, options.guidance, options.seed),
        time.monotonic() - start,
    )
    if options.sheet:
        contact_sheet(drawn[:64]).save(options.sheet)
    if options.json:
        record = {
            **rows["attndb-micro"],
            "parts": min(row.parts for row in gate_rows[:2]),
            "object_psnr": min(row.object_psnr for row in gate_rows[:2]),
            "oracle": rows["oracle"],
            "judges": rows["judges on real scenes"],
            "prompts": options.prompts,
            "seed": options.seed,
            "sampler": SAMPLER,
            "steps": options.steps,
            "guidance": options.guidance,
        }
        write_whole({options.json: text_writer(json.dumps(record, indent=1))})
    return 0
