"""Settings that take each other's effect away are said before a training, with what to choose."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from support.tiny_workbench import TinyWorkbench, request_of

from attndreambooth.attndb.config.compared import COMPARED, published
from attndreambooth.attndb.config.optimizer import OptimizerConfig
from attndreambooth.attndb.config.presets import PRESETS
from attndreambooth.attndb.config.regularization import Regularization
from attndreambooth.attndb.training.doubtful_settings import doubts
from attndreambooth.attndb.training.session import train_stage


def optimizer(**changes):
    return OptimizerConfig(**{"learning_rate": 1e-3, **changes})


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"steps": 60, "ema_decay": 0.99}, ["55% of the result .* use at most 0.937"]),
        ({"steps": 1, "ema_decay": 0.9}, ["90% of the result"]),
        ({"steps": 500, "ema_decay": 0.99}, []),
        ({"steps": 0, "ema_decay": 0.99, "optimizer": optimizer(warmup_steps=1)}, []),
        ({"optimizer": optimizer(warmup_steps=60)}, ["never gets to 0.001"]),
        ({"optimizer": optimizer(warmup_steps=6)}, []),
        (
            {"optimizer": optimizer(name="AdamW schedule-free", schedule="cosine")},
            ["schedule cosine .* choose constant"],
        ),
        (
            {"optimizer": optimizer(name="AdamW schedule-free"), "ema_decay": 0.5},
            ["ema_decay replaces"],
        ),
    ],
    ids=str,
)
def test_what_takes_anothers_effect_away_is_named(changes, told):
    found = doubts(PRESETS["paper"]()[0].with_(**changes))
    assert len(found) == len(told)
    for text, pattern in zip(found, told, strict=True):
        assert re.search(pattern, text), text


@pytest.mark.parametrize("stage", PRESETS["paper"](), ids=lambda stage: f"stage {stage.stage}")
def test_a_lora_at_a_rate_of_whole_weights_is_told_in_the_stages_that_have_one(stage):
    found = doubts(stage.with_(lora_rank=16))
    assert len(found) == (stage.stage > 1)
    assert all(text.startswith("lora_rank 16 at a learning rate of 2e-0") for text in found)
    assert all("choose lora or sdxl-lora" in text for text in found)
    assert not doubts(stage.with_(lora_rank=16, optimizer=optimizer(learning_rate=1e-4)))


@pytest.mark.parametrize(
    ("mean", "variance", "doubted"), [(2.0, 5.0, True), (0.0, 1.0, True), (0.8, 0.0, False)]
)
def test_weights_of_later_stages_in_the_first_are_told(mean, variance, doubted):
    tie = Regularization(mean_weight=mean, variance_weight=variance)
    first, *later = (stage.with_(regularization=tie) for stage in PRESETS["paper"]())
    assert not [doubt for stage in later for doubt in doubts(stage)]
    found = doubts(first)
    assert len(found) == doubted
    if doubted:
        assert f"stage 1 has weights {mean:g} / {variance:g}" in found[0]
        assert "published: 0.1 / 0 here, 2 / 5 in stages 2 and 3" in found[0]
        assert "set strength" in found[0]


def test_no_recipe_is_doubted():
    stages = [stage for preset in PRESETS.values() for stage in preset()]
    assert not [doubts(stage) for stage in (*stages, *map(published, COMPARED)) if doubts(stage)]


def test_a_training_says_it_before_it_begins(host, tmp_path, caplog):
    request = request_of()
    train_stage(
        TinyWorkbench(tmp_path), replace(request, config=request.config.with_(ema_decay=0.9))
    )
    assert "a test: ema_decay 0.9 over 3 steps: 73% of the result" in caplog.text
