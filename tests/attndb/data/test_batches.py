"""Any step's batch is decided by the seed alone."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from attndreambooth.attndb.config.data import DataConfig
from attndreambooth.attndb.config.optimizer import OptimizerConfig
from attndreambooth.attndb.config.stage import StageConfig
from attndreambooth.attndb.data.dataset import ConceptDataset
from attndreambooth.attndb.data.draws import step_generator
from attndreambooth.attndb.data.latent_source import latent_mask
from attndreambooth.attndb.data.photo_batches import PhotoBatches
from attndreambooth.attndb.data.photo_file import photos_from_arrays
from attndreambooth.attndb.models.noise_schedule import Diffusion, scaled_linear_alphas_cumprod
from attndreambooth.devkit.tiny_model import prompt_of

PHOTOS = 3
DIFFUSION = Diffusion(alphas_cumprod=scaled_linear_alphas_cumprod(), prediction_type="epsilon")


class Encoder:
    """Means of 8 x 8 pixels as latents; counts its calls."""

    def __init__(self):
        self.calls = 0

    def __call__(self, pixels):
        self.calls += 1
        assert pixels.shape == (1, 64, 64, 3) and pixels.dtype == torch.float32
        blocks = torch.nn.functional.avg_pool2d(pixels.permute(0, 3, 1, 2), 8)
        return torch.cat([blocks, blocks.mean(dim=1, keepdim=True)], dim=1)


def source(encoder=None, *, seed=0, stage=2, batch_size=4, **data):
    """Batches of three photos, one each of red, green and blue; no pool unless asked for."""
    pictures = [np.ones((80, 80, 1)) * np.eye(3)[i] for i in range(PHOTOS)]
    config = StageConfig(
        stage=stage,
        steps=9,
        batch_size=batch_size,
        optimizer=OptimizerConfig(learning_rate=1e-3),
        data=DataConfig(resolution=64, **{"latent_pool": 0, **data}),
        seed=seed,
    )
    dataset = ConceptDataset(photos_from_arrays(pictures), "dog", "<x>")
    return PhotoBatches(dataset, (prompt_of(),), config, DIFFUSION.timesteps, encoder or Encoder())


def same(a, b):
    tensors = [(a.latents, b.latents), (a.noise, b.noise), (a.timesteps, b.timesteps)]
    if a.mask is not None:
        tensors.append((a.mask, b.mask))
    return all(torch.equal(x, y) for x, y in tensors)


@pytest.mark.parametrize("pool", [0, 4])
def test_random_access_equals_going_through_in_order(pool):
    ordered = source(latent_pool=pool)
    batches = [ordered[step] for step in range(6)]
    fresh = source(latent_pool=pool)
    for step in (4, 1, 5, 1):
        assert same(fresh[step], batches[step])


def test_seed_stage_and_step_all_matter():
    batches = [source()[0], source()[1], source(seed=1)[0], source(stage=3)[0]]
    assert len({batch.noise.numpy().tobytes() for batch in batches}) == 4
    assert len({batch.latents.numpy().tobytes() for batch in batches}) == 4


def test_every_photo_comes_once_per_round_in_an_order_that_changes():
    batches = source(augmentation="none")
    photos = [
        int(latent.mean(dim=(1, 2))[:3].argmax())
        for step in range(9)
        for latent in batches[step].latents
    ]
    rounds = [tuple(photos[i : i + PHOTOS]) for i in range(0, len(photos), PHOTOS)]
    assert len(rounds) == 12
    assert all(sorted(r) == [0, 1, 2] for r in rounds)
    assert len(set(rounds)) > 2


def test_a_batch_has_the_shapes_and_spreads_of_the_objective():
    batches = source(batch_size=8)
    many = [batches[step] for step in range(8)]
    batch = many[0]
    assert batch.latents.shape == batch.noise.shape == (8, 4, 8, 8)
    assert batch.mask.shape == (8, 1, 8, 8) and len(batch) == len(batch.prompts) == 8
    noise = torch.cat([b.noise for b in many])
    assert float(noise.std()) == pytest.approx(1, abs=0.02)
    t = torch.cat([b.timesteps for b in many])
    assert 0 <= int(t.min()) < 60 and 940 < int(t.max()) < 1000
    assert max(Counter(t.tolist()).values()) <= 3


def test_the_fill_is_masked_unless_the_user_wants_it_trained_on():
    masked = source()
    shares = [1 - float(masked[step].mask.mean()) for step in range(9)]
    assert 0.2 < np.mean(shares) < 0.5  # cells with any fill: somewhat more than 27 %
    assert source(mask_fill=False)[0].mask is None
    assert float(source(augmentation="none")[0].mask.min()) == 1
    assert torch.equal(source(mask_fill=False)[2].latents, source()[2].latents)


def test_what_counts_is_photo_alone():
    batch = source()[0]
    colours = batch.latents[:, :3].sum(dim=1, keepdim=True)  # 1 where a cell is all photo
    assert (colours[batch.mask == 1] > 0.97).all()
    assert (colours[batch.mask == 0] < 0.999).all()


def test_a_pool_spares_the_encoder_and_repeats_its_latents():
    encoder = Encoder()
    pooled = source(encoder, latent_pool=2, batch_size=6)
    seen = {latent.numpy().tobytes() for step in range(9) for latent in pooled[step].latents}
    assert encoder.calls == len(seen) == 2 * PHOTOS
    fresh = Encoder()
    every = source(fresh, latent_pool=0, batch_size=6)
    assert [len(every[step]) for step in range(2)] == [6, 6] and fresh.calls == 12


def test_a_part_of_a_batch_is_its_slice():
    batch = source()[0]
    part = batch.part(1, 3)
    assert torch.equal(part.latents, batch.latents[1:3]) and torch.equal(part.mask, batch.mask[1:3])
    assert torch.equal(part.noise, batch.noise[1:3]) and len(part) == len(part.prompts) == 2


def test_a_latent_pixel_counts_only_if_all_its_pixels_do():
    weights = np.ones((32, 32), dtype=np.float32)
    weights[8, 17] = 0
    mask = latent_mask(weights, 4)
    assert mask.shape == (1, 4, 4)
    assert np.argwhere(mask[0] == 0).tolist() == [[1, 2]]


def test_a_crop_of_fill_alone_counts_whole():
    assert latent_mask(np.zeros((32, 32), dtype=np.float32), 4).min() == 1


def test_generators_depend_on_every_part_of_their_key():
    draws = [
        torch.rand(1, generator=step_generator(*k)).item() for k in [(1, 23), (12, 3), (1, 24)]
    ]
    assert len(set(draws)) == 3
    assert draws[0] == torch.rand(1, generator=step_generator(1, 23)).item()


@pytest.mark.parametrize("data", [{"latent_pool": 4}, {"augmentation": "none"}])
def test_a_filled_pool_gives_the_same_batches_and_needs_the_encoder_no_more(data):
    encoder, told = Encoder(), []
    filled, lazy = source(encoder, **data), source(**data)
    assert filled.fill(lambda done, total: told.append((done, total)))
    crops = data.get("latent_pool", 1)
    assert encoder.calls == PHOTOS * crops == len(told)
    assert told[-1] == (encoder.calls, encoder.calls)
    for step in range(9):
        assert same(filled[step], lazy[step])
    assert encoder.calls == PHOTOS * crops


def test_of_a_pool_only_what_the_stage_draws_is_encoded():
    encoder = Encoder()
    assert source(encoder, latent_pool=13).fill() and encoder.calls == 36  # 9 x 4 samples, 3 photos
    assert source(encoder, latent_pool=11).fill() and encoder.calls == 36 + 33
    assert not source(encoder).fill() and encoder.calls == 69  # as published: one by one


def test_without_augmentation_every_photo_is_encoded_once_and_nothing_else_changes():
    encoder = Encoder()
    plain, turned = source(encoder, augmentation="none"), source()
    for step in range(9):
        assert torch.equal(plain[step].noise, turned[step].noise)
        assert torch.equal(plain[step].timesteps, turned[step].timesteps)
    assert encoder.calls == PHOTOS
