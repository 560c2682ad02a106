"""Advice on memory: the settings named are those that the estimate says will fit."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from attndreambooth.attndb.config.presets import paper
from attndreambooth.attndb.memory.advice import advice, first_fitting, with_fitting_checkpointing

GB = 1_000_000_000


class Needs:
    """An estimator of round numbers: 4 GB, 2 a sample (1.5 or 1 recomputed), 12 for AdamW."""

    def __init__(self):
        self.asked = []

    def __call__(self, config):
        self.asked.append(config)
        samples = min(config.micro_batch or config.batch_size, config.batch_size)
        kept = 12 if config.stage == 3 else 1
        kept = 5 if config.optimizer.name == "AdamW 8-bit" else kept
        kept = 4 if config.low_memory else kept
        kept = 0 if config.lora_rank else kept
        samples *= {"off": 2, "light": 1.5, "full": 1}[config.recomputes]
        total = (4 + samples + kept) * GB
        return SimpleNamespace(
            total=total, activations=samples * GB, reserve=0, fits=lambda free: total <= free
        )


def advised(config, free):
    needs = Needs()
    now = with_fitting_checkpointing(needs, config, free)[1]
    needs.asked.clear()
    return advice(now, needs, config, free), len(needs.asked)


def auto(stage):
    return paper()[stage - 1]


@pytest.mark.parametrize(
    ("free", "level", "low_memory"),
    [
        (32, "off", False),
        (31, "light", False),
        (27, "full", False),
        (23, "light", True),
        (19, "full", True),
        (1, "full", True),
    ],
)
def test_auto_takes_the_mildest_that_fits_and_else_what_needs_least(free, level, low_memory):
    choices = [auto(3), auto(3).with_(low_memory=True)]
    config, chosen, estimate = first_fitting(Needs(), choices, free * GB)
    assert config is choices[low_memory]
    assert (chosen.recomputes, chosen.low_memory) == (level, low_memory)
    assert estimate.total == Needs()(chosen).total


def off(stage):
    return auto(stage).with_(gradient_checkpointing="off")


@pytest.mark.parametrize(
    ("config", "free", "said"),
    [
        (
            off(3),
            26,
            "may not fit: set micro_batch to 4 (about 24.0 GB) or in Training Options set "
            "gradient_checkpointing to auto (about 24.0 GB)",
        ),
        (off(3), 20, "may not fit: set micro_batch to 2 (about 20.0 GB)"),
        (off(3), 18, "may not fit: set micro_batch to 1 (about 18.0 GB)"),
        (
            off(3),
            17,
            "may not fit: set micro_batch to 1 and in Training Options set gradient_checkpointing "
            "to auto (about 17.0 GB)",
        ),
        (auto(3), 23, "may not fit: set micro_batch to 4 (about 22.0 GB)"),
        (auto(3), 17, "may not fit: set micro_batch to 1 (about 17.0 GB)"),
        (
            off(3),
            16,
            "may not fit: in Training Options set gradient_checkpointing to auto and turn on "
            "low_memory (about 16.0 GB)",
        ),
        (auto(3), 16, "may not fit: in Training Options turn on low_memory (about 16.0 GB)"),
        (
            auto(3),
            12,
            "may not fit: in Training Options turn on low_memory and set lora_rank to 16 "
            "(about 12.0 GB)",
        ),
        (
            auto(3),
            9,
            "may not fit: set micro_batch to 1 and in Training Options turn on low_memory and set "
            "lora_rank to 16 (about 5.5 GB)",
        ),
        (
            auto(3),
            4,
            "will not fit: even if you set micro_batch to 1 and in Training Options turn on "
            "low_memory and set lora_rank to 16 it needs about 5.0 GB; lower the resolution, "
            "close what else uses the device, or train on a larger one",
        ),
        (
            off(1),
            5,
            "will not fit: even if you set micro_batch to 1 and in Training Options set "
            "gradient_checkpointing to auto it needs about 6.0 GB; lower the resolution, close "
            "what else uses the device, or train on a larger one",
        ),
        (
            auto(1),
            5,
            "will not fit: even if you set micro_batch to 1 it needs about 6.0 GB; lower the "
            "resolution, close what else uses the device, or train on a larger one",
        ),
        (
            auto(1).with_(micro_batch=1),
            5,
            "will not fit: it needs about 6.0 GB; lower the resolution, close what else uses the "
            "device, or train on a larger one",
        ),
    ],
)
def test_the_cheapest_settings_that_fit_are_named(config, free, said):
    assert advised(config, free * GB)[0] == said


def test_in_fp32_or_with_another_optimizer_low_memory_is_not_advised():
    said = advised(paper()[2].with_(precision="fp32"), 10 * GB)[0]
    assert said == (
        "may not fit: set micro_batch to 1 and in Training Options choose optimizer AdamW 8-bit "
        "(needs bitsandbytes) (about 10.0 GB)"
    )


def test_what_is_already_set_is_not_advised():
    config = paper()[2].with_(gradient_checkpointing="full", lora_rank=8, micro_batch=1)
    said = advised(config, 4 * GB)[0]
    assert said.startswith("will not fit") and "8-bit" not in said and "lora_rank" not in said
    assert "micro_batch" not in said


def test_few_estimates_are_made():
    assert advised(off(3), 26 * GB)[1] == 4  # micro_batch 4, and three levels
    assert advised(off(3), 16 * GB)[1] == 2  # without activations it is too much already
    assert advised(auto(3), 4 * GB)[1] <= 8
