"""A batch of several prompts: every sample has its own text states and its own columns."""

from __future__ import annotations

import pytest
import torch
from support.prior import VECTORS, gradient_of, stage
from support.slow_loss import slow_denoising, slow_regularization

from attndreambooth.devkit.tiny_model import PHOTO_OF, prompt_of, random_batch, tiny_model

PROMPTS = [prompt_of(), prompt_of(before=(320,)), prompt_of(before=(*PHOTO_OF, 1125, 539))]
"""The placeholder at places 5, 2 and 7."""


def batch():
    return random_batch(4, prompts=PROMPTS, masked=True)


def flat(gradient, names):
    return torch.cat([gradient[name].flatten() for name in names])


def test_the_loss_of_several_prompts_is_that_of_each_sample_with_its_own():
    gradient, loss = gradient_of(2, batch())
    backend = tiny_model()
    trained = {n: p for n, p in backend.unet.named_parameters() if n in gradient}
    for parameter in trained.values():
        parameter.requires_grad_(True)
    own = slow_denoising(backend, batch(), 0.0)
    tied = slow_regularization(backend, batch(), stage(2).regularization)
    slow = torch.autograd.grad(own + tied, list(trained.values()))
    assert loss.shares["denoising"] == pytest.approx(own.item(), rel=1e-5)
    assert loss.shares["attention_map"] == pytest.approx(tied.item(), rel=1e-4)
    ours, slow = flat(gradient, trained), torch.cat([g.flatten() for g in slow])
    assert float((ours - slow).norm() / slow.norm()) < 1e-4


@pytest.mark.parametrize("number", [1, 2])
def test_one_sample_at_a_time_gives_the_gradient_of_the_whole(number):
    whole, loss = gradient_of(number, batch())
    parts, same = gradient_of(number, batch(), micro_batch=1)
    one, other = flat(whole, whole), flat(parts, whole)
    rounding = torch.finfo(torch.float32).eps * one.numel() ** 0.5
    assert float((one - other).norm() / one.norm()) < 10 * rounding
    assert same.total == pytest.approx(loss.total, rel=1e-5)


def test_the_text_encoder_leaves_once_for_all_prompts_that_are_new():
    from attndreambooth.attndb.methods.denoising import TextStates

    model, left = tiny_model(), []
    model.offload_text_encoder = lambda: left.append(1)
    states = TextStates(model, {"clip_l": VECTORS}, bf16=False)
    both = states(PROMPTS)
    assert left == [1] and both.text["clip_l"].shape[0] == 3
    states(PROMPTS[:2])
    assert left == [1], "all are known"
    assert not torch.equal(both.text["clip_l"][0], both.text["clip_l"][1])
