"""A short training of the tiny model in a run folder, and what it leaves there."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import torch

from attndreambooth.attndb.config.optimizer import OptimizerConfig
from attndreambooth.attndb.config.stage import StageConfig
from attndreambooth.attndb.training.training import StageResult
from attndreambooth.devkit.tiny_model import RandomBatches, tiny_model
from attndreambooth.devkit.training import train_stage
from support.observer import Told

VECTORS = 0.3 * torch.randn(1, 32, generator=torch.Generator().manual_seed(5))
REQUEST = {"seed": 1}
STEPS = 6


def train(run, observer=None) -> StageResult:
    """Stage 2 in a run, if there is one; `observer(loss, training)` after every step."""
    config = StageConfig(
        stage=2,
        steps=STEPS,
        batch_size=2,
        optimizer=OptimizerConfig(learning_rate=1e-3),
        precision="fp32",
    )
    return train_stage(
        tiny_model(), RandomBatches(2), config, VECTORS, observer and Told(observer), run
    )


def full(*_, **__):
    """Any write to a full disk."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def lines(folder: Path) -> list[int]:
    """Steps in the loss log."""
    text = (folder / "losses.jsonl").read_text()
    return [json.loads(line)["step"] for line in text.splitlines()]
