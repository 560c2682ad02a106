"""A contestant through the real trainer and the host's sampler, on untrained weights."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from attndreambooth.benchmarks.contest.contestant import OURS, contestant
from attndreambooth.benchmarks.contest.standings import SCORES
from attndreambooth.demo.train_micro import exported
from attndreambooth.micro import shipped, weight_files
from attndreambooth.micro.autoencoder import Autoencoder
from attndreambooth.micro.clip import MicroClip
from attndreambooth.micro.concepts import TUNING
from attndreambooth.micro.judges import Judges
from attndreambooth.micro.prompts import PROMPTS
from attndreambooth.micro.scores import VERSION
from attndreambooth.micro.text import host_captions
from attndreambooth.micro.train_diffusion import DiffusionConfig, DiffusionTrainer


@pytest.fixture(scope="module")
def folder(host, tmp_path_factory):
    """Weight files of an untrained model, with their card."""
    import comfy.ldm.modules.attention as attention

    place, before = tmp_path_factory.mktemp("weights"), attention.optimized_attention
    words = host_captions()
    trainer = DiffusionTrainer(DiffusionConfig(), words)
    attention.optimized_attention = before
    known = {"vocabulary": " ".join(map(str, words.vocabulary.tokens))}
    torch.manual_seed(0)
    for weight in trainer.average:  # what is begun with zeros would let nothing through
        if weight.dim() > 1 and not weight.any():
            weight.normal_(std=0.1)
    coder = Autoencoder()
    files = {
        weight_files.MODEL: (exported(trainer, coder), known | {"version": "2"}),
        weight_files.JUDGES: (shipped.half(Judges()), {}),
        weight_files.CLIP: (shipped.half(MicroClip(words.vocabulary)), known),
    }
    lines = []
    for name, (tensors, metadata) in files.items():
        digest = weight_files.save(name, tensors, metadata, place)
        lines.append(f"| `{name}` | `{digest}` |\n")
    (place / weight_files.CARD).write_text("".join(lines))
    return place


def test_it_is_trained_drawn_and_scored(folder, own_folders, tmp_path, monkeypatch):
    from attndreambooth.benchmarks.contest.studio import Studio

    monkeypatch.setattr("attndreambooth.benchmarks.contest.studio.STEPS", 2)
    concept = TUNING[0]
    with torch.inference_mode():
        studio = Studio(tmp_path, PROMPTS[:2], images=1, folder=folder)
        ours = contestant(OURS, [(1, 1e-2), (1, 1e-3), (1, 1e-3)])
        learned, seconds = studio.train(ours, concept, "many", 0)
        assert learned.trigger == "<my-butterfly> butterfly" and seconds > 0 and learned.delta
        again, counted = studio.train(ours, concept, "many", 0)
        assert counted == seconds, "answered from its run folder, it counts as the training"
        assert torch.equal(again.vectors, learned.vectors)
        assert studio.train(ours, concept, "many", 1)[1] != seconds
        pictures = studio.draw(concept, learned, 0.0, 5)
        assert pictures.shape == (2, 128, 128, 3) and pictures.dtype == np.uint8
        assert np.array_equal(pictures, studio.draw(concept, learned, 0.0, 5))
        scored = studio.score(pictures, concept, "many")
        assert set(scored.values) == set(SCORES) and list(scored.by_kind) == ["short"]
        oracle = studio.score(studio.true(concept), concept, "many")
    assert scored.values["joint"] == 0.0 and oracle.missed


@pytest.mark.parametrize("method", ["neti", "vico"])
def test_methods_with_parts_of_their_own_are_drawn(
    folder, own_folders, tmp_path, monkeypatch, method
):
    from attndreambooth.benchmarks.contest.studio import Studio

    monkeypatch.setattr("attndreambooth.benchmarks.contest.studio.STEPS", 2)
    with torch.inference_mode():
        studio = Studio(tmp_path, PROMPTS[:1], images=1, folder=folder)
        learned, _ = studio.train(contestant(method, [(1, 1e-2)]), TUNING[0], "many", 0)
        pictures = studio.draw(TUNING[0], learned, 0.0, 5)
        plain = studio.draw(TUNING[0], replace(learned, modules={}), 0.0, 5)
    assert learned.trigger == "<my-butterfly>" and pictures.shape == (1, 128, 128, 3)
    assert not np.array_equal(pictures, plain), "its parts do nothing"


def test_the_oracle_is_the_true_rendering(folder, tmp_path, monkeypatch):
    """With a perfect autoencoder it is present in every picture."""
    from attndreambooth.benchmarks.contest import studio as module

    monkeypatch.setattr(module, "through", lambda coder: lambda pictures: pictures)
    studio: Any = object.__new__(module.Studio)
    studio.prompts, studio.coder = list(PROMPTS[:3]), None
    pictures = studio.true(TUNING[1])
    for prompt, picture in zip(studio.prompts, pictures, strict=True):
        truth, present = module.Truth(TUNING[1], prompt).identity(picture)
        assert truth > 0.99 and present


def test_its_trainings_can_be_observed(folder, own_folders, tmp_path, monkeypatch):
    from attndreambooth.benchmarks.observed.world import MicroWorld

    monkeypatch.setattr("attndreambooth.benchmarks.contest.studio.STEPS", 1)
    with torch.inference_mode():
        world = MicroWorld(tmp_path, 1, folder)
        scores = world.scores(world.subjects[0], None)
    assert world.context.count("{}") == 1 and world.asked["scores"] == VERSION
    assert scores["identity"] == scores["truth"] and 0 <= scores["text"] <= 1
    assert len(world.dataset(world.subjects[0]).photos) == 5
