"""The diffusion objective is the published one."""

from __future__ import annotations

import math

import pytest
import torch

from attndreambooth.attndb.losses.denoising import denoising_loss, loss_normalizer
from attndreambooth.attndb.models.noise_schedule import Diffusion, scaled_linear_alphas_cumprod


def published_abar():
    """abar_t by a loop (docs/formulas.md, The denoising loss)."""
    out, product = [], 1.0
    low, high = math.sqrt(0.00085), math.sqrt(0.012)
    for t in range(1000):
        product *= 1.0 - (low + (high - low) * t / 999) ** 2
        out.append(product)
    return out


def test_the_schedule_is_the_published_one():
    ours = scaled_linear_alphas_cumprod()
    assert ours.dtype == torch.float64 and ours.shape == (1000,)
    torch.testing.assert_close(
        ours, torch.tensor(published_abar(), dtype=torch.float64), rtol=1e-12, atol=0
    )
    assert float(ours[-1]) == pytest.approx(0.0047, abs=1e-4)  # the known last value of SD


def test_the_schedule_is_the_hosts(host):
    from comfy.model_sampling import ModelSamplingDiscrete

    sigmas = ModelSamplingDiscrete().sigmas.double()
    torch.testing.assert_close(
        scaled_linear_alphas_cumprod(), 1 / (1 + sigmas**2), rtol=1e-6, atol=0
    )


@pytest.fixture
def sample():
    generator = torch.Generator().manual_seed(0)
    z0 = torch.randn(3, 4, 5, 6, generator=generator)
    return z0, torch.randn(z0.shape, generator=generator), torch.tensor([0, 500, 999])


@pytest.mark.parametrize("prediction_type", ["epsilon", "v"])
def test_noising_and_target_follow_the_formulas(sample, prediction_type):
    z0, noise, t = sample
    diffusion = Diffusion(
        alphas_cumprod=scaled_linear_alphas_cumprod(), prediction_type=prediction_type
    )
    assert diffusion.timesteps == 1000
    noisy, target = diffusion.add_noise(z0, noise, t), diffusion.target(z0, noise, t)
    abar = published_abar()
    for b, step in enumerate(t.tolist()):
        a, s = math.sqrt(abar[step]), math.sqrt(1 - abar[step])
        wanted = noise[b] if prediction_type == "epsilon" else a * noise[b] - s * z0[b]
        torch.testing.assert_close(noisy[b], a * z0[b] + s * noise[b])
        torch.testing.assert_close(target[b], wanted)


def test_a_v_prediction_recovers_the_image_and_the_noise(sample):
    z0, noise, t = sample
    diffusion = Diffusion(alphas_cumprod=scaled_linear_alphas_cumprod(), prediction_type="v")
    noisy, v = diffusion.add_noise(z0, noise, t), diffusion.target(z0, noise, t)
    abar = torch.tensor(published_abar())[t][:, None, None, None]
    torch.testing.assert_close(abar.sqrt() * noisy - (1 - abar).sqrt() * v, z0)
    torch.testing.assert_close((1 - abar).sqrt() * noisy + abar.sqrt() * v, noise)


def test_an_unknown_prediction_type_is_refused():
    with pytest.raises(ValueError, match="prediction_type = 'x0'"):
        Diffusion(alphas_cumprod=scaled_linear_alphas_cumprod(), prediction_type="x0")


def test_without_a_mask_the_loss_is_the_mean_squared_error(sample):
    prediction, target, _ = sample
    torch.testing.assert_close(
        denoising_loss(prediction, target), torch.nn.functional.mse_loss(prediction, target)
    )


def test_the_loss_is_computed_in_fp32(sample):
    prediction, target, _ = sample
    loss = denoising_loss(prediction.bfloat16(), target.bfloat16())
    assert loss.dtype == torch.float32
    torch.testing.assert_close(
        loss,
        torch.nn.functional.mse_loss(prediction.bfloat16().float(), target.bfloat16().float()),
    )


def test_with_a_mask_only_the_counted_pixels_matter(sample):
    prediction, target, _ = sample
    mask = torch.zeros(3, 1, 5, 6)
    mask[0, 0, 2:4, 1:3] = 1
    mask[2, 0, 0, 0] = 1
    errors = [
        float(prediction[b, c, y, x] - target[b, c, y, x]) ** 2
        for b, _, y, x in mask.nonzero().tolist()
        for c in range(4)
    ]
    loss = denoising_loss(prediction, target, mask)
    assert float(loss) == pytest.approx(sum(errors) / len(errors), rel=1e-6)
    assert loss_normalizer(target, mask) == len(errors) == 20
    prediction[1] = 1e6
    assert float(denoising_loss(prediction, target, mask)) == pytest.approx(float(loss))


@pytest.mark.parametrize("masked", [False, True])
def test_micro_batches_add_up_to_the_batch(sample, masked):
    prediction, target, _ = sample
    mask = (torch.rand(3, 1, 5, 6) > 0.4).float() if masked else None
    normalizer = loss_normalizer(target, mask)
    parts = [
        denoising_loss(
            prediction[i : i + 1],
            target[i : i + 1],
            None if mask is None else mask[i : i + 1],
            normalizer,
        )
        for i in range(3)
    ]
    torch.testing.assert_close(sum(parts), denoising_loss(prediction, target, mask))


def test_a_mask_that_counts_nothing_gives_zero_and_not_nan(sample):
    prediction, target, _ = sample
    assert float(denoising_loss(prediction, target, torch.zeros(3, 1, 5, 6))) == 0.0
