"""Memory runs out, or the device is gone, in the middle of a training: what is kept and said."""

from __future__ import annotations

import weakref

import pytest
import torch
from support.small_run import REQUEST, VECTORS

from attndreambooth.attndb.config.optimizer import OptimizerConfig
from attndreambooth.attndb.config.stage import StageConfig
from attndreambooth.attndb.training.run import Run
from attndreambooth.attndb.training.run_files import checkpoint_steps
from attndreambooth.devkit.tiny_model import RandomBatches, tiny_model
from attndreambooth.devkit.training import train_stage


def train(backend, run, micro_batch=1):
    config = StageConfig(
        stage=2,
        steps=4,
        batch_size=2,
        micro_batch=micro_batch,
        optimizer=OptimizerConfig(learning_rate=1e-3),
        gradient_checkpointing="full",
        precision="fp32",
    )
    return train_stage(backend, RandomBatches(2), config, VECTORS, None, run)


@pytest.fixture
def second_step_fails():
    """A tiny model that fails after some forward passes, and what the failed one had made."""
    backend, made, calls = tiny_model(), [], []
    plain = backend.denoise

    def install(error, after):
        def denoise(z_t, t, conditioning):
            calls.append(1)
            prediction = plain(z_t, t, conditioning)
            if len(calls) > after:
                made.append(weakref.ref(prediction))
                raise error
            return prediction

        backend.denoise = denoise
        return backend, made

    return install


def test_the_work_is_kept_without_the_activations_of_the_step_that_did_not_fit(
    tmp_path, second_step_fails, monkeypatch
):
    """What a full card has to do then (a check of every value) needs memory, too."""
    backend, made = second_step_fails(torch.OutOfMemoryError("simulated"), after=2)
    alive, save = [], Run.save
    monkeypatch.setattr(
        Run, "save", lambda *a, **k: (alive.append(made[-1]() is not None), save(*a, **k))[1]
    )
    with Run(tmp_path, REQUEST, every=0) as run:
        with pytest.raises(ValueError, match="one sample at a time and gradient checkpointing"):
            train(backend, run)
        assert alive == [False]
        assert checkpoint_steps(run.checkpoint) == 1


def test_a_step_that_fits_in_smaller_parts_is_begun_anew_without_the_old_ones(
    tmp_path, second_step_fails
):
    error = torch.OutOfMemoryError("simulated")
    backend, made = second_step_fails(error, after=1)
    alive, again = [], backend.denoise

    def denoise(z_t, t, conditioning):
        if made:
            alive.append(made[0]() is not None)
            raise KeyboardInterrupt
        return again(z_t, t, conditioning)

    backend.denoise = denoise
    with Run(tmp_path, REQUEST, every=0) as run, pytest.raises(KeyboardInterrupt):
        train(backend, run, micro_batch=2)
    assert alive == [False]


def test_a_device_that_gives_nothing_any_more_does_not_hide_why(
    tmp_path, second_step_fails, monkeypatch, caplog
):
    backend, _ = second_step_fails(InterruptedError("Cancel"), after=2)

    def gone(*_, **__):
        raise RuntimeError("CUDA error: unspecified launch failure")

    with Run(tmp_path, REQUEST, every=0) as run:
        monkeypatch.setattr(Run, "save", gone)
        with pytest.raises(InterruptedError, match="Cancel"):
            train(backend, run)
    assert any("the last checkpoint stays: CUDA error" in r.getMessage() for r in caplog.records)


@pytest.mark.parametrize(
    ("said", "is_one"),
    [
        ("CUDA error: out of memory\nSearch for `cudaErrorMemoryAllocation'", True),
        ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", True),
        ("level_zero backend failed with error: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)", True),
        ("CUDA error: an illegal memory access was encountered", False),
    ],
)
def test_it_is_known_by_what_drivers_say(said, is_one):
    from attndreambooth.attndb.training.out_of_memory import is_out_of_memory

    assert is_out_of_memory(RuntimeError(said)) == is_one
