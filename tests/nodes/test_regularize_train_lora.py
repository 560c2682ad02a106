"""Regularize Attention (Train LoRA), in front of the host's own node."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.host

ID, NAME = "AttnDBRegularizeTrainLora", "Regularize Attention \\(Train LoRA\\)"
TEXT = "a photo of a sks robot"


@pytest.fixture(scope="module")
def micro(host) -> Any:
    """MODEL, CLIP and VAE of the embedded model, loaded as the host runs nodes."""
    from attndreambooth.nodes.host.model.micro import load_micro

    with torch.inference_mode():
        return load_micro()


@pytest.fixture
def regularize(run, micro):
    def regularized(**changes: Any) -> Any:
        values = {"model": micro[0], "clip": micro[1], "token": "sks", "category": "robot"}
        values |= {"mean_weight": 2.0, "variance_weight": 5.0, **changes}
        texts = values.pop("text", [TEXT])
        return run(ID, text=texts, **{name: [value] for name, value in values.items()})

    return regularized


def train(model: Any, positive: list[Any], micro: Any, **changes: Any) -> tuple[Any, ...]:
    """The LoRA and the losses of the host's own node, two steps on random latents."""
    from comfy_extras.nodes_train import TrainLoraNode

    inputs = TrainLoraNode.define_schema().inputs
    values = {i.id: given for i in inputs if (given := getattr(i, "default", None)) is not None}
    channels = micro[0].model.latent_format.latent_channels
    latents = torch.randn(2, channels, 8, 8, generator=torch.Generator().manual_seed(1))
    values |= {"model": model, "latents": {"samples": latents}, "steps": 2, "seed": 3}
    values |= {"training_dtype": "fp32", "lora_dtype": "fp32", "gradient_checkpointing": False}
    known = inspect.signature(TrainLoraNode.execute).parameters
    values = {name: value for name, value in {**values, **changes}.items() if name in known}
    listed = {name: [value] for name, value in values.items()}
    torch.manual_seed(0)  # the node draws a LoRA's first values before it takes its own seed
    lora, losses, *_ = TrainLoraNode.execute(**listed, positive=positive).args
    return lora, losses["loss"]


def test_the_hosts_node_trains_another_lora_from_the_same_first_forward_pass(regularize, micro):
    model, positive = regularize(mean_weight=200.0, variance_weight=500.0)
    first = {name: value.clone() for name, value in micro[0].model.state_dict().items()}
    lora, losses = train(model, positive, micro)
    plain, plain_losses = train(micro[0], positive, micro)
    assert losses[0] == plain_losses[0] and losses[1] != plain_losses[1]
    assert set(lora) == set(plain)
    moved = [name for name in lora if not torch.equal(lora[name], plain[name])]
    assert any("attn2.to_k" in name for name in moved)
    assert all(torch.isfinite(value).all() for value in lora.values())
    assert not micro[0].wrappers and set(model.wrappers) == {"outer_sample", "diffusion_model"}
    now = micro[0].model.state_dict()
    assert all(torch.equal(now[name], value) for name, value in first.items())
    unet = micro[0].model.diffusion_model
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in unet.modules())


def test_checkpointing_and_bypass_of_the_hosts_node_train_the_same_lora(regularize, micro):
    model, positive = regularize(mean_weight=200.0, variance_weight=500.0)
    lora, losses = train(model, positive, micro)
    ways = [{"gradient_checkpointing": True}, {"bypass_mode": True}]
    if "force_deepcopy" not in inspect.signature(type(micro[0]).clone).parameters:
        ways.pop()  # an older host's trainer cannot: it trains on the loaded, inference tensors
    for changes in ways:
        again, same = train(model, positive, micro, **changes)
        assert same == pytest.approx(losses, rel=1e-4), changes
        for name, value in lora.items():
            torch.testing.assert_close(again[name], value, rtol=1e-2, atol=2e-4)


def test_a_list_of_captions_comes_out_encoded_in_its_order(regularize, micro, caplog):
    texts = [TEXT, "a photo of a cat", "sks robot on the beach", TEXT]
    model, positive = regularize(text=texts)
    assert len(positive) == 4
    for text, conditioning in zip(texts, positive, strict=True):
        encoded = micro[1].encode_from_tokens_scheduled(micro[1].tokenize(text))
        assert torch.equal(conditioning[0][0], encoded[0][0])
    assert "not tied in 'a photo of a cat': the word 'sks' is not in the prompt" in caplog.text
    assert model is not micro[0]


def test_both_weights_0_give_the_model_itself(regularize, micro):
    model, positive = regularize(mean_weight=0.0, variance_weight=0.0)
    assert model is micro[0] and len(positive) == 1


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"token": ""}, "token is empty"),
        ({"token": "ohwx"}, "'ohwx' is not in the prompt; its words are: a#1, photo, of"),
        ({"category": "dog"}, "'dog' is not in the prompt"),
        ({"text": ["a sks"], "category": ""}, "no word after 'sks'"),
        ({"category": "sks"}, "the same word"),
    ],
)
def test_words_that_are_not_there_are_said_by_the_node(regularize, wrong, reason):
    with pytest.raises(RuntimeError, match=f"{NAME}: .*{reason}"):
        regularize(**wrong)


def test_a_checkpoint_without_clip_is_said(regularize):
    with pytest.raises(RuntimeError, match=f"{NAME}: CLIP is missing"):
        regularize(clip=None)


def test_captions_that_the_trainer_never_gets_stop_it(regularize, micro):
    model, _ = regularize()
    other = micro[1].encode_from_tokens_scheduled(micro[1].tokenize("a photo of a robot"))
    with pytest.raises(ValueError, match=f"{NAME}: the trainer never sees both words"):
        train(model, [other], micro)


def test_in_bf16_with_the_nodes_own_checkpointing_it_trains(regularize, micro):
    model, positive = regularize(mean_weight=200.0, variance_weight=500.0)
    changes = {"training_dtype": "bf16", "lora_dtype": "bf16", "gradient_checkpointing": True}
    lora, losses = train(model, positive, micro, steps=1, **changes)
    plain, plain_losses = train(micro[0], positive, micro, steps=1, **changes)
    assert losses == plain_losses
    assert all(torch.isfinite(value).all() for value in lora.values())
    moved = [name for name in lora if not torch.equal(lora[name], plain[name])]
    assert any("attn2.to_q" in name for name in moved)
