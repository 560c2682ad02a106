"""A disk too small for what a training keeps: told before the first step, and seen at the end."""

from __future__ import annotations

import errno
import logging
import shutil
from collections.abc import Iterable, Sequence
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


def is_in_the_way(file: Path, tensors: Iterable[Tensor], error: OSError) -> bool:
    """Whether tensors that could not be written surely fit in the place of a file beside them: on a
    full disk, or where nobody may have more of it, whatever is free (a quota)."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return False
    needed = 1.1 * sum(t.nbytes for t in tensors) + 1e6
    try:
        free = shutil.disk_usage(file.parent).free if error.errno == errno.ENOSPC else 0
        return file.stat().st_size + free > needed
    except OSError:
        return False
