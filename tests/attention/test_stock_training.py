"""The regulariser in the host's own training loop, against whole attention matrices in fp64."""

from __future__ import annotations

from inspect import signature
from typing import Any

import pytest
import torch
from support.stock_trainer import Scaler, SlowRegularizer, gradients, trainable
from torch import Tensor

from attndreambooth.attndb.attention.tied_words import tied_columns
from attndreambooth.devkit.small_models import small_model
from attndreambooth.devkit.tiny_model import UNET_CONFIG, random_weights
from attndreambooth.devkit.wires import Loaded

pytestmark = pytest.mark.host

WEIGHTS = (200.0, 5000.0)
"""Large enough that the regulariser is no small part of the gradient of a random model."""
BOTH, LATER, NEITHER = "a photo of a sks dog", "in the snow a sks old dog runs", "a photo of a cat"
LONG = "sks dog" + ", very fine" * 30  # two chunks: shorter ones are repeated beside it


@pytest.fixture
def trained(host) -> Any:
    """A MODEL of the same weights that can be trained."""
    return trainable(small_model("sd15"))


@pytest.fixture
def xl(host) -> Any:
    """A small SDXL: the finest blocks, the last one too, have no text attention, others have two
    layers of it."""
    import comfy.model_patcher
    import comfy.supported_models

    config = comfy.supported_models.SDXL(
        {
            **UNET_CONFIG,
            "model_channels": 64,
            "context_dim": 64,
            "transformer_depth": [0, 2],
            "transformer_depth_output": [0, 0, 2, 2],
            "num_classes": "sequential",
            "adm_in_channels": 2816,
        }
    )
    config.set_inference_dtype(torch.float32, None)
    inner = config.get_model({}, "")
    inner.diffusion_model.load_state_dict(random_weights(inner.diffusion_model, 3))
    device = torch.device("cpu")
    return trainable(comfy.model_patcher.ModelPatcher(inner, device, device))


def regularized(loaded: Loaded, model: Any, texts: list[str]) -> Any:
    from attndreambooth.nodes.host.capture.prompt import prompt_words
    from attndreambooth.nodes.host.capture.stock_training import (
        TiedCaption,
        regularize_stock_training,
    )

    captions = [
        TiedCaption(t, tied_columns(prompt_words(loaded.clip, t), "sks", "dog"), loaded.encode(t))
        for t in texts
    ]
    return regularize_stock_training(model, captions, *WEIGHTS, "Node")


def slow(model: Any, columns: list[Any], times: float = 1.0) -> SlowRegularizer:
    return SlowRegularizer(model, columns, WEIGHTS, times)


SKS, DOG = 5, 6  # of BOTH: start, a, photo, of, a, sks, dog
PLACES = {BOTH: ((SKS, DOG), 77), LATER: ((5, 7), 77), NEITHER: None, LONG: ((1, 2), 154)}


def assert_equal_gradients(ours: list[Tensor], theirs: list[Tensor], plain: list[Tensor]) -> None:
    for mine, slow in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, slow, rtol=1e-3, atol=1e-4 * float(slow.abs().max()))
    differs = [float((s - p).norm() / p.norm()) for s, p in zip(theirs, plain, strict=True)]
    assert max(differs) > 0.05, "the regulariser can be seen in the gradient"


CASES: dict[str, dict[str, Any]] = {
    "one sample": {},
    "one caption for a batch": {"images": 2, "batch": 2},
    "accumulation": {"images": 2, "batch": 1, "accumulate": 2},
    "sizes one by one": {"sizes": [(8, 8), (8, 12)], "batch": 2},
    "a bucket": {"sizes": [(8, 8)] * 2 + [(8, 12)] * 2, "bucket": True, "batch": 2},
    "scaled for fp16": {"scaler": Scaler()},
}


@pytest.mark.parametrize("case", CASES)
def test_the_gradient_is_that_of_the_trainers_loss_plus_the_regulariser(sd15, trained, case):
    from comfy_extras.nodes_train import TrainSampler

    how = CASES[case]
    if "scaler" in how and "use_grad_scaler" not in signature(TrainSampler).parameters:
        pytest.skip("this host's trainer scales no loss")
    count = len(how.get("sizes", [])) or how.get("images", 1)
    positive = [sd15.encode(BOTH)] * count
    losses, plain = gradients(trained, positive, **how)
    # the trainer divides its own loss by these; the regulariser is a sum over samples
    times = how.get("accumulate", 1) * (2 if case == "sizes one by one" else 1)
    rows = 2 if case in ("one caption for a batch", "a bucket") else 1
    with slow(trained, [PLACES[BOTH]] * rows, times) as add:
        _, theirs = gradients(trained, positive, add=add, **how)
    same, ours = gradients(regularized(sd15, trained, [BOTH]), positive, **how)
    assert same == losses, "the forward pass is the same to the last bit"
    assert_equal_gradients(ours, theirs, plain)
    assert_leaves_no_trace(trained)


