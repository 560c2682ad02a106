"""Large checkpoints take at most 2 % of the time, and ten minutes of work at most wait for one."""

from __future__ import annotations

import pytest
import torch
from support.clock import Clock
from support.resumed import same
from support.small_run import REQUEST, train

from attndreambooth.attndb.training import checkpoint_pace
from attndreambooth.attndb.training.checkpoint_pace import CheckpointPace
from attndreambooth.attndb.training.run import Run


@pytest.fixture
def large(monkeypatch):
    """Even the tiny model's checkpoints count as large."""
    monkeypatch.setattr(checkpoint_pace, "LEAST", 0)


@pytest.mark.parametrize(("took", "pause"), [(0.0, 0.0), (1.0, 50.0), (12.0, 600.0), (60.0, 600.0)])
def test_the_next_one_waits_until_this_one_is_paid_for(large, took, pause):
    clock = Clock()
    pace = CheckpointPace(clock)
    assert not pace.puts_off
    clock.now = 100.0 + took
    pace.held_up(100.0, {"a": torch.zeros(3)})
    clock.now += max(0.0, pause - 0.01)
    assert pace.puts_off == (pause > 0)
    clock.now += 0.02
    assert not pace.puts_off


def test_small_ones_are_written_whenever_they_are_due():
    clock = Clock()
    pace = CheckpointPace(clock)
    clock.now = 1000.0
    pace.held_up(0.0, {"a": torch.zeros(16_000_000 - 1)})  # four bytes each: just under 64 MB
    assert not pace.puts_off
    pace.held_up(0.0, {"a": torch.zeros(16_000_000)})
    assert pace.puts_off


def test_a_training_writes_fewer_and_gives_the_same(tmp_path, monkeypatch, large):
    """A step takes 20 s and a checkpoint 1 s: due after each of six, written after 1 and 4."""
    clock, written = Clock(), []
    with Run(tmp_path, REQUEST, every=1) as run:
        run._pace = CheckpointPace(clock)
        plain = run.save

        def save(training, *, beside=False):
            done = plain(training, beside=beside)
            if beside:
                clock.now += 1.0
                run._pace.held_up(clock.now - 1.0, training.state()[0])
                written.append(len(training.losses))
            return done

        def step(*_):
            clock.now += 20.0

        monkeypatch.setattr(run, "save", save)
        assert same(train(run, step), train(None))
    assert written == [1, 4]
