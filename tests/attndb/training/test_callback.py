"""Callbacks are told of what they were not told of before a stop."""

from __future__ import annotations

import pytest
from support.observer import Told
from support.prior import VECTORS, stage

from attndreambooth.attndb.training.run import Run
from attndreambooth.devkit.tiny_model import RandomBatches, tiny_model
from attndreambooth.devkit.training import train_stage


class Stopped(Exception):
    """Raised by a test's callback."""


def test_what_is_drawn_at_the_end_is_drawn_after_a_stop_at_the_last_step(tmp_path):
    def train(callback):
        with Run(tmp_path, {"of": "a test"}, every=0) as run:
            return train_stage(tiny_model(), RandomBatches(), stage(2), VECTORS, callback, run)

    @Told
    def stop(loss, _training):
        if loss.step == 2:
            raise Stopped

    with pytest.raises(Stopped):
        train(stop)
    seen = []
    train(Told(lambda loss, _training: seen.append(loss.step)))
    assert seen == [2]
