"""The rebuilt published step and ours compute the same losses and learn the same."""

from __future__ import annotations

import pytest
import torch

DEVICE = torch.device("cpu")


@pytest.fixture(scope="module")
def size(host):
    from attndreambooth.benchmarks.sizes import tiny

    return tiny()


@pytest.fixture(scope="module")
def skipping(size):
    """The same with a text encoder whose last layer is not used, and heads by their number."""
    from dataclasses import replace

    unet = {**size.unet, "num_heads": 4, "num_head_channels": -1}
    unet["use_linear_in_transformer"] = False
    return replace(size, unet=unet, clip={**size.clip, "num_hidden_layers": 3}, clip_skip=1)


def both(size, stage):
    """Our stage and the published one on the same weights, regularised strongly alike."""
    from attndreambooth.attndb.config.regularization import Regularization
    from attndreambooth.benchmarks.ours import initial_vector, our_backend, stage_config
    from attndreambooth.benchmarks.reference_step import PublishedModel, PublishedStep
    from attndreambooth.benchmarks.sizes import weights_of
    from attndreambooth.devkit.training import training_of

    weights = weights_of(size)
    backend = our_backend(size, weights, DEVICE)
    vector = initial_vector(backend)
    config = stage_config(stage, size, "fp32")
    config = config.with_(regularization=Regularization(mean_weight=200.0, variance_weight=500.0))
    published = PublishedStep(PublishedModel(size, weights, DEVICE), stage, vector[0])
    published.mean_weight, published.variance_weight = 200.0, 500.0
    return training_of(backend, config, vector), published


@pytest.mark.parametrize("stage", [1, 2, 3])
@pytest.mark.parametrize("which", ["size", "skipping"])
def test_both_steps_have_the_same_losses_and_go_the_same_way(which, stage, request):
    size = request.getfixturevalue(which)
    from attndreambooth.benchmarks.ours import our_batch
    from attndreambooth.benchmarks.sizes import inputs_of

    ours, published = both(size, stage)
    with ours:
        for step in range(3):
            inputs = inputs_of(size, step)
            published_loss = published.loss(inputs.latents, inputs)
            published_loss.backward()
            published.optimizer.step()
            published.optimizer.zero_grad()
            found = ours.step(step, our_batch(inputs)).read()
            assert found.shares["attention_map"] > 1e-3 * found.total  # both parts weigh in
            assert found.total == pytest.approx(published_loss.item(), rel=1e-4)
    if stage == 1:
        torch.testing.assert_close(
            ours.embeddings["clip_l"][0], published.vector, rtol=1e-3, atol=1e-5
        )


def test_the_published_step_runs_whole_on_pictures(size):
    from attndreambooth.benchmarks.sizes import inputs_of

    _, published = both(size, 2)
    first, second = (published.step(inputs_of(size, 1)) for _ in range(2))
    assert first > 0
    assert first != second  # the first step's update changed the model
    assert all(p.grad is not None for p in published.model.text.encoder.parameters())


@pytest.mark.parametrize("name", ["micro", "sd15_small", "sd21"])
def test_every_size_that_is_timed_has_the_published_u_net(name, host):
    """Each of its weights in its place: ComfyUI's predicts the same."""
    from attndreambooth.benchmarks import sizes
    from attndreambooth.benchmarks.diffusers_layers import diffusers_layers
    from attndreambooth.benchmarks.reference_step import published_unet
    from attndreambooth.devkit.tiny_model import plain_unet

    config = getattr(sizes, name)().unet
    if name != "micro":  # the layout, narrow
        heads = {"num_head_channels": 8} if config["num_head_channels"] > 0 else {}
        config = {**config, "model_channels": 32, **heads}
    ours = plain_unet(config, 0)
    weights = ours.state_dict()
    assert set(diffusers_layers(config).values()) >= set(weights)
    theirs = published_unet(config, weights)
    z, t = torch.randn(1, config["in_channels"], 16, 16), torch.tensor([500])
    context = torch.randn(1, 7, config["context_dim"])
    with torch.no_grad():
        expected = ours(z, t, context=context)
        found = theirs(z, t, encoder_hidden_states=context).sample
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
