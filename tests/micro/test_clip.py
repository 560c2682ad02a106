"""The micro CLIP: what its pairs are, its loss, and that it learns."""

import numpy as np
import pytest
import torch

from attndreambooth.micro.clip import (
    ClipConfig,
    ClipScores,
    MicroClip,
    contrast,
    has_words,
    held_out_retrieval,
    pair_of_scenes,
    train_micro_clip,
)
from attndreambooth.micro.stock import CLIP_TRAIN, scene_rng
from attndreambooth.micro.world import render

THINGS_IN_HAND = ("held", "held_colour")


def _identity(scene):
    return {k: v for k, v in vars(scene.look).items() if k not in THINGS_IN_HAND}


def test_a_pair_is_one_subject_in_two_scenes():
    pairs = [pair_of_scenes(scene_rng(0, CLIP_TRAIN, i)) for i in range(60)]
    for first, second in pairs:
        assert first.category == second.category and _identity(first) == _identity(second)
    assert sum(a.place != b.place for a, b in pairs) > 40
    assert 15 <= sum(has_words(a) for a, _ in pairs) <= 40
    assert pairs == [pair_of_scenes(scene_rng(0, CLIP_TRAIN, i)) for i in range(60)]


def test_the_contrast_is_infonce_in_both_directions():
    """Against the formula of CLIP, one row at a time."""
    a, b = torch.randn(2, 5, 7, dtype=torch.float64)
    scale, expected = torch.tensor(3.0), 0.0
    for x, y in ((a, b), (b, a)):
        for i in range(5):
            scores = [3.0 * float(x[i] @ y[j]) for j in range(5)]
            expected -= (scores[i] - float(np.log(np.sum(np.exp(scores))))) / 10
    assert float(contrast(a, b, scale)) == pytest.approx(expected, rel=1e-9)


def test_it_learns_and_one_seed_gives_the_same_weights(words, tmp_path, caplog):
    config = ClipConfig(pairs=24, epochs=4, batch=8)
    with caplog.at_level("INFO"):
        model = train_micro_clip(tmp_path, words, config)
    losses = [r.args[-1] for r in caplog.records if "epoch" in r.getMessage()]
    assert len(losses) == 4 and losses[-1] < losses[0]
    found = held_out_retrieval(model, words, count=8)
    assert set(found) == {"subject", "text"} and all(0 <= v <= 1 for v in found.values())
    again = train_micro_clip(tmp_path, words, config)  # from the pictures on disk
    for mine, other in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_scores_are_mean_cosines_over_all_pairs(words):
    model = MicroClip(words.vocabulary).eval()
    pictures = [render(pair_of_scenes(scene_rng(0, CLIP_TRAIN, i))[0]).picture for i in range(4)]
    scores = ClipScores(model, words)
    photos, drawn = np.stack(pictures[:2]), np.stack(pictures[2:])
    unit = []
    for picture in pictures:
        x = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1
        with torch.no_grad():
            unit.append(model.images(x)[0])
    expected = np.mean([float(a @ b) for a in unit[:2] for b in unit[2:]])
    assert scores.identity(photos, drawn) == pytest.approx(expected, abs=1e-5)
    with torch.no_grad():
        text = model.texts(words(["a photo of a robot"])[:, :40])[0]
    expected = np.mean([float(text @ b) for b in unit[2:]])
    assert scores.text("a photo of a robot", drawn) == pytest.approx(expected, abs=1e-5)
