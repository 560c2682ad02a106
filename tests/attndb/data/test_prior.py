"""Prior images: what is drawn, that nothing else is drawn differently, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from attndreambooth.attndb.config.data import DataConfig
from attndreambooth.attndb.config.optimizer import OptimizerConfig
from attndreambooth.attndb.config.stage import StageConfig
from attndreambooth.attndb.data import draws, photo_batches, prior_batches
from attndreambooth.attndb.data.dataset import ConceptDataset
from attndreambooth.attndb.data.photo import DatasetError
from attndreambooth.attndb.data.photo_batches import PhotoBatches
from attndreambooth.attndb.data.photo_file import photos_from_arrays
from attndreambooth.attndb.data.prior_batches import PriorBatches
from attndreambooth.attndb.data.rendered_ahead import RenderedAhead
from attndreambooth.attndb.data.tokens import TokenizedText
from attndreambooth.attndb.models.noise_schedule import Diffusion, scaled_linear_alphas_cumprod
from attndreambooth.devkit.tiny_model import END, START, prompt_of

DIFFUSION = Diffusion(alphas_cumprod=scaled_linear_alphas_cumprod(), prediction_type="epsilon")
SHADES = (0.1, 0.3, 0.5, 0.7, 0.9)
PRIOR_PROMPT = TokenizedText("a photo of a cat", (START, 320, 1125, 539, 320, 2368, *[END] * 71))


def pictures(*shades):
    """One photo per shade, wide, its left and right ends black."""
    made = []
    for shade in shades:
        picture = np.full((80, 120, 3), shade)
        picture[:, :15] = picture[:, -15:] = 0
        made.append(picture)
    return photos_from_arrays(made)


def subject(**changes):
    return ConceptDataset(pictures(0.2, 0.6), "cat", "<my-cat>", **changes)


class Encoder:
    """Means of 8 x 8 pixels as latents; counts its calls."""

    def __init__(self):
        self.calls = 0

    def __call__(self, pixels):
        self.calls += 1
        blocks = torch.nn.functional.avg_pool2d(pixels.permute(0, 3, 1, 2), 8)
        return torch.cat([blocks, blocks.mean(dim=1, keepdim=True)], dim=1)


def config(**changes):
    data = DataConfig(resolution=64, **{"latent_pool": 0, **changes.pop("data", {})})
    optimizer = OptimizerConfig(learning_rate=1e-3)
    shared = {"stage": 2, "steps": 9, "batch_size": 4, "optimizer": optimizer, "data": data}
    return StageConfig(**{**shared, **changes})


def both(encoder=None, **changes):
    """The subject's batches alone, and the same with prior samples."""
    settings = config(**changes)
    dataset = subject().with_prior(pictures(*SHADES), weight=0.5)
    plain, own = (
        PhotoBatches(dataset, (prompt_of(),), settings, DIFFUSION.timesteps, Encoder())
        for _ in range(2)
    )
    return plain, PriorBatches(
        own, dataset.prior, PRIOR_PROMPT, settings, DIFFUSION.timesteps, encoder or Encoder()
    )


def shades(batch):
    """The shade of every latent's middle."""
    return [round(float(latent[3, 2:6, 2:6].mean()), 1) for latent in batch.latents]


@pytest.mark.parametrize(
    "changes", [{}, {"data": {"latent_pool": 3}}, {"offset_noise": 0.1, "stage": 3, "seed": 5}]
)
def test_the_subjects_samples_are_drawn_as_without_prior_images(changes):
    plain, prior = both(**changes)
    for step in (0, 1, 6):
        a, b = plain[step], prior[step]
        assert a.prior is None and b.prior is not None
        for name in ("latents", "noise", "timesteps", "mask"):
            assert torch.equal(getattr(a, name), getattr(b, name)), name
        assert a.prompts == b.prompts
        assert len(b.prior) == len(b) == 4 and b.prior_weight == 0.5
        assert b.prior.prompts == (PRIOR_PROMPT,) * 4 and b.prior.mask is None
        assert not torch.equal(b.noise, b.prior.noise)
        assert not torch.equal(b.timesteps, b.prior.timesteps)


def test_every_prior_image_comes_once_per_round_in_an_order_that_changes():
    _, drawn_from = both()
    drawn = [shade for step in range(15) for shade in shades(drawn_from[step].prior)]
    rounds = [tuple(drawn[i : i + len(SHADES)]) for i in range(0, len(drawn), len(SHADES))]
    assert len(rounds) == 12
    assert all(tuple(sorted(r)) == SHADES for r in rounds)
    assert len(set(rounds)) > 6


def test_a_prior_image_is_its_centre_and_is_encoded_once():
    encoder = Encoder()
    _, drawn_from = both(encoder)
    for step in range(10):
        for latent in drawn_from[step].prior.latents:
            assert float(latent[3].std()) < 1e-3 and float(latent[3].min()) > 0.05
    assert encoder.calls == len(SHADES)


def test_prior_samples_are_decided_by_seed_stage_and_step_alone():
    _, first = both()
    ordered = [first[step].prior for step in range(5)]
    _, fresh = both()
    for step in (3, 0, 4, 3):
        for name in ("latents", "noise", "timesteps"):
            assert torch.equal(getattr(fresh[step].prior, name), getattr(ordered[step], name))
    noises = [ordered[0], ordered[1], both(seed=1)[1][0].prior, both(stage=3)[1][0].prior]
    assert len({prior.noise.numpy().tobytes() for prior in noises}) == 4
    _, offset = both(offset_noise=0.1)
    shift = offset[0].prior.noise - ordered[0].noise
    assert float(shift.abs().min()) > 0 and float(shift.std(dim=(2, 3)).max()) < 1e-6


