"""Optimisers of optional packages: what they keep goes into checkpoints, and averages are shown.

Where a package is installed it is taken; stand-ins have what matters of its interface.
"""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch
from support.observer import Told
from support.resumed import same, whole_and_resumed

from attndreambooth.attndb.config.optimizer import OptimizerConfig
from attndreambooth.attndb.config.stage import StageConfig
from attndreambooth.devkit.tiny_model import RandomBatches, prompt_of, tiny_model
from attndreambooth.devkit.training import train_stage

VECTORS = 0.3 * torch.randn(1, 32, generator=torch.Generator().manual_seed(5))


class Wrapping(torch.optim.AdamW):
    """Hands its tensors out in a dict within, as bitsandbytes does."""

    def state_dict(self):
        found = super().state_dict()
        wrapped = {i: {"step": s["step"], "inner": s} for i, s in found["state"].items()}
        return {**found, "state": wrapped}


class Averaging(torch.optim.SGD):
    """Trains with one set of weights and gives another, as schedule-free optimisers do; the way
    there and back is not exact."""

    def __init__(self, parameters, lr, **_):
        super().__init__(parameters, lr=lr)
        self.given = False

    @torch.no_grad()
    def _scale(self, factor):
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.mul_(factor)

    def eval(self):
        if not self.given:
            self._scale(0.7)
        self.given = True

    def train(self):
        if self.given:
            self._scale(1 / 0.7)
        self.given = False


@pytest.fixture
def stand_ins(monkeypatch):
    for module, factory, made in (
        ("bitsandbytes.optim", "AdamW8bit", Wrapping),
        ("schedulefree", "AdamWScheduleFree", Averaging),
    ):
        monkeypatch.setitem(sys.modules, module, SimpleNamespace(**{factory: made}))


def stage(name="AdamW", steps=5, **changes):
    rate = 1.0 if name == "Prodigy" else 1e-2
    return StageConfig(
        stage=changes.pop("stage", 2),
        steps=steps,
        batch_size=2,
        optimizer=OptimizerConfig(learning_rate=rate, name=name),
        precision="fp32",
        **changes,
    )


def trained(config, callback=None, run=None):
    batches = RandomBatches(2, prompts=(prompt_of(),))
    return train_stage(tiny_model(), batches, config, VECTORS, callback, run)


def test_a_state_in_a_dict_within_goes_into_the_checkpoint(host, stand_ins, tmp_path):
    config = stage("AdamW 8-bit")
    assert same(*whole_and_resumed(tmp_path, lambda told, run: trained(config, told, run)))


@pytest.mark.parametrize("lora_rank", [0, 2])
@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("AdamW 8-bit", "bitsandbytes"),
        ("Prodigy", "prodigyopt"),
        ("AdamW schedule-free", "schedulefree"),
    ],
)
def test_stopped_with_the_package_itself_it_goes_on_to_the_same_bytes(
    host, tmp_path, name, package, lora_rank
):
    pytest.importorskip(package)
    config = stage(name, lora_rank=lora_rank, stage=3)
    assert same(*whole_and_resumed(tmp_path, lambda told, run: trained(config, told, run)))


@pytest.mark.parametrize(
    "config",
    [
        {"ema_decay": 0.5},
        {"name": "AdamW schedule-free"},
        {"name": "AdamW schedule-free", "ema_decay": 0.5},
        {},
    ],
    ids=str,
)
@pytest.mark.parametrize("number", [1, 3])
def test_looked_at_it_is_what_would_come_out_and_goes_on_as_if_nobody_had(
    host, stand_ins, number, config
):
    seen = {}

    @Told
    def look(loss, training):
        with training.as_result():
            learned = training.learner.learned()
        seen[loss.step + 1] = learned.embeddings["clip_l"], learned.delta

    whole = trained(stage(stage=number, **config), look)
    assert same(whole, trained(stage(stage=number, **config)))
    for steps, (vectors, delta) in seen.items():
        result = trained(stage(stage=number, **{"steps": steps, **config}))
        assert torch.equal(result.vectors, vectors)
        assert all(torch.equal(result.delta[name], delta[name]) for name in result.delta)
