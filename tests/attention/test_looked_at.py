"""Mask Subject looks at a photo with little noise, whatever a timestep is in the model's kind."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from attndreambooth.devkit.captured import NEGATIVE, TEXT
from attndreambooth.devkit.joint_models import joint_conditioning, small_joint_model

pytestmark = pytest.mark.host


def noised(model, latent, positive, negative, noise):
    """The model's own input, and the noise level that it was told."""
    from attndreambooth.nodes.host.capture.subject_mask import SubjectMaskSettings, _looked_at

    seen = []

    def note(executor, x, t, *args, **kwargs):
        seen.append((x.clone(), float(t[0])))
        return executor(x, t, *args, **kwargs)

    watched = model.clone()
    watched.add_wrapper_with_key("apply_model", "test", note)
    vae = SimpleNamespace(encode=lambda photo: latent)
    settings = SubjectMaskSettings(noise=noise)
    subject: Any = SimpleNamespace(positive=positive, negative=negative)
    made = _looked_at(watched, vae, torch.zeros(1), subject, settings)
    assert torch.isfinite(made).all()
    [(x, sigma)] = seen
    return x, sigma


@pytest.mark.parametrize("kind", ["sd3", "flux"])
@pytest.mark.parametrize("noise", [0.0, 0.3, 1.0])
def test_a_model_of_flow_sees_between_the_photo_and_the_noise(host, kind, noise):
    import comfy.sample

    model = small_joint_model(kind)
    latent = torch.randn(1, 16, 6, 10)
    conditionings = joint_conditioning(1, 9), joint_conditioning(2, 9)
    x, sigma = noised(model, latent, *conditionings, noise)
    wanted = model.get_model_object("model_sampling").percent_to_sigma(1 - noise)
    assert sigma == pytest.approx(wanted, abs=0.02) and 0 < sigma <= 1
    drawn = comfy.sample.prepare_noise(latent, 0)
    photo = model.model.process_latent_in(latent)
    torch.testing.assert_close(x, sigma * drawn + (1 - sigma) * photo, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("noise", [0.0, 0.3, 1.0])
def test_a_model_of_continuous_noise_is_asked_within_its_range(sd15, noise):
    """Of Playground 2.5 a timestep is a logarithm of the noise level."""
    from comfy_extras.nodes_model_advanced import ModelSamplingContinuousEDM

    edm = ModelSamplingContinuousEDM()
    model = edm.patch(sd15.model, "edm_playground_v2.5", 120.0, 0.002)[0]
    latent = torch.randn(1, 4, 8, 12)
    _, sigma = noised(model, latent, sd15.encode(TEXT), sd15.encode(NEGATIVE), noise)
    wanted = 0.002 * (120.0 / 0.002) ** max(noise, 1 / 999)
    assert sigma == pytest.approx(wanted, rel=1e-3)
