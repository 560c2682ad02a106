"""The average of a training, seen on its way."""

from __future__ import annotations

import pytest
import torch

from attndreambooth.attndb.artifacts.weight_delta import delta_tensors
from attndreambooth.attndb.config.optimizer import OptimizerConfig
from attndreambooth.attndb.config.stage import StageConfig
from attndreambooth.attndb.memory.meta_trace import Ledger
from attndreambooth.devkit.tiny_model import random_batch, tiny_model
from attndreambooth.devkit.training import training_of


@pytest.fixture
def training():
    """Stage 3 after one step, with an average."""
    config = StageConfig(
        stage=3,
        steps=2,
        batch_size=2,
        optimizer=OptimizerConfig(learning_rate=1e-3),
        precision="fp32",
        ema_decay=0.5,
    )
    with training_of(tiny_model(), config, torch.zeros(1, 32)) as begun:
        begun.step(0, random_batch(2))
        yield begun


def test_no_second_set_of_weights_is_held_while_it_is_seen(training):
    """A card that the training fills has no room for one."""
    averages = training.ema.values
    ledger = Ledger([*training.trainable, *averages])
    with ledger, training.as_result():
        pass
    assert ledger.peak < sum(value.nbytes for value in averages) / 20


def test_afterwards_all_is_as_it_was(training):
    now = [value.detach().clone() for value in training.trainable]
    averages = [value.clone() for value in training.ema.values]
    with pytest.raises(KeyError), training.as_result():
        seen = [value.detach().clone() for value in training.trainable]
        raise KeyError
    assert all(map(torch.equal, seen, averages)) and not all(map(torch.equal, seen, now))
    assert all(map(torch.equal, training.trainable, now))
    assert all(map(torch.equal, training.ema.values, averages))
    first, second = (delta_tensors(training.result_now().delta) for _ in range(2))
    last = delta_tensors(training.result().delta)
    assert all(
        torch.equal(value, second[n]) and torch.equal(value, last[n]) for n, value in first.items()
    )
