"""The host's own Train LoRA, timed next to ours."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from attndreambooth.benchmarks import stock_lora

pytestmark = pytest.mark.host


def test_a_step_is_what_a_longer_training_takes_more(monkeypatch):
    took, asked = {stock_lora.SHORT: 12.0, stock_lora.LONG: 18.0}, []
    monkeypatch.setattr(stock_lora, "seconds", lambda work: took[work()])

    def train(steps):
        asked.append(steps)
        return steps

    assert stock_lora.seconds_a_step(train) == 6.0 / (stock_lora.LONG - stock_lora.SHORT)
    assert asked == [stock_lora.SHORT, stock_lora.LONG]


def test_the_hosts_node_trains_as_many_steps_at_the_rank(host):
    from attndreambooth.nodes.host.model.micro import load_micro

    with torch.inference_mode():
        model, clip, _ = load_micro()
    train = stock_lora.stock_training(model, clip, 64, 2, 3, False)
    trained: Any = train(2)
    lora, losses, *_ = trained.args
    assert len(losses["loss"]) == 2
    assert {v.shape[0] for k, v in lora.items() if k.endswith("lora_down.weight")} == {3}


def test_a_row_says_both_sides():
    found = {"size": "s", "resolution": 256, "batch": 2, "rank": 8, "ratio": 3.5}
    found |= {"processor_stock_s": 10.5, "processor_stock_kept_s": 8.0, "processor_ours_s": 3.0}
    assert "Train LoRA 10.50 s a step (8.00 s without" in stock_lora.text(found)
