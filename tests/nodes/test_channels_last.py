"""A host with --force-channels-last keeps convolutions in another order: nothing else changes."""

from __future__ import annotations

import pytest
import torch
from support.stages import Wires


@pytest.fixture
def in_columns(sd15) -> Wires:
    """The same wires, as that host has them."""
    from attndreambooth.devkit.small_models import small_model

    model = small_model("sd15")
    model.model.diffusion_model.to(memory_format=torch.channels_last)
    assert any(not weight.is_contiguous() for weight in model.model.diffusion_model.parameters())
    return Wires(model, sd15.clip, sd15.vae)


def test_weights_are_trained_in_rows_and_end_in_the_same_bytes(
    sd15, in_columns, train, run, output
):
    [options] = run("AttnDBTrainingOptions", low_memory="on")
    how = {"steps": 1, "precision": "bf16", "batch_size": 1, "options": options}
    there = train(3, in_columns, **how)[0]
    [folder] = output.glob("attndb/*stage3*")
    aside = folder.rename(output / "aside")
    assert train(3, sd15, **how)[0].digest() == there.digest()
    assert folder.is_dir() and aside.is_dir(), "it is the same run"