def test_no_generator_is_shared_with_the_subjects_samples(monkeypatch):
    keys = []
    plain = draws.step_generator

    def noted(*key):
        keys.append(key)
        return plain(*key)

    for module in (draws, photo_batches, prior_batches):
        monkeypatch.setattr(module, "step_generator", noted)
    alone, prior = both()
    for step in range(4):
        assert len(alone[step]) == 4
    own = set(keys)
    prior.fill()
    keys.clear()
    for step in range(4):
        prior._draw(step)
    assert own and keys and not own & set(keys)


@pytest.mark.parametrize("pool", [0, 2])
def test_filled_ahead_nothing_is_encoded_later_and_the_samples_are_the_same(pool):
    encoder, told = Encoder(), []
    _, filled = both(encoder, data={"latent_pool": pool})
    assert filled.fill(lambda done, total: told.append((done, total))) == (pool > 0)
    assert encoder.calls == len(SHADES) and told[-1] == (len(SHADES), len(SHADES))
    _, fresh = both(data={"latent_pool": pool})
    for step in range(4):
        assert torch.equal(filled[step].prior.latents, fresh[step].prior.latents)
        assert torch.equal(filled[step].latents, fresh[step].latents)
    assert encoder.calls == len(SHADES)


def test_more_prior_images_than_are_drawn_are_not_filled_ahead():
    encoder = Encoder()
    _, few = both(encoder, steps=1, data={"latent_pool": 1})
    assert not few.fill() and encoder.calls == 0


@pytest.mark.parametrize("data", [{}, {"latent_pool": 3}, {"augmentation": "none"}])
def test_rendered_ahead_the_samples_have_the_same_bytes(data):
    plain, with_prior = both(data=data)
    _, fresh = both(data=data)
    expected = [fresh[step] for step in range(6)]
    with RenderedAhead(with_prior, 9) as ahead:
        for step in (0, 1, 2, 5, 3, 3):
            found = ahead[step]
            for name in ("latents", "noise", "timesteps", "mask"):
                assert torch.equal(getattr(found, name), getattr(expected[step], name)), name
            assert torch.equal(found.prior.latents, expected[step].prior.latents)
    with RenderedAhead(plain, 9) as ahead:
        assert torch.equal(ahead[2].latents, expected[2].latents)


def test_a_part_of_a_batch_has_no_prior_samples():
    assert both()[1][0].part(0, 2).prior is None


# ---- the dataset


def test_a_dataset_without_prior_images_has_the_digest_it_always_had():
    plain = [np.full((8, 8, 3), shade) for shade in (0.25, 0.5)]
    dataset = ConceptDataset(photos_from_arrays(plain), "cat", "<my-cat>")
    # as computed before there were prior images: run folders carry it
    always = "f995d4b13ac2e1dc2904673a2731d7bf638600138f9f26df7c1c139fc44b5cb0"
    assert dataset.digest == always
    assert dataset.with_prior(pictures(0.1)).digest != always
    assert dataset.with_prior(pictures(0.1)).without_prior().digest == always


def test_the_digest_knows_every_prior_image_the_prompt_and_the_weight():
    base = subject().with_prior(pictures(0.1, 0.3))
    others = [
        subject(),
        subject().with_prior(pictures(0.1)),
        subject().with_prior(pictures(0.3, 0.1)),
        subject().with_prior(pictures(0.1, 0.3), "a drawing of a {}"),
        subject().with_prior(pictures(0.1, 0.3), weight=0.5),
    ]
    assert len({data.digest for data in [base, *others]}) == 6
    assert subject().with_prior(pictures(0.1, 0.3)).digest == base.digest


def test_the_prompt_and_the_record_say_what_the_images_are():
    prior = subject().with_prior(pictures(0.1, 0.3), weight=0.7).prior
    assert prior.prompt == "a photo of a cat"
    assert prior.record() == {
        "prompt": "a photo of a cat",
        "weight": 0.7,
        "count": 2,
        "images": [image.digest for image in pictures(0.1, 0.3)],
    }
    assert subject().with_prior(pictures(0.1), "Cat, sitting").prior.prompt == "Cat, sitting"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"images": ()}, "no prior image: connect"),
        ({"weight": 0.0}, "weight = 0: must be above 0.*bypass"),
        ({"weight": -1.5}, r"weight = -1\.5: must be above 0"),
        ({"weight": float("nan")}, "weight = nan: must be above 0"),
        ({"prompt": " "}, "prompt is empty"),
        ({"prompt": "a photo of a dog"}, "'a photo of a dog' does not contain the category 'cat'"),
        ({"prompt": "a photo of cattle"}, "does not contain the category 'cat'.*{}"),
        ({"prompt": "a <My-cat> {}"}, "contains the placeholder '<my-cat>'"),
        ({"images": pictures(0.1, 0.6)}, "image 2 is the dataset's photo image 2"),
    ],
)
def test_prior_images_that_cannot_be_used_are_refused(changes, told):
    with pytest.raises(DatasetError, match=told):
        subject().with_prior(**{"images": pictures(0.1), **changes})


def test_prior_images_are_added_once():
    with pytest.raises(DatasetError, match=r"has 1 prior images already.*Batch Images"):
        subject().with_prior(pictures(0.1)).with_prior(pictures(0.3))
