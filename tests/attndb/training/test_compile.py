"""A compiled U-Net: every block is compiled, and it trains as before."""

from __future__ import annotations

import pytest
import torch

from attndreambooth.attndb.config.optimizer import OptimizerConfig
from attndreambooth.attndb.config.stage import StageConfig
from attndreambooth.attndb.training.compiler import every_shape_compiled, limit_of_shapes
from attndreambooth.devkit.tiny_model import RandomBatches, tiny_model
from attndreambooth.devkit.training import train_stage

VECTORS = 0.3 * torch.randn(1, 32, generator=torch.Generator().manual_seed(5))
LIMIT = 2
"""Shapes that torch.compile takes of one function by itself, here: 8, which a U-Net has more of."""
FEW = {"transformer_depth_middle": 0, "transformer_depth_output": [0, 1]}
"""Makes it a U-Net of four compiled graphs: more shapes of one function than that."""


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
    return train_stage(tiny_model(**FEW), RandomBatches(), config, VECTORS)


@pytest.mark.parametrize("changes", [{}, {"lora_rank": 2}])
def test_every_block_is_compiled_and_trains_as_before(monkeypatch, changes):
    import torch._dynamo
    from torch._dynamo.utils import counters

    plain = torch.nn.Module.compile  # a C++ compiler is not on every machine; graphs are enough
    monkeypatch.setattr(torch.nn.Module, "compile", lambda m: plain(m, backend="aot_eager"))
    config = torch._dynamo.config
    counters.clear()
    torch._dynamo.reset()
    with config.patch({limit_of_shapes(config): LIMIT}):
        losses = trained(True, **changes).losses
    frames = counters["frames"]
    assert frames["ok"] == frames["total"] == 4
    for a, b in zip(losses, trained(False, **changes).losses, strict=True):
        assert a.total == pytest.approx(b.total, rel=1e-4)


def test_where_nothing_can_compile_the_error_says_what_to_turn_off(monkeypatch):
    def no_compiler(graph, inputs):
        raise RuntimeError("No working C++ compiler found")

    plain = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda m: plain(m, backend=no_compiler))
    with pytest.raises(ValueError, match=r"No working C\+\+ compiler.*turn compile off"):
        trained(True)

    def not_here(module):  # PyTorch 2.5 on Python 3.13, say
        raise RuntimeError("Dynamo is not supported on Python 3.13+")

    monkeypatch.setattr(torch.nn.Module, "compile", not_here)
    with pytest.raises(ValueError, match=r"Python 3\.13.*turn compile off"):
        trained(True)


def test_the_limit_of_shapes_has_another_name_in_older_pytorch(monkeypatch):
    import torch._dynamo

    class OlderConfig:
        cache_size_limit = 8
        patched = None

        def patch(self, settings):
            assert all(hasattr(self, name) for name in settings), f"{settings} does not exist"
            self.patched = settings

    older = OlderConfig()
    monkeypatch.setattr(torch._dynamo, "config", older)
    every_shape_compiled()
    assert older.patched == {"cache_size_limit": 256}
