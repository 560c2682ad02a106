"""A step never waits for the card: its loss is read later, when somebody looks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from attndreambooth.attndb.config.compared import COMPARED, published
from attndreambooth.attndb.losses.totals import LossTotals
from attndreambooth.devkit.fake_card import CARD, fake_card
from attndreambooth.devkit.synchronisations import Synchronisations
from attndreambooth.devkit.tiny_model import random_batch, tiny_model
from attndreambooth.devkit.training import training_of

from .test_fake_card import VECTORS, config, model_on_card

CASES = [
    (1, {"precision": "bf16"}),
    (1, {"precision": "fp32", "micro_batch": 2}),
    (2, {"precision": "fp32"}),
    (2, {"precision": "bf16", "lora_rank": 2}),
    (3, {"precision": "fp32", "min_snr_gamma": 5.0, "ema_decay": 0.9}),
    (3, {"precision": "bf16", "gradient_checkpointing": "full"}),
]


def test_what_waits_is_counted():
    with Synchronisations() as waits:
        x = torch.arange(4.0)
        assert float(x.sum()) == 6.0 and not waits.found[1:]
        x[x > 1].sum()
    assert waits.found == ["aten._local_scalar_dense.default", "aten.index.Tensor"]


def test_a_copy_to_the_host_is_counted_and_one_to_the_card_is_not():
    with fake_card():
        x = torch.empty(3, device=CARD)
        with Synchronisations() as waits:
            x.to("cpu", torch.float64)
            torch.empty(3).copy_(x)
            x.to(torch.float16)
            torch.empty(3).to(CARD)
    assert waits.found == ["aten._to_copy.default", "aten.copy_.default"]


@pytest.mark.parametrize(("number", "choices"), CASES)
def test_a_whole_step_reads_nothing(host, number, choices):
    """On the CPU, forward, backward and update. The optimiser's own counters lie in main memory on
    a card, too; so does a mask when it is summed, before its batch goes to the card: none here."""
    training = training_of(tiny_model(), config(number, **choices), VECTORS)
    batch = random_batch(3)
    with training:
        training.step(0, batch)  # the first one makes what the later ones keep
        counters = _counters(training)
        with Synchronisations() as waits:
            loss = training.step(1, batch)
        assert len(waits.found) <= counters, waits.found
        assert loss.read().shares["denoising"] > 0


@pytest.mark.parametrize("method", COMPARED)
def test_a_whole_step_of_a_compared_method_reads_nothing(host, method):
    settings = published(method)
    clipped = replace(settings.optimizer, clip_norm=1.0)
    settings = settings.with_(batch_size=3, precision="fp32", optimizer=clipped)
    training = training_of(tiny_model(), settings, torch.ones(1, 32))
    batch = random_batch(3)
    with training:
        training.step(0, batch)
        with Synchronisations() as waits:
            training.step(1, batch)
    assert waits.found == []


def _counters(training) -> int:
    """Step counters of the optimiser: PyTorch reads each of them once a step, unless fused."""
    groups = training.optimizer.param_groups
    if all(group.get("fused") for group in groups):
        return 0
    return sum(len(group["params"]) for group in groups)


@pytest.mark.parametrize(("number", "choices"), CASES)
def test_forward_pass_and_update_never_copy_to_the_host(host, number, choices):
    model = tiny_model()
    with fake_card():
        training = training_of(model_on_card(model), config(number, **choices), VECTORS)
        with training:
            batch = random_batch(3, masked=True).to(CARD)
            with Synchronisations() as waits:
                training.learner.losses(batch, LossTotals(1.0, 0.0))
                for value in training.trainable:
                    value.grad = torch.empty_like(value)
                training.optimizer.step()
                if training.ema is not None:
                    training.ema.update()
    assert waits.found == []
