"""Advice on memory: the settings named are those that the estimate says will fit."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest

from attndreambooth.attndb.config.compared import published
from attndreambooth.attndb.config.data import DataConfig
from attndreambooth.attndb.config.lora_instead import lora_instead
from attndreambooth.attndb.config.optimizer import OptimizerConfig
from attndreambooth.attndb.config.presets import PRESETS, paper
from attndreambooth.attndb.memory.advice import advice, first_fitting, with_fitting_checkpointing
from attndreambooth.attndb.training.doubtful_settings import doubts

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


def advised(config, free, preset=""):
    needs = Needs()
    now = with_fitting_checkpointing(needs, config, free)[1]
    needs.asked.clear()
    return advice(now, needs, config, free, preset), len(needs.asked)


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
            "may not fit: set learning_rate to 2e-05 and in Training Options turn on low_memory "
            "and set lora_rank to 16 (about 12.0 GB)",
        ),
        (
            auto(3),
            9,
            "may not fit: set learning_rate to 2e-05 and set micro_batch to 1 and in Training "
            "Options turn on low_memory and set lora_rank to 16 (about 5.5 GB)",
        ),
        (
            auto(3),
            4,
            "will not fit: even if you set learning_rate to 2e-05 and set micro_batch to 1 and in "
            "Training Options turn on low_memory and set lora_rank to 16 it needs about 5.0 GB; "
            "lower the resolution, close what else uses the device, or train on a larger one",
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


@pytest.mark.parametrize(
    ("preset", "said"),
    [
        ("paper", "choose preset lora and in Training Options turn on low_memory (about 12.0 GB)"),
        ("sdxl", "choose preset sdxl-lora and in Training Options turn on low_memory"),
        ("micro", "choose preset micro-lora and in Training Options turn on low_memory"),
    ],
)
def test_of_a_preset_whose_rates_cannot_be_typed_the_preset_that_is_a_lora_is_named(preset, said):
    config = PRESETS[preset]()[2]
    needed = Needs()(config.with_(lora_rank=16, gradient_checkpointing="full")).total
    found = advised(config, needed, preset)[0]
    assert found.startswith(f"may not fit: {said}") and "lora_rank" not in found


def test_the_lora_of_a_preset_is_estimated_with_its_own_batch():
    config = PRESETS["fast"]()[2]  # 4 pictures, and 8 of preset lora: 4 + 8 GB at least
    found = advised(config, 11 * GB, "fast")[0]
    assert found.startswith("may not fit: choose preset lora and set micro_batch to 1 and in ")


@pytest.mark.parametrize("preset", PRESETS)
def test_a_lora_that_is_advised_learns(preset):
    for stage in PRESETS[preset]():
        for origin in ("", preset):
            lora = lora_instead(stage, origin)
            assert (lora is None) == (stage.stage == 1 or stage.lora_rank > 0)
            if lora is None:
                continue
            named = re.search(r"choose preset (\S+)$", lora.node)
            if named:
                became = PRESETS[named[1]]()[stage.stage - 1]
            else:
                typed = re.search(r"learning_rate to (\S+)", lora.node)
                rate = float(typed[1]) if typed else stage.optimizer.learning_rate
                became = stage.with_(lora_rank=16, optimizer=OptimizerConfig(learning_rate=rate))
            assert bool(named) == bool(origin)
            assert became.lora_rank == lora.config.lora_rank and not doubts(became)


def test_a_large_rank_is_lowered_and_a_typed_rate_is_no_presets():
    third = PRESETS["paper"]()[2]
    large = lora_instead(third.with_(lora_rank=64), "paper")
    assert large.text == "choose preset lora and in Training Options set lora_rank to 16"
    assert lora_instead(PRESETS["lora"]()[1].with_(lora_rank=64), "lora").text == (
        "in Training Options set lora_rank to 16"
    )
    typed = third.with_(optimizer=OptimizerConfig(learning_rate=3e-6))
    assert lora_instead(typed, "paper").node == "set learning_rate to 3e-05"
    oft = published("oft")
    assert lora_instead(oft) is None


def test_a_stage_of_turned_weights_is_advised_what_it_has():
    said = advised(published("oft"), 4 * GB)[0]
    assert "lora_rank" not in said and "low_memory" not in said


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


class Encodes(Needs):
    """Where photos are encoded between the steps a step takes at least 9 GB."""

    def __call__(self, config):
        needed = super().__call__(config)
        more = max(0, 9 * GB - needed.activations)
        total = needed.total + more
        needed.total, needed.activations = total, needed.activations + more
        needed.fits = lambda free: total <= free
        return needed


@pytest.mark.parametrize(
    ("free", "said"),
    [
        (13, "may not fit: set latent_pool to -1 (about 13.0 GB)"),
        (
            12,
            "may not fit: set latent_pool to -1 and set micro_batch to 1 (about 7.0 GB)",
        ),
        (
            5,
            "will not fit: even if you set latent_pool to -1 and set micro_batch to 1 it needs "
            "about 6.0 GB; lower the resolution, close what else uses the device, or train on a "
            "larger one",
        ),
    ],
)
def test_where_encoding_is_the_peak_a_pool_is_advised(free, said):
    data = DataConfig(latent_pool=0)
    config, encodes, plain = auto(1).with_(data=data), Encodes(), Needs()
    now = with_fitting_checkpointing(encodes, config, free * GB)[1]
    assert advice(now, encodes, config, free * GB, pooled=plain) == said
    assert all(asked.data.crops for asked in plain.asked)
    assert "latent_pool" not in advice(now, encodes, config, free * GB)


def test_few_estimates_are_made():
    assert advised(off(3), 26 * GB)[1] == 4  # micro_batch 4, and three levels
    assert advised(off(3), 16 * GB)[1] == 2  # without activations it is too much already
    assert advised(auto(3), 4 * GB)[1] <= 8
