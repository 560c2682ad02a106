"""The second base model's training: it learns, resumes to the byte, and reads every word."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from attndreambooth.micro.autoencoder import Autoencoder
from attndreambooth.micro.latents import ACCESSORY, OBJECT, SCENERY, encoded, shown_cells, shown_in
from attndreambooth.micro.preview import preview
from attndreambooth.micro.stock import TRAIN, make_scenes
from attndreambooth.micro.text import END, LENGTH, SHORT, TEXT_CONFIG, UNKNOWN_ROW
from attndreambooth.micro.train_diffusion import (
    DiffusionConfig,
    DiffusionTrainer,
    Draw,
    train_diffusion,
)
from attndreambooth.micro.unet import UNET_CONFIG
from attndreambooth.micro.world import full_caption, random_caption, render

SMALL = UNET_CONFIG | {"model_channels": 32}
CONFIG = DiffusionConfig(steps=4, batch=3, warmup=1, checkpoint_every=2, decay=0.25)


@pytest.fixture
def trainer(words, monkeypatch):
    """A function that makes a new trainer; the host's attention is put back afterwards."""
    import comfy.ldm.modules.attention as attention

    monkeypatch.setattr(attention, "optimized_attention", attention.optimized_attention)
    return lambda config=CONFIG: DiffusionTrainer(config, words, unet_config=SMALL)


@pytest.fixture(scope="module")
def stock():
    scenes = make_scenes(0, TRAIN, 12)
    return torch.randn(12, 32, 16, 16, generator=torch.Generator().manual_seed(0)).half(), scenes


def test_every_caption_fits_and_holds_no_unknown_word(words):
    end = words.vocabulary.row(END)
    for i, scene in enumerate(make_scenes(0, TRAIN, 300)):
        said = random_caption(scene, np.random.default_rng(i)).replace("sks ", "")
        rows = words([said, full_caption(scene)])
        assert (rows[:, SHORT - 1] == end).all() and rows.shape == (2, LENGTH)
        assert UNKNOWN_ROW not in rows


def test_the_schedule_is_stable_diffusions(trainer):
    """abar by the textbook product, one term at a time."""
    expected = 1.0
    abar = trainer().abar
    for t in range(1000):
        root = 0.00085**0.5 + (0.012**0.5 - 0.00085**0.5) * t / 999
        expected *= 1 - root**2
        assert abs(abar[t].item() - expected) < 1e-5


def test_the_rate_warms_up_stays_and_falls_to_zero():
    c = DiffusionConfig(steps=1000, warmup=100, decay=0.4, rate=1.0)
    assert c.rate_at(0) == pytest.approx(0.01) and c.rate_at(99) == c.rate_at(599) == 1.0
    assert c.rate_at(800) == pytest.approx(0.5) and c.rate_at(1000) == 0.0


