"""The base model's training: it learns, and a resumed run is the uninterrupted one."""

import pytest
import torch

from attndreambooth.micro.scenes import TRAIN, make_scenes
from attndreambooth.micro.text import CaptionEncoder
from attndreambooth.micro.train_diffusion import (
    DiffusionConfig,
    DiffusionTrainer,
    alphas_cumprod,
    save_checkpoint,
    timestep_cdf,
)


@pytest.fixture
def trainer(micro, monkeypatch):
    """A function that makes a new trainer; the host's attention is put back afterwards."""
    import comfy.ldm.modules.attention as attention

    monkeypatch.setattr(attention, "optimized_attention", attention.optimized_attention)
    captions = CaptionEncoder(micro[1].tokenizer.clip_l.tokenizer)
    config = DiffusionConfig(minutes=60, batch=4, warmup=1)
    return lambda: DiffusionTrainer(config, captions, torch.device("cpu"))


def test_the_schedule_is_stable_diffusions():
    """abar by the textbook product, one term at a time."""
    expected = 1.0
    abar = alphas_cumprod()
    for t in range(1000):
        root = 0.00085**0.5 + (0.012**0.5 - 0.00085**0.5) * t / 999
        expected *= 1 - root**2
        assert abs(abar[t].item() - expected) < 1e-5
    cdf = timestep_cdf(abar)
    assert abs(cdf[-1].item() - 1) < 1e-9 and (cdf.diff() > 0).all()


def test_a_resumed_run_is_the_uninterrupted_one(trainer, tmp_path):
    scenes = make_scenes(0, TRAIN, 16)
    latents = torch.randn(16, 24, 8, 8, generator=torch.Generator().manual_seed(0))
    whole = trainer()
    losses = [whole.step(latents, scenes)[0] for _ in range(4)]
    first = trainer()
    assert [first.step(latents, scenes)[0] for _ in range(2)] == losses[:2]
    save_checkpoint(first, tmp_path / "checkpoint.pt")
    second = trainer()
    second.load(torch.load(tmp_path / "checkpoint.pt", weights_only=True))
    assert [second.step(latents, scenes)[0] for _ in range(2)] == losses[2:]
    for mine, other in zip(whole.masters, second.masters, strict=True):
        assert torch.equal(mine, other)
    assert losses[-1] < losses[0]
