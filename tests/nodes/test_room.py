"""What of the host and of a private model lies in a memory while a stage is trained on a card."""

from __future__ import annotations

import weakref

import pytest
import torch
from support.stages import dataset

CARD = torch.device("cuda", 0)


@pytest.fixture
def emptied(monkeypatch):
    """How often all that the host has loaded was taken off its device."""
    from comfy import model_management

    calls: list[str] = []
    monkeypatch.setattr(model_management, "unload_all_models", lambda: calls.append("unloaded"))
    return calls


@pytest.mark.parametrize("fits", [True, False])
def test_a_preview_leaves_no_clip_and_no_vae_on_the_card(sd15, monkeypatch, emptied, fits):
    from attndreambooth.nodes.host.ui import preview

    def sampled(*_):
        if not fits:
            raise torch.OutOfMemoryError("simulated")
        return torch.zeros(1, 4, 8, 8)

    monkeypatch.setattr(preview, "sampled", sampled)
    settings = preview.PreviewSettings(
        prompt="{}", every=1, steps=1, cfg=1, width=64, height=64, seed=0
    )
    unet = sd15.model.model.diffusion_model
    sampler = preview.PreviewSampler(settings, sd15.model, sd15.clip, sd15.vae, unet, ("<astro>",))
    width = sd15.model.model.model_config.unet_config["context_dim"]
    vectors = {"clip_l": torch.zeros(1, width)}
    sampler.draw(vectors) if fits else None
    assert emptied == [], "on a CPU there is nowhere to take it"
    sampler._patcher.load_device = CARD
    if fits:
        sampler.draw(vectors)
    else:
        with pytest.raises(torch.OutOfMemoryError):
            sampler.draw(vectors)
    assert emptied == ["unloaded"]


def test_main_memory_holds_no_weight_that_has_gone_on_the_card(sd15, run):
    from attndreambooth.attndb.models.placement import put
    from attndreambooth.nodes.host.ui.plan import NodePlan, StagePlan
    from attndreambooth.nodes.host.workbench import HostWorkbench

    bench = HostWorkbench(sd15.model, sd15.clip, sd15.vae, NodePlan([StagePlan("x", 1)]))
    with bench.private_model(dataset(run), None) as model:
        parameters = list(model.unet.parameters())
        waiting = [weakref.ref(parameter.data.untyped_storage()) for parameter in parameters]
        assert all(storage() is not None for storage in waiting)
        for parameter in parameters:
            put(parameter, torch.empty_like(parameter))
        assert [storage for storage in waiting if storage() is not None] == []
