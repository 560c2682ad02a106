"""Gradient checkpointing: what is computed again is the same to the bit, and it saves memory."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
import torch
from support.bytes_held import step_peak

from attndreambooth.attndb.artifacts.weight_delta import delta_tensors
from attndreambooth.attndb.config.optimizer import OptimizerConfig
from attndreambooth.attndb.config.regularization import Regularization
from attndreambooth.attndb.config.stage import StageConfig
from attndreambooth.attndb.memory.advice import with_fitting_checkpointing
from attndreambooth.attndb.training.out_of_memory import MemoryFallback
from attndreambooth.devkit.tiny_model import (
    RandomBatches,
    prompt_of,
    random_batch,
    tiny_model,
)
from attndreambooth.devkit.training import train_stage, training_of

VECTORS = 0.3 * torch.randn(1, 32, generator=torch.Generator().manual_seed(5))
KINDS = {
    "fp32": {"precision": "fp32"},
    "bf16": {"precision": "bf16"},
    "LoRA": {"precision": "bf16", "lora_rank": 3},
    "parts": {"precision": "fp32", "micro_batch": 3},
    "low memory": {"low_memory": True},
}


def stage(number, level, **changes):
    return StageConfig(
        stage=number,
        steps=3,
        batch_size=4,
        optimizer=OptimizerConfig(learning_rate=1e-3),
        regularization=Regularization(mean_weight=200.0, variance_weight=2000.0),
        gradient_checkpointing=level,
        **changes,
    )


def trained(config, backend=None):
    prompts = [prompt_of(), prompt_of(before=(320, 539), category=99)]
    batches = RandomBatches(prompts=prompts, masked=True)
    return train_stage(backend or tiny_model(), batches, config, VECTORS)


def assert_same(one, other):
    assert one.losses == other.losses
    assert torch.equal(one.vectors, other.vectors)
    changes, others = delta_tensors(one.delta), delta_tensors(other.delta)
    assert changes.keys() == others.keys()
    assert all(torch.equal(change, others[name]) for name, change in changes.items())


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_a_training_is_the_same_at_every_level(number, kind):
    plain = trained(stage(number, "off", **KINDS[kind]))
    for level in ("light", "full"):
        assert_same(trained(stage(number, level, **KINDS[kind])), plain)


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("kind", ["fp32", "bf16", "low memory"])
def test_every_level_keeps_less(number, kind):
    def peak(level):
        config = stage(number, level, **KINDS[kind])
        training = training_of(tiny_model(num_head_channels=8), config, VECTORS)
        return step_peak(training, random_batch(4, side=32), accumulates=False)

    off, light, full = (peak(level) for level in ("off", "light", "full"))
    assert light < 0.75 * off
    assert full < 0.6 * light  # nothing that is recomputed outlives its block


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("CUDA error: out of memory\nCUDA kernel errors might be ...", True),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True),
        ("MPS backend out of memory (MPS allocated: 8.0 GB, other allocations: ...)", True),
        ("VRAM grow failed: 39321600 bytes", True),
        ("[enforce fail at alloc_cpu.cpp:117] data. DefaultCPUAllocator: not enough memory", True),
        ("CUDA error: an illegal memory access was encountered", False),
        ("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)", False),
    ],
)
def test_what_drivers_and_libraries_say_of_memory_is_understood(said, meant):
    backend = tiny_model()
    plain = backend.denoise

    def cramped(z_t, t, context):
        if len(t) > 2:
            raise RuntimeError(said)
        return plain(z_t, t, context)

    backend.denoise = cramped
    if meant:
        assert len(trained(stage(2, "off", precision="fp32").with_(steps=1), backend).losses) == 1
    else:
        with pytest.raises(RuntimeError, match=re.escape(said)):
            trained(stage(2, "off", precision="fp32").with_(steps=1), backend)


def test_a_model_that_does_not_fit_is_told_before_the_first_step(monkeypatch):
    from attndreambooth.attndb.training import training

    def full(*_, **__):
        raise torch.OutOfMemoryError("Allocation on device")

    monkeypatch.setattr(training, "place", full)
    with pytest.raises(
        ValueError, match=r"before the first step: .* does not fit on cpu.*lora_rank"
    ):
        trained(stage(3, "off", precision="fp32"))


@pytest.mark.parametrize("number", [1, 2, 3])
def test_when_one_sample_is_too_much_activations_are_computed_again(number, caplog):
    backend = tiny_model()
    plain, given = backend.denoise, backend.checkpoint_activations
    levels = []

    def cramped(z_t, t, context):
        if len(t) > 1 or not levels:
            raise torch.OutOfMemoryError("simulated")
        return plain(z_t, t, context)

    backend.denoise = cramped
    backend.checkpoint_activations = lambda level: levels.append(level) or given(level)
    survived = trained(stage(number, "off", precision="fp32"), backend)
    assert levels == ["full"]
    assert_same(survived, trained(stage(number, "off", precision="fp32", micro_batch=1)))
    said = [r.getMessage() for r in caplog.records if "out of memory" in r.getMessage()]
    assert said == [
        "step 1: out of memory; micro-batch is now 2",
        "step 1: out of memory; micro-batch is now 1",
        "step 1: out of memory; gradient_checkpointing is now full",
    ]


def test_when_that_is_too_much_as_well_the_error_says_so():
    backend = tiny_model()

    def full(*_):
        raise torch.OutOfMemoryError("simulated")

    backend.denoise = full
    with pytest.raises(ValueError, match=r"one sample at a time.*train a LoRA"):
        trained(stage(3, "auto", precision="fp32"), backend)


@pytest.mark.parametrize(
    ("number", "changes", "named"),
    [
        (1, {}, ["turn on low_memory", "lower the resolution"]),
        (2, {"precision": "fp32"}, ["train a LoRA", "lower the resolution"]),
        (3, {"lora_rank": 16}, ["turn on low_memory", "lower the resolution"]),
        (3, {}, ["turn on low_memory", "train a LoRA", "lower the resolution"]),
        (1, {"method": "oft"}, ["lower the resolution"]),
    ],
)
def test_what_the_error_names_is_what_the_stage_has(number, changes, named):
    """No setting that it does not have, or that does not go with its others."""
    config = stage(number, "full", micro_batch=1, **changes)
    with pytest.raises(ValueError, match=r"one sample at a time.*starts from step 1") as told:
        MemoryFallback(config, lambda _: None).give_way(consistent=True)
    text = re.sub(r" in Training Options(?= or)| \(.*?\)", "", str(told.value))
    assert f"Or {' or '.join(named)}: that changes" in text


def test_a_lora_is_advised_with_a_rate_that_it_learns_at():
    rate = OptimizerConfig(learning_rate=2e-6)
    config = stage(3, "full", micro_batch=1).with_(optimizer=rate)
    advised = (
        "train a LoRA (in Train Concept preset lora, sdxl-lora or micro-lora, in other nodes "
        "set learning_rate to 2e-05 and in Training Options set lora_rank to 16)"
    )
    with pytest.raises(ValueError, match=re.escape(advised)):
        MemoryFallback(config, lambda _: None).give_way(consistent=True)


def test_compiled_blocks_cannot_begin_to_compute_again_and_the_error_says_what_can_be_done():
    fallback = MemoryFallback(stage(3, "light", compile=True, micro_batch=1), lambda _: None)
    with pytest.raises(ValueError, match=r"set gradient_checkpointing to full .* to go on from it"):
        fallback.give_way(consistent=True)
    assert fallback.recomputes == "light"
    fallback = MemoryFallback(stage(3, "full", compile=True, micro_batch=1), lambda _: None)
    with pytest.raises(ValueError, match=r"gradient checkpointing.*it starts from step 1"):
        fallback.give_way(consistent=True)


def test_it_is_asked_for_again_and_again():
    """A backend that has trained one stage trains the next: nothing is wrapped twice."""
    backend = tiny_model()
    for level in ("light", "full", "full", "light"):
        backend.checkpoint_activations(level)
    again = trained(stage(3, "full", precision="fp32"), backend)
    assert_same(again, trained(stage(3, "off", precision="fp32")))


def test_a_copy_of_a_checkpointed_unet_computes_with_its_own_weights():
    backend = tiny_model()
    backend.checkpoint_activations("light")
    copied = backend.on_meta_device()
    z, t, context = torch.randn(1, 4, 8, 8), torch.tensor([5]), torch.randn(1, 77, 32)
    with torch.no_grad():
        expected = backend.unet(z, t, context)
        found = copied.unet(*(x.to("meta") for x in (z, t, context)))
    assert found.is_meta and not expected.is_meta


# ---- auto


def needing(**totals):
    """An estimator: bytes by level."""

    def estimate(config):
        total = totals[config.gradient_checkpointing]
        return SimpleNamespace(total=total, fits=lambda free: total <= free)

    return estimate


@pytest.mark.parametrize(
    ("free", "level"), [(10, "off"), (9, "light"), (6, "light"), (5, "full"), (2, "full")]
)
def test_auto_recomputes_what_the_free_memory_asks_for(free, level):
    config, needed = with_fitting_checkpointing(
        needing(off=10, light=6, full=4), stage(1, "auto"), free
    )
    assert config == stage(1, level)
    assert needed.total == {"off": 10, "light": 6, "full": 4}[level]


def test_where_nothing_fits_auto_takes_the_smallest():
    assert with_fitting_checkpointing(needing(off=10, light=6, full=7), stage(3, "auto"), 1)[
        0
    ] == stage(3, "light")


def test_in_low_memory_auto_recomputes_at_least_what_is_cheap():
    config = stage(3, "auto", low_memory=True)
    chosen = with_fitting_checkpointing(needing(light=6, full=4), config, 100)[0]
    assert chosen.gradient_checkpointing == "light"


@pytest.mark.parametrize("level", ["off", "light", "full"])
def test_a_level_that_is_asked_for_is_taken(level):
    config = stage(2, level)
    assert with_fitting_checkpointing(needing(off=10, light=6, full=4), config, 5)[0] is config


def test_the_level_decides_nothing_that_a_run_is_told_apart_by():
    asked = {str(stage(3, level).identity()) for level in ("auto", "off", "light", "full")}
    assert len(asked) == 1
    assert stage(3, "auto", lora_rank=4).identity() != stage(3, "auto").identity()
