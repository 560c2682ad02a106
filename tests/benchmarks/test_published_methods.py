"""The compared methods beside diffusers and transformers: the same loss and the same gradient.

Steps are those of diffusers' training examples (textual_inversion, dreambooth, custom_diffusion),
made of the library's own U-Net, schedule and attention processors.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

CPU = torch.device("cpu")
WORDS = {"textual_inversion", "ti_dreambooth", "custom_diffusion"}
"""Methods whose word learns."""
CLOSE = 1e-4
ROUNDING = 1e-7
"""All that there is of the gradient of a bias in front of a norm."""
WEIGHT = 0.7
"""Of prior samples."""


@pytest.fixture(scope="module")
def size(host):
    from attndreambooth.benchmarks.sizes import tiny

    return tiny()


def class_prompt():
    """Token ids without the placeholder."""
    from attndreambooth.benchmarks.sizes import FIRST_NEW_ID, PROMPT

    return tuple(token for token in PROMPT if token != FIRST_NEW_ID)


def padded(prompt):
    from attndreambooth.benchmarks.sizes import TOKENS

    return prompt + (prompt[-1],) * (TOKENS - len(prompt))


def with_custom_diffusion(unet: Any) -> dict[str, torch.Tensor]:
    """diffusers' own processors, as its example puts them in; the weights that learn, by the names
    that they have in the plain U-Net."""
    from diffusers.models.attention_processor import CustomDiffusionAttnProcessor

    processors, learned = {}, {}
    for name in unet.attn_processors:
        path = name.removesuffix(".processor")
        layer = unet.get_submodule(path)
        cross = path.endswith("attn2")
        processors[name] = CustomDiffusionAttnProcessor(
            train_kv=cross,
            train_q_out=False,
            hidden_size=layer.to_q.weight.shape[0],
            cross_attention_dim=layer.to_k.weight.shape[1],
        )
        if cross:
            for kind in ("to_k", "to_v"):
                own = getattr(processors[name], f"{kind}_custom_diffusion").weight
                own.data.copy_(getattr(layer, kind).weight)
                learned[f"{path}.{kind}.weight"] = own
    unet.set_attn_processor(processors)
    return learned


def published_gradients(size: Any, method: str, vector: torch.Tensor, inputs: Any, prior: Any):
    """Loss and gradients of the step that diffusers' example makes, under its names."""
    from attndreambooth.benchmarks.reference_step import PublishedModel
    from attndreambooth.benchmarks.sizes import FIRST_NEW_ID, PROMPT, weights_of

    model = PublishedModel(size, weights_of(size), CPU)
    model.unet.requires_grad_(False)
    if method == "custom_diffusion":
        learned = with_custom_diffusion(model.unet)
    else:
        learned = {} if method == "textual_inversion" else dict(model.unet.named_parameters())
    for weight in learned.values():
        weight.requires_grad_(True)
    embedding: Any = model.text.get_input_embeddings()
    table = embedding.weight
    with torch.no_grad():
        table[FIRST_NEW_ID] = vector[0]

    count, sources = size.batch, [inputs] if prior is None else [inputs, prior]
    latents, noise, t = (
        torch.cat([getattr(source, name) for source in sources])
        for name in ("latents", "noise", "timesteps")
    )
    prompts = [padded(PROMPT)] * count
    prompts += [padded(class_prompt())] * (len(t) - count)
    states = model.text(torch.tensor(prompts)).last_hidden_state
    found = model.unet(model.scheduler.add_noise(latents, noise, t), t, states).sample
    loss = F.mse_loss(found[:count], noise[:count])
    if prior is not None:
        loss = loss + WEIGHT * F.mse_loss(found[count:], noise[count:])
    loss.backward()
    return loss.item(), {n: w.grad for n, w in learned.items()}, table.grad[FIRST_NEW_ID]


@pytest.mark.parametrize(
    "method", ["textual_inversion", "dreambooth", "ti_dreambooth", "custom_diffusion"]
)
def test_loss_and_gradient_are_those_of_diffusers(size, method):
    from attndreambooth.attndb.config.compared import published
    from attndreambooth.attndb.data.tokens import TokenizedText
    from attndreambooth.attndb.losses.totals import LossTotals
    from attndreambooth.benchmarks.diffusers_layers import diffusers_layers
    from attndreambooth.benchmarks.ours import initial_vector, our_backend, our_batch
    from attndreambooth.benchmarks.sizes import inputs_of, weights_of
    from attndreambooth.devkit.training import parameters_of, training_of

    backend = our_backend(size, weights_of(size), CPU)
    vector, inputs = initial_vector(backend), inputs_of(size, 1)
    prior = None if method == "textual_inversion" else inputs_of(size, 2)
    loss, weights, word = published_gradients(size, method, vector, inputs, prior)

    batch = our_batch(inputs)
    if prior is not None:
        text = TokenizedText("a photo of a doll", padded(class_prompt()))
        theirs = replace(our_batch(prior), prompts=(text,) * size.batch)
        batch = replace(batch, prior=theirs, prior_weight=WEIGHT)
    config = published(method).with_(batch_size=size.batch, precision="fp32")
    with training_of(backend, config, vector) as training:
        totals = LossTotals.of(batch)
        parts = [training.learner.losses(part, totals) for part in batch.parts(size.batch)]
        total = torch.stack([value for part in parts for value in part.values()]).sum()
        total.backward()
        ours = {name: parameter.grad for name, parameter in parameters_of(training).items()}

    assert total.item() == pytest.approx(loss, rel=CLOSE)
    names = diffusers_layers(size.unet)
    expected = {names[name]: gradient for name, gradient in weights.items()}
    if method in WORDS:
        expected["clip_l"] = word[None]
    assert set(ours) == set(expected)
    for name, gradient in expected.items():
        off = float((ours[name] - gradient).norm())
        assert off < CLOSE * float(gradient.norm()) + ROUNDING, name
