"""A preview shows what would come out at that step: the average, where there is one."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from PIL import Image
from support.observer import Told

from attndreambooth.attndb.config.optimizer import OptimizerConfig
from attndreambooth.attndb.config.stage import StageConfig
from attndreambooth.devkit.tiny_model import RandomBatches, prompt_of, tiny_model
from attndreambooth.devkit.training import train_stage


@torch.inference_mode(False)
def test_pictures_and_maps_are_of_the_average(host, tmp_path):
    from attndreambooth.attndb.training.attention_monitor import (
        AttentionMonitor,
        AttentionMonitorSettings,
    )
    from attndreambooth.attndb.training.callback import Callbacks
    from attndreambooth.nodes.host.ui.preview import PreviewPictures

    drawn, trained = [], []

    def draw(embeddings, modules):
        drawn.append(embeddings["clip_l"].detach().clone())
        return Image.new("RGB", (8, 8))

    sampler = SimpleNamespace(draw=draw, settings=SimpleNamespace(due=lambda done, total: True))
    pictures = PreviewPictures(sampler, tmp_path, 3)

    @Told
    def told(loss, training):
        trained.append(training.embeddings["clip_l"].detach().clone())
        pictures.after_step(loss.step + 1, training)

    prompt, latent = prompt_of(), torch.randn(1, 4, 8, 8)
    monitor = AttentionMonitor(
        AttentionMonitorSettings(every=1),
        *(prompt, ("<my-doll>", "doll"), latent, Image.new("RGB", (64, 64)), 3, tmp_path / "maps"),
    )
    config = StageConfig(
        stage=1,
        steps=3,
        batch_size=2,
        optimizer=OptimizerConfig(learning_rate=0.1),
        precision="fp32",
        ema_decay=0.5,
    )
    batches = RandomBatches(2, prompts=(prompt,))
    model, vectors = tiny_model(), torch.ones(1, 32)
    result = train_stage(model, batches, config, vectors, Callbacks(told, monitor))
    assert len(drawn) == 3 and torch.equal(drawn[-1], result.vectors)
    assert not torch.equal(drawn[-1], trained[-1])

    after = AttentionMonitor(
        AttentionMonitorSettings(every=1),
        *(prompt, ("<my-doll>", "doll"), latent, Image.new("RGB", (64, 64)), 3, tmp_path / "after"),
    )
    after.begin(model, result.embeddings)
    seen, there = monitor.looks[-1], after.looks[0]
    assert seen.placeholder_mean == there.placeholder_mean
