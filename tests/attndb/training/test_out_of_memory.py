"""Memory runs out, or the device is gone, in the middle of a training: what is kept and said."""

from __future__ import annotations

import weakref

import pytest
import torch
from support.small_run import REQUEST, VECTORS

from attndreambooth.attndb.config.data import DataConfig
from attndreambooth.attndb.config.optimizer import OptimizerConfig
from attndreambooth.attndb.config.stage import StageConfig
from attndreambooth.attndb.training.out_of_memory import encoded, is_out_of_memory
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


class Encoding(RandomBatches):
    """Batches whose photos do not fit from the third step on."""

    def __getitem__(self, step):
        if step >= 2:
            raise torch.OutOfMemoryError("simulated")
        return super().__getitem__(step)


@pytest.mark.parametrize(("pool", "advised"), [(0, True), (-1, False)])
def test_a_photo_that_cannot_be_encoded_is_no_matter_of_the_micro_batch(
    tmp_path, pool, advised, caplog
):
    config = StageConfig(
        stage=2,
        steps=4,
        batch_size=2,
        optimizer=OptimizerConfig(learning_rate=1e-3),
        data=DataConfig(latent_pool=pool),
        precision="fp32",
    )
    with Run(tmp_path, REQUEST, every=0) as run:
        with pytest.raises(ValueError, match="while a photo was encoded") as caught:
            train_stage(tiny_model(), Encoding(2), config, VECTORS, None, run)
        assert checkpoint_steps(run.checkpoint) == 2
    assert "micro-batch is now" not in caplog.text
    said = str(caught.value)
    assert "lower the resolution" in said and "close what else uses cpu" in said
    assert ("set latent_pool to -1" in said) == advised and "--cpu-vae" not in said


class FullOnce(RandomBatches):
    """Batches of which one finds no memory beside what PyTorch keeps, until that is given back."""

    def __init__(self, size, given):
        super().__init__(size)
        self.given = given

    def __getitem__(self, step):
        if step == 2 and not self.given:
            raise RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")
        return super().__getitem__(step)


def test_what_pytorch_keeps_is_given_back_before_it_is_called_full(monkeypatch, caplog):
    """Encoding goes on as if nothing had been, in the same parts."""
    given = []
    monkeypatch.setattr(torch.cpu, "empty_cache", lambda: given.append(1), raising=False)
    optimizer = OptimizerConfig(learning_rate=1e-3)
    config = StageConfig(stage=2, steps=4, batch_size=2, optimizer=optimizer, precision="fp32")
    full = train_stage(tiny_model(), FullOnce(2, given), config, VECTORS, None, None)
    assert given == [1] and "micro-batch is now" not in caplog.text
    plain = train_stage(tiny_model(), RandomBatches(2), config, VECTORS, None, None)
    assert full.losses == plain.losses


def test_before_a_step_is_made_in_smaller_parts_it_is_given_back(second_step_fails, monkeypatch):
    given = []
    monkeypatch.setattr(torch.cpu, "empty_cache", lambda: given.append(1), raising=False)
    backend, _ = second_step_fails(torch.OutOfMemoryError("simulated"), after=2)
    with pytest.raises(ValueError, match="one sample at a time and gradient checkpointing"):
        train(backend, None, micro_batch=2)
    assert given == [1]


def test_on_a_card_the_vae_may_work_on_the_cpu():
    config = StageConfig(
        stage=2, steps=1, batch_size=1, optimizer=OptimizerConfig(learning_rate=1e-3)
    )
    calls = []

    def fails(error):
        calls.append(error)
        raise error

    with pytest.raises(ValueError, match="--cpu-vae"):
        encoded(lambda: fails(torch.OutOfMemoryError("simulated")), torch.device("cuda"), config)
    with pytest.raises(RuntimeError, match="other"):
        encoded(lambda: fails(RuntimeError("other")), torch.device("cuda"), config)
    assert len(calls) == 3  # what is no matter of memory is not tried again


@pytest.mark.parametrize(
    ("said", "is_one"),
    [
        ("CUDA error: out of memory\nSearch for `cudaErrorMemoryAllocation'", True),
        ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", True),
        ("level_zero backend failed with error: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)", True),
        (
            "Could not allocate tensor with 4915840 bytes. There is not enough GPU video memory "
            "available!",
            True,
        ),
        ("CUDA error: an illegal memory access was encountered", False),
        ("GET was unable to find an engine to execute this computation", False),  # may be both
    ],
)
def test_it_is_known_by_what_drivers_say(said, is_one):
    assert is_out_of_memory(RuntimeError(said)) == is_one