def test_a_resumed_run_is_the_uninterrupted_one(trainer, stock, tmp_path):
    whole = trainer()
    latents, scenes = stock
    train_diffusion(whole, latents, scenes, tmp_path / "whole.pt")
    first = trainer()
    for _ in range(2):
        first.step(*stock)
    part = tmp_path / "part.pt"
    torch.save(first.state(), part)
    second = trainer()
    seen = []
    train_diffusion(second, latents, scenes, part, lambda t: seen.append(t.steps))
    assert second.steps == 4 and seen == [4]
    for mine, other in zip(
        (*whole.parameters, *whole.average), (*second.parameters, *second.average), strict=True
    ):
        assert torch.equal(mine, other)
    lines = [json.loads(line) for line in (tmp_path / "whole.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4]
    assert all(len(line["by_noise"]) == 4 and line["loss"] > 0 for line in lines)


def test_it_learns(trainer, stock):
    learning = trainer(replace(CONFIG, steps=60, batch=4, rate=2e-3))
    losses = [learning.step(*stock)[0] for _ in range(16)]
    assert np.mean(losses[-4:]) < np.mean(losses[:4])


def test_the_loss_is_that_of_the_velocity(trainer, stock):
    """A U-Net that says zero errs by v = sqrt(abar) eps - sqrt(1 - abar) z0: E v^2 = abar
    E eps^2 + (1 - abar) E z0^2, within what 3 x 8192 values scatter."""
    one = trainer(replace(CONFIG, offset_noise=0.0))
    latents, scenes = stock
    _, t, losses = one.step(latents * 2, scenes)  # its last layer starts at zero
    a = one.abar[t]
    expected = a + (1 - a) * (latents * 2).float().square().mean()
    assert torch.allclose(losses, expected, rtol=0.1)
    assert len(set(t.tolist())) == len(t) and int(t.min()) < 334 and int(t.max()) >= 666


def test_a_loss_that_is_not_finite_stops_the_run(trainer, stock, tmp_path):
    latents, scenes = stock
    with pytest.raises(FloatingPointError, match="loss is nan at step 1"):
        train_diffusion(trainer(), latents * float("nan"), scenes, tmp_path / "x.pt")
    assert not (tmp_path / "x.pt").exists()


def test_text_width_and_context_agree(trainer):
    one = trainer()
    assert TEXT_CONFIG["hidden_size"] == UNET_CONFIG["context_dim"]
    maps = [m for name, m in one.unet.named_modules() if name.endswith("attn2")]
    assert len(maps) == 11


def test_a_preview_is_the_same_from_the_same_seed(trainer):
    one, coder = trainer(), Autoencoder().eval()
    a, b = (preview(one, coder, ["a photo of a cat"], seed=1, steps=2) for _ in range(2))
    assert a.shape == (1, 128, 128, 3) and np.array_equal(a, b)
    assert not np.array_equal(a, preview(one, coder, ["a photo of a cat"], seed=2, steps=2))


def test_latents_are_kept_for_one_autoencoder(tmp_path):
    model = Autoencoder().eval()
    latents, scenes = encoded(tmp_path, model, 0, 4, "a" * 64)
    assert latents.shape == (4, 32, 16, 16) and len(scenes) == 4
    torch.nn.init.normal_(model.linear_in.weight)
    assert torch.equal(encoded(tmp_path, model, 0, 4, "a" * 64)[0], latents)
    assert not torch.equal(encoded(tmp_path, model, 0, 4, "b" * 64)[0], latents)


def test_scenes_with_accessories_can_be_drawn_more_often(stock):
    """Which are drawn, by the words of the captions; none of it with a share of 0."""
    _, scenes = stock
    worn = [i for i, s in enumerate(scenes) if "wearing" in full_caption(s) or s.words.held]
    holding = [i for i in worn if scenes[i].words.held]
    assert 0 < len(holding) < len(worn) < len(scenes)

    def drawn(**shares):
        draw = Draw(replace(CONFIG, batch=64, **shares), scenes)
        return draw(np.random.default_rng(3)).tolist()

    assert set(drawn(dressed=1.0)) == set(worn)
    assert set(drawn(held=1.0)) == set(drawn(dressed=1.0, held=1.0)) == set(holding)
    assert drawn() == np.random.default_rng(3).integers(len(scenes), size=64).tolist()


def moved_cells(scene, other):
    """(16, 16) how far the two pictures are apart in each latent cell, 0 to 255."""
    one, two = (render(s).picture.astype(int) for s in (scene, other))
    return np.abs(one - two).reshape(16, 8, 16, 8, 3).mean(axis=(1, 3, 4))


def with_neighbours(cells):
    """(16, 16) bool: the marked cells and those beside one."""
    marked = torch.tensor(cells)[None].float()
    return (torch.nn.functional.max_pool2d(marked, 3, 1, 1)[0] > 0).numpy()


def test_cells_of_accessories_are_those_where_they_are_seen():
    """By the picture: where the same scene without its hat differs by more than a contact shadow
    is a marked cell or one beside it. (Strings and sticks of held things are no part of them.)"""
    found = 0
    for scene in make_scenes(0, TRAIN, 120):
        cells = shown_in(scene) == ACCESSORY
        assert cells.any() <= bool(scene.words.hat or scene.words.held)
        if scene.style != "photo" or scene.companion or scene.look.held or not cells.any():
            continue
        bare = replace(scene, look=replace(scene.look, hat=None))
        moved = moved_cells(scene, bare)
        assert moved[cells].min() > 1 and moved[~with_neighbours(cells)].max() < 6
        found += 1
    assert found >= 4


def test_cells_of_objects_are_those_where_they_are_seen():
    """By the picture: where the same scene with a subject of another colour differs is a marked
    cell or one beside it, and no cell of the subject's middle is left out."""
    found = 0
    for scene in make_scenes(0, TRAIN, 60):
        if scene.style != "photo" or scene.companion:
            continue
        cells = shown_in(scene) != SCENERY
        other = replace(scene, look=replace(scene.look, body=(255, 0, 255), second=(0, 255, 0)))
        moved = moved_cells(scene, other)
        assert cells[moved > 60].all() and moved[~with_neighbours(cells)].max() < 6
        found += 1
    assert found >= 8


def test_a_companion_is_an_object():
    scene = next(s for s in make_scenes(0, TRAIN, 60) if s.companion and s.companion.relation)
    with_it, alone = shown_in(scene), shown_in(replace(scene, companion=None))
    more = (with_it != SCENERY) & (alone == SCENERY)
    assert more.sum() >= 4 and (with_it[more] == OBJECT).all()


def test_objects_and_detail_weigh_their_cells(trainer, stock):
    """A weight of 1 + detail is what the plain loss and `detail` times that of the cells alone
    add up to: gradients are linear in it. Told to the trainer as its last layer's gradient."""
    latents, scenes = stock
    cells = torch.zeros(12, 16, 16, dtype=torch.uint8)
    cells[:, 3:5, 6:9] = ACCESSORY
    others = ACCESSORY - cells  # all but those

    def gradient(detail, marked, objects=0.0):
        one = trainer(replace(CONFIG, detail=detail, objects=objects))
        name = "unet.out.2.weight"
        told = {}
        one.named[name].register_post_accumulate_grad_hook(
            lambda p: told.update(gradient=p.grad.clone())
        )
        loss, *_ = one.step(latents, scenes, marked)
        return told["gradient"], loss

    plain, loss = gradient(0.0, None)
    everywhere, _ = gradient(2.0, torch.full_like(cells, ACCESSORY))
    some, same_loss = gradient(3.0, cells)
    rest, _ = gradient(3.0, others)
    assert torch.equal(gradient(0.0, cells)[0], plain) and same_loss == loss
    torch.testing.assert_close(everywhere, 3 * plain)
    torch.testing.assert_close(some + rest, 5 * plain)  # 1 + 1 + 3
    assert not torch.allclose(some, plain)
    of_objects, _ = gradient(0.0, cells // 2, objects=3.0)  # the same cells, as objects
    assert torch.equal(of_objects, some)
    both, _ = gradient(4.0, cells.clamp(min=OBJECT), objects=1.0)  # 5 there and 2 elsewhere
    torch.testing.assert_close(both, some + plain)


def test_cells_are_looked_for_once(tmp_path):
    scenes = make_scenes(0, TRAIN, 12)
    cells = shown_cells(tmp_path, 0, scenes)
    assert cells.shape == (12, 16, 16) and (cells == ACCESSORY).any(dim=(1, 2)).sum() >= 2
    [kept] = tmp_path.iterdir()
    np.save(kept, np.zeros((12, 16, 16), dtype=np.uint8))
    assert not shown_cells(tmp_path, 0, scenes).any()
