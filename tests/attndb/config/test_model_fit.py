"""Settings that are for another model are told, with the preset that is for it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from attndreambooth.attndb.config.model_fit import ModelKind, misfit
from attndreambooth.attndb.config.presets import PRESETS

SD15 = ModelKind("SD 1.5", "paper", 512)
SD21_768 = ModelKind("SD 2.1-768", "paper", 768)
SDXL = ModelKind("SDXL", "sdxl", 1024)
MICRO = ModelKind("attndb-micro", "micro", 128)
UNKNOWN = ModelKind("Flux", None, 0)
MADE_FOR = {
    "paper": SD15,
    "fast": SD15,
    "lora": SD15,
    "sdxl": SDXL,
    "sdxl-lora": SDXL,
    "micro": MICRO,
    "micro-turbo": MICRO,
    "micro-lora": MICRO,
}


def told(kind, preset, resolution=0, rate=0.0):
    """What is told of the stages of a preset, once; with another size or rate if they are given."""
    found = {}
    for stage in PRESETS[preset]():
        data = replace(stage.data, resolution=resolution or stage.data.resolution)
        optimizer = replace(stage.optimizer, learning_rate=rate or stage.optimizer.learning_rate)
        found[misfit(kind, preset, stage.with_(data=data, optimizer=optimizer))] = None
    return [text for text in found if text]


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_fits_the_models_it_is_for_and_no_other(preset):
    home = MADE_FOR[preset]
    assert not told(home, preset) and not told(UNKNOWN, preset)
    for kind in {SD15, SDXL, MICRO} - {home}:
        [text] = told(kind, preset)  # of all stages the same, so that the node says it once
        better = text.rpartition("Choose preset ")[2]
        assert text.startswith(f"MODEL is {kind.family}, and preset {preset} is for ")
        assert MADE_FOR[better] is kind
        assert ("lora" in better) == ("lora" in preset)


def test_a_size_alone_does_not_make_a_preset_fit():
    [text] = told(SD15, "micro", resolution=512)
    assert text.endswith("Choose preset paper")
    assert told(SDXL, "paper", resolution=1024)
    assert told(MICRO, "paper", resolution=128)


def test_who_chose_both_size_and_rate_is_not_doubted():
    assert not told(SDXL, "paper", resolution=1024, rate=3e-6)
    assert not told(SD15, "micro", resolution=512, rate=3e-6)


def test_a_model_of_768_px_is_told_of_smaller_ones_of_any_origin():
    [text] = told(SD21_768, "paper")
    assert "made at 768 px, and resolution is 512" in text
    assert text.endswith("Set resolution to 768, or to 576 where memory does not hold that")
    assert not told(SD21_768, "paper", resolution=768)
    [text] = told(SD21_768, "micro")
    assert text.endswith("Choose preset paper and set resolution to 768")
    assert misfit(SD21_768, "", PRESETS["paper"]()[0])


def test_without_a_preset_the_size_alone_is_told():
    stage = PRESETS["paper"]()[2]
    assert "was made at 1024 px, and resolution is 512" in misfit(SDXL, "", stage)
    assert misfit(MICRO, "", stage).endswith("Set resolution to 128")
    assert not misfit(SD15, "", stage) and not misfit(UNKNOWN, "", stage)
    small = stage.with_(data=replace(stage.data, resolution=128))  # advised without a GPU
    assert not misfit(SD15, "", small) and not misfit(MICRO, "", small)
