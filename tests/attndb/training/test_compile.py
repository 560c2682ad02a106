"""A compiled U-Net: every block is compiled, and it trains as before."""

from __future__ import annotations

import pytest
import torch

from attndreambooth.attndb.config.optimizer import OptimizerConfig
from attndreambooth.attndb.config.stage import StageConfig
from attndreambooth.devkit.tiny_model import RandomBatches, tiny_model
from attndreambooth.devkit.training import train_stage

VECTORS = 0.3 * torch.randn(1, 32, generator=torch.Generator().manual_seed(5))
MANY_SHAPES = {  # as in Stable Diffusion: more than torch.compile takes of one function by itself
    "channel_mult": [1, 2, 4, 4],
    "num_res_blocks": [1, 1, 1, 1],
    "transformer_depth": [1, 0, 0, 0],
    "transformer_depth_middle": 0,
    "transformer_depth_output": [0, 0, 0, 0, 0, 0, 1, 1],
}


def trained(compiled, **changes):
    config = StageConfig(
        stage=3,
        steps=2,
        batch_size=4,
        optimizer=OptimizerConfig(learning_rate=1e-3),
        precision="fp32",
        gradient_checkpointing="full",
        compile=compiled,
        **changes,
    )
    return train_stage(tiny_model(**MANY_SHAPES), RandomBatches(), config, VECTORS)


@pytest.mark.parametrize("changes", [{}, {"lora_rank": 2}])
def test_every_block_is_compiled_and_trains_as_before(monkeypatch, changes):
    import torch._dynamo
    from torch._dynamo.utils import counters

    plain = torch.nn.Module.compile  # a C++ compiler is not on every machine; graphs are enough
    monkeypatch.setattr(torch.nn.Module, "compile", lambda m: plain(m, backend="aot_eager"))
    counters.clear()
    torch._dynamo.reset()
    losses = trained(True, **changes).losses
    frames = counters["frames"]
    assert frames["ok"] == frames["total"] > 10
    for a, b in zip(losses, trained(False, **changes).losses, strict=True):
        assert a.total == pytest.approx(b.total, rel=1e-4)
