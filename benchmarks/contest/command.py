"""What the programs of the contest ask for on the command line, and the studio they open."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

import torch

from ...attndb.config.choices import Precision
from ...devkit.pack import host_on_path
from .studio import Studio
from .table import Asked


def add_options(parser: argparse.ArgumentParser, rows: Path, images: int) -> None:
    """Those that every program has; `rows` and `images` are what is meant if nothing is said."""
    parser.add_argument("--images", type=int, default=images, help="for each prompt")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", choices=get_args(Precision), default="auto")
    parser.add_argument("--threads", type=int, default=0, help="0: as PyTorch chooses")
    parser.add_argument("--rows", type=Path, default=rows, help="folder of the finished rows")


def asked_by(options: argparse.Namespace, places: str = "many") -> Asked:
    """What all rows share; from here on the host can be imported."""
    if options.threads:
        torch.set_num_threads(options.threads)
    host_on_path(cpu=not torch.cuda.is_available())
    return Asked(
        places=places, seed=options.seed, images=options.images, precision=options.precision
    )


@contextmanager
def open_studio(asked: Asked) -> Iterator[Studio]:
    """A studio whose runs go when it is left: no run of before answers."""
    with TemporaryDirectory() as folder, torch.inference_mode():
        yield Studio(Path(folder), images=asked.images, precision=asked.precision)
