"""OFT beside the peft library's: the same turned layers, loss, gradient, limit and merged weights.

peft keeps the skew matrix S by what is above its diagonal, and turns a layer's inputs, x Q; ours
keeps a matrix whose skew part is S, and turns the weights, W Q^T. Q = (I - S)(I + S)^-1 in both:
peft's exact Cayley map, not its series, with blocks of their own.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

CPU = torch.device("cpu")
BLOCKS, WEIGHT = 4, 0.7
LIMIT = 6e-3
"""A hundred times the published one: for layers of a tenth of the width."""
CLOSE = 1e-4
ROUNDING = 1e-7
"""All that there is of the gradient of some queries and keys."""


@pytest.fixture(scope="module")
def size(host):
    from attndreambooth.benchmarks.sizes import tiny

    return tiny()


def with_oft(unet: Any, limited: bool) -> dict[str, Any]:
    """peft's layers in a U-Net; what turns each, by the plain name of the layer's weight. A limit
    is peft's own for one width: of every layer it is put to COFT's, which grows with its square."""
    from peft import OFTConfig, inject_adapter_in_model

    names = ["to_q", "to_k", "to_v", "to_out.0"]
    given = OFTConfig(
        r=BLOCKS, oft_block_size=0, target_modules=names, coft=limited, use_cayley_neumann=False
    )
    inject_adapter_in_model(given, unet)
    turns = {
        f"{name}.weight": layer.oft_R["default"]
        for name, layer in unet.named_modules()
        if hasattr(layer, "oft_R")
    }
    for turn in turns.values():
        turn.eps = LIMIT * turn.block_size**2
    return turns


def skew_of(turn: Any, seed: int) -> torch.Tensor:
    """(R, D, D), for a layer of peft's."""
    shape = (BLOCKS, turn.block_size, turn.block_size)
    drawn = 0.3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return drawn.triu(1) - drawn.triu(1).transpose(1, 2)


@pytest.mark.parametrize("limited", [False, True])
def test_output_loss_gradient_limit_and_merge_are_those_of_peft(size, limited):
    from attndreambooth.attndb.config.compared import published
    from attndreambooth.attndb.config.orthogonal import OrthogonalConfig
    from attndreambooth.attndb.losses.totals import LossTotals
    from attndreambooth.attndb.models.conditioning import Conditioning
    from attndreambooth.benchmarks.diffusers_layers import diffusers_layers
    from attndreambooth.benchmarks.ours import initial_vector, our_backend, our_batch
    from attndreambooth.benchmarks.reference_step import PublishedModel
    from attndreambooth.benchmarks.sizes import FIRST_NEW_ID, inputs_of, weights_of
    from attndreambooth.devkit.training import parameters_of, training_of

    backend = our_backend(size, weights_of(size), CPU)
    vector, count = initial_vector(backend), size.batch
    batch, prior = our_batch(inputs_of(size, 1)), our_batch(inputs_of(size, 2))
    prior = replace(prior, prompts=tuple(p.without_placeholder() for p in prior.prompts))
    batch = replace(batch, prior=prior, prior_weight=WEIGHT)
    config = published("oft").with_(batch_size=count, precision="fp32")
    config = config.with_(orthogonal=OrthogonalConfig(constraint=LIMIT if limited else 0.0))
    names = diffusers_layers(size.unet)

    theirs = PublishedModel(size, weights_of(size), CPU)
    theirs.unet.requires_grad_(False)
    plain = {name: weight.clone() for name, weight in theirs.unet.named_parameters()}
    latents, noise, t = (
        torch.cat([getattr(one, name) for one in (batch, prior)])
        for name in ("latents", "noise", "timesteps")
    )
    z_t = theirs.scheduler.add_noise(latents, noise, t)
    with torch.no_grad():
        embedding: Any = theirs.text.get_input_embeddings()
        embedding.weight[FIRST_NEW_ID] = vector[0]
        words = [
            [FIRST_NEW_ID if token is None else token for token in prompt.tokens]
            for prompt in (*batch.prompts, *prior.prompts)
        ]
        states = theirs.text(torch.tensor(words)).last_hidden_state
        untouched = theirs.unet(z_t, t, states).sample

    turns = with_oft(theirs.unet, limited)
    skews = {name: skew_of(turn, number) for number, (name, turn) in enumerate(turns.items())}
    for name, turn in turns.items():
        turn.weight.data.copy_(skews[name][:, turn.rows, turn.cols])
        turn.weight.requires_grad_(True)
    found = theirs.unet(z_t, t, states).sample
    loss = F.mse_loss(found[:count], noise[:count])
    loss = loss + WEIGHT * F.mse_loss(found[count:], noise[count:])
    loss.backward()

    with training_of(backend, config, vector) as training:
        learner, totals, ours = training.learner, LossTotals.of(batch), parameters_of(training)
        assert set(ours) == {names[name] for name in turns}
        with torch.no_grad():
            for name, skew in skews.items():
                ours[names[name]].copy_(skew)
        learner.after_step()
        parts = [learner.losses(part, totals) for part in batch.parts(count)]
        total = torch.stack([value for part in parts for value in part.values()]).sum()
        total.backward()
        gradients = {name: generator.grad for name, generator in ours.items()}
        with torch.no_grad():
            output = backend.denoise(z_t, t, Conditioning({"clip_l": states}))
        delta = learner.learned().delta

    with torch.no_grad():
        change = found - untouched
        assert change.norm() > 0.01 * found.norm()
        assert (output - found).norm() < CLOSE * change.norm()
    assert total.item() == pytest.approx(loss.item(), rel=CLOSE)
    for name, turn in turns.items():
        kept = ours[names[name]].detach()[:, turn.rows, turn.cols]
        torch.testing.assert_close(kept, turn.weight.detach(), rtol=1e-5, atol=1e-8)
        assert limited == bool(kept.norm() < 0.5 * skews[name].triu(1).norm())
        gradient = gradients[names[name]]  # of S and of -S: peft's one number is both
        gradient = (gradient - gradient.transpose(1, 2))[:, turn.rows, turn.cols]
        off = float((gradient - turn.weight.grad).norm())
        assert off < CLOSE * float(turn.weight.grad.norm()) + ROUNDING, name
        layer: Any = theirs.unet.get_submodule(name.removesuffix(".weight"))
        layer.merge()
        merged = plain[name] + delta[names[name]]
        torch.testing.assert_close(merged, layer.base_layer.weight, rtol=1e-4, atol=1e-6)
