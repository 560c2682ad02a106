"""A disk that may be too small for what a training keeps is told before the first step."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from ..artifacts.tensor_file import size_text

log = logging.getLogger(__name__)


def warn_of_little_space(folder: Path, trained: Sequence[Tensor], checkpoints: bool) -> None:
    """Of checkpoints, if there are any (weights and two moments each, the old one beside the new
    one), else of the one that a cancelled training leaves."""
    weights = sum(p.numel() * 4 for p in trained)
    needed = 2 * 3 * weights if checkpoints else 3 * weights
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return
    if free < needed:
        log.warning(
            "%s: %s free, and this stage wants about %s (a checkpoint holds weights and two "
            "moments; the old one stays until the new one is whole). Without it checkpoints "
            "may fail; the training itself does not need them",
            folder,
            size_text(free),
            size_text(needed),
        )
