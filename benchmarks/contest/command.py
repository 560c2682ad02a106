"""What the programs of the contest ask for on the command line, and the studio they open."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

import torch

from ...attndb.config.choices import Precision
from ...attndb.models.precision import computes_in_bf16
from ...devkit.host_path import host_on_path
from .studio import Studio
from .table import Asked

MOST_JOBS = 4
"""Processes that are started if nobody says how many; each keeps a model and a training."""


def add_options(parser: argparse.ArgumentParser, rows: Path, images: int) -> None:
    """Those that every program has; `rows` and `images` are what is meant if nothing is said."""
    parser.add_argument("--images", type=int, default=images, help="for each prompt")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", choices=get_args(Precision), default="auto")
    parser.add_argument(
        "--jobs", type=int, default=0, help=f"processes; 0: a core each, {MOST_JOBS} at most"
    )
    parser.add_argument("--threads", type=int, default=0, help="of a process; 0: its share")
    parser.add_argument("--beside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=Path, default=rows, help="folder of the finished rows")


def asked_by(options: argparse.Namespace, places: str = "many") -> Asked:
    """What all rows share; from here on the host can be imported. Settles jobs, threads and what
    precision `auto` is: a row in bf16 does not answer for one in fp32."""
    if options.beside:  # told to end, it leaves its blocks, and its temporary folder goes
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    cores = os.cpu_count() or 1
    if options.jobs < 1:
        options.jobs = 1 if torch.cuda.is_available() else min(cores, MOST_JOBS)
    options.threads = options.threads or max(1, cores // options.jobs)
    torch.set_num_threads(options.threads)
    host_on_path(cpu=not torch.cuda.is_available())
    options.precision = settled(options.precision)
    return Asked(
        places=places, seed=options.seed, images=options.images, precision=options.precision
    )


def settled(precision: Precision) -> Precision:
    """What `auto` is on this machine; else as it is."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if precision == "auto":
        return "bf16" if computes_in_bf16("auto", device) else "fp32"
    return precision


@contextmanager
def beside(
    options: argparse.Namespace, program: str, arguments: Sequence[str]
) -> Iterator[list[subprocess.Popen]]:
    """Others that share the rows, `options.jobs` processes in all, until the block is left.

    One that dies leaves its row to the rest. They fill rows (`options.beside`): tables and records
    are the work of whoever started them.
    """
    alone = ["--jobs", "1", "--threads", str(options.threads), "--beside"]
    command = [sys.executable, program, *arguments, *alone]
    others = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(options.jobs - 1)]
    try:
        yield others
    finally:
        for other in others:
            other.terminate()
        for other in others:
            other.wait()


@contextmanager
def open_studio(asked: Asked) -> Iterator[Studio]:
    """A studio whose runs go when it is left: no run of before answers."""
    with TemporaryDirectory() as folder, torch.inference_mode():
        yield Studio(Path(folder), images=asked.images, precision=asked.precision)