def assert_leaves_no_trace(model: Any) -> None:
    unet = model.model.diffusion_model
    assert not any(module._forward_hooks for module in unet.modules())
    assert not model.wrappers and "patches_replace" not in model.model_options.get(
        "transformer_options", {}
    )


def order_of(texts: list[str]) -> list[str]:
    """The batch's conditionings as the trainer chose them, in the order of the model's rows."""
    torch.manual_seed(11)
    chosen = torch.randperm(len(texts)).tolist()
    return [texts[i] for i in reversed(chosen)]  # the host batches them from the last


@pytest.mark.parametrize("other", [LATER, NEITHER, LONG])
def test_of_captions_that_differ_each_has_its_own_columns(sd15, trained, other):
    texts = [BOTH, other]
    positive = [sd15.encode(text) for text in texts]
    losses, plain = gradients(trained, positive, images=2, batch=2)
    with slow(trained, [PLACES[text] for text in order_of(texts)]) as add:
        _, theirs = gradients(trained, positive, images=2, batch=2, add=add)
    known = [text for text in texts if PLACES[text] is not None]
    model = regularized(sd15, trained, known)
    same, ours = gradients(model, positive, images=2, batch=2)
    assert same == losses
    assert_equal_gradients(ours, theirs, plain)


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
def test_under_the_hosts_checkpointing_it_is_the_same(sd15, trained, depth):
    positive = [sd15.encode(BOTH)] * 2
    how = {"sizes": [(8, 8), (8, 12)], "batch": 2}
    model = regularized(sd15, trained, [BOTH])
    losses, plain = gradients(model, positive, **how)
    same, ours = gradients(model, positive, depth=depth, **how)
    assert same == losses
    for mine, once in zip(ours, plain, strict=True):
        torch.testing.assert_close(mine, once, rtol=1e-5, atol=1e-6 * float(once.abs().max()))


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_sdxl_is_regularised_too(sd15, xl, depth):
    """Where the last block has none, blocks that are computed again are told a block without."""
    positive = [[[sd15.encode(BOTH)[0][0], {"pooled_output": torch.zeros(1, 1280)}]]]
    losses, plain = gradients(xl, positive)
    with slow(xl, [PLACES[BOTH]]) as add:
        _, theirs = gradients(xl, positive, add=add)
    same, ours = gradients(regularized(sd15, xl, [BOTH]), positive, depth=depth)
    assert same == losses
    assert_equal_gradients(ours, theirs, plain)


def test_patches_in_front_act_as_they_do_alone(sd15, trained):
    seen = []

    def replacement(q, k, v, extra_options):
        from comfy.ldm.modules.attention import optimized_attention

        seen.append(extra_options["block"])
        return 0.7 * optimized_attention(q, k, v, extra_options["n_heads"]) + 0.1

    def scale(n, extra_options):
        return n * 1.1

    positive = [sd15.encode(BOTH)]
    patched = trained.clone()
    patched.set_model_attn2_replace(replacement, "input", 1)
    patched.set_model_attn2_output_patch(scale)
    losses, plain = gradients(patched, positive)
    with slow(trained, [PLACES[BOTH]]) as add:
        _, theirs = gradients(patched, positive, add=add)
    seen.clear()
    same, ours = gradients(regularized(sd15, patched, [BOTH]), positive, depth=1)
    assert seen == [("input", 1)] * 2, "once forward, once computed again"
    assert same == losses
    assert_equal_gradients(ours, theirs, plain)


def test_a_layer_whose_queries_another_node_multiplies_is_left_out_and_said(sd15, trained, caplog):
    def double(n, context, value, extra_options):
        return torch.cat([n, n]), torch.cat([context, context]), torch.cat([value, value])

    def halve(n, extra_options):
        return n.chunk(2)[0]

    patched = trained.clone()
    patched.set_model_attn2_patch(double)
    patched.set_model_attn2_output_patch(halve)
    positive = [sd15.encode(BOTH)]
    _, plain = gradients(patched, positive)
    _, ours = gradients(regularized(sd15, patched, [BOTH]), positive)
    assert all(torch.equal(p, o) for p, o in zip(plain, ours, strict=True))
    assert "Node: another node changes the queries" in caplog.text


def test_drawing_with_it_is_drawing_without(sd15):
    model = regularized(sd15, sd15.model, [BOTH])
    positive, negative = sd15.encode(BOTH), sd15.encode("")
    assert torch.equal(
        sd15.draw(model, positive, negative), sd15.draw(sd15.model, positive, negative)
    )


def test_a_trainer_that_never_sees_both_words_is_stopped_by_name(sd15, trained):
    model = regularized(sd15, trained, [BOTH, LATER])
    with pytest.raises(ValueError, match=f"Node: the trainer never sees both words.*{BOTH}"):
        gradients(model, [sd15.encode(NEITHER)])


def test_captions_without_both_words_are_counted_in_the_log(sd15, trained, caplog):
    model = regularized(sd15, trained, [BOTH])
    gradients(model, [sd15.encode(BOTH), sd15.encode(NEITHER)], images=2, batch=2)
    assert "1 of 2 conditionings are none of its captions" in caplog.text
