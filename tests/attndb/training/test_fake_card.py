"""A step on a card that is not there: every tensor that it touches is where it has to be."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from support.operations import Operations
from torch._subclasses.fake_tensor import DataDependentOutputException

from attndreambooth.attndb.artifacts.weight_delta import dense
from attndreambooth.attndb.config.compared import published
from attndreambooth.attndb.config.optimizer import OptimizerConfig
from attndreambooth.attndb.config.regularization import Regularization
from attndreambooth.attndb.config.stage import StageConfig
from attndreambooth.attndb.data.batch import Batch
from attndreambooth.attndb.losses.totals import LossTotals
from attndreambooth.attndb.training.step_loss import PendingLoss
from attndreambooth.devkit.fake_card import CARD, fake_card, on_fake_card
from attndreambooth.devkit.tiny_model import UNET_CONFIG, random_batch, tiny_model
from attndreambooth.devkit.training import training_of

VECTORS = torch.zeros(1, 32)


def model_on_card(model):
    """The model with its weights on the fake card."""
    from attndreambooth.nodes.host.model.private_model import PrivateModel
    from attndreambooth.nodes.host.model.text_encoder import TextEncoder

    [(name, encoder)] = model.text_encoders.items()
    text = TextEncoder(on_fake_card(encoder))
    text.model.set_clip_options({"execution_device": CARD})
    text._device = CARD
    there = PrivateModel(on_fake_card(model.unet), {name: text}, model.diffusion, CARD)
    there.offload_text_encoder = lambda: None  # a fake parameter cannot be moved in place
    return there


def losses_of(training):
    return training.learner.losses(random_batch(3, masked=True).to(CARD), LossTotals(1.0, 0.0))


def config(number, **choices):
    return StageConfig(
        stage=number,
        steps=2,
        batch_size=3,
        optimizer=OptimizerConfig(learning_rate=1e-3),
        regularization=Regularization(mean_weight=2.0, variance_weight=5.0),
        **choices,
    )


@pytest.mark.parametrize(
    ("number", "choices"),
    [
        (1, {"precision": "bf16"}),
        (1, {"precision": "fp32", "gradient_checkpointing": "full"}),
        (2, {"precision": "auto"}),
        (2, {"precision": "bf16", "lora_rank": 2, "gradient_checkpointing": "light"}),
        (3, {"precision": "fp32", "min_snr_gamma": 5.0, "micro_batch": 2}),
        (3, {"precision": "bf16", "ema_decay": 0.9, "gradient_checkpointing": "full"}),
    ],
)
def test_every_tensor_of_a_step_is_on_the_card(host, number, choices):
    """Forward pass and update; the backward pass between them needs a card."""
    model = tiny_model()
    with fake_card():
        training = training_of(model_on_card(model), config(number, **choices), VECTORS)
        with training:
            for loss in losses_of(training).values():
                assert (loss.device, loss.dtype) == (CARD, torch.float32)
                assert loss.requires_grad
            for value in training.trainable:
                value.grad = torch.empty_like(value)
            training.optimizer.step()
            states = training.optimizer.state.values()
            moments = [v for state in states for k, v in state.items() if k != "step"]
            assert moments and {value.device for value in moments} == {CARD}
            if training.ema is not None:
                training.ema.update()
                assert {value.device for value in training.ema.values} == {CARD}


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_the_taps_statistics_are_fp32_under_autocast_of_the_card(host, precision, monkeypatch):
    from attndreambooth.attndb.attention import tap

    queries, found, plain = set(), set(), tap.column_statistics

    def watched(q, *rest):
        statistics = plain(q, *rest)
        queries.add(q.dtype)
        found.update((value.device, value.dtype) for value in statistics)
        return statistics

    monkeypatch.setattr(tap, "column_statistics", watched)
    model = tiny_model()
    with fake_card():
        training = training_of(model_on_card(model), config(2, precision=precision), VECTORS)
        with training:
            losses_of(training)
    assert queries == {torch.bfloat16 if precision == "bf16" else torch.float32}
    assert found == {(CARD, torch.float32)}


def test_a_tensor_left_behind_is_found(host):
    model = tiny_model()
    with fake_card():
        training = training_of(model_on_card(model), config(2, precision="fp32"), VECTORS)
        batch = random_batch(3, masked=True)
        left = dataclasses.replace(batch.to(CARD), mask=batch.mask)
        with training, pytest.raises(RuntimeError, match=r"(?i)device"):
            training.learner.losses(left, LossTotals(1.0, 0.0))


def test_a_batch_goes_to_the_card_from_pinned_memory_and_is_not_waited_for(monkeypatch):
    calls = []

    def pinned(tensor):
        calls.append("pin")
        return tensor

    def sent(tensor, device, **how):
        calls.append((device, how))
        return tensor

    monkeypatch.setattr(torch.Tensor, "pin_memory", pinned)
    monkeypatch.setattr(torch.Tensor, "to", sent)
    batch = random_batch(2, masked=True)
    batch.to(CARD)
    tensors = [f for f in dataclasses.fields(Batch) if torch.is_tensor(getattr(batch, f.name))]
    assert calls == ["pin", (CARD, {"non_blocking": True})] * len(tensors)


def test_a_batch_for_another_device_is_waited_for(monkeypatch):
    asked = []
    monkeypatch.setattr(
        torch.Tensor, "to", lambda tensor, *_, **how: (asked.append(how), tensor)[1]
    )
    random_batch(2).to(torch.device("mps"))
    assert asked and not any(asked)


@pytest.mark.parametrize(
    ("capability", "kind"), [((7, 5), torch.float32), ((8, 6), torch.bfloat16)]
)
def test_a_card_without_bf16_products_attends_in_fp32(host, monkeypatch, capability, kind):
    from attndreambooth.nodes.host.model.private_model import PrivateModel

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)
    made = tiny_model()
    unet = PrivateModel(made.unet, {}, made.diffusion, CARD).unet  # it waits in main memory
    kinds, attention = set(), torch.nn.functional.scaled_dot_product_attention

    def seen(q, k, v, **more):
        kinds.add((q.dtype, torch.is_autocast_enabled("cpu") and q.dtype == torch.float32))
        return attention(q, k, v, **more)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", seen)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        context = torch.zeros(1, 77, UNET_CONFIG["context_dim"])
        unet(torch.zeros(1, 4, 8, 8), torch.tensor([5]), context=context, transformer_options={})
    assert kinds == {(kind, False)}


def no_doubles_on_the_card():
    """Inside, the card is one without fp64, as Apple's are: making a tensor of it raises."""

    def tell(func, _, made):
        for one in made:
            assert one.device != CARD or one.dtype != torch.float64, func

    return Operations(tell)


@pytest.mark.parametrize("kind", ["epsilon", "v"])
def test_a_card_without_fp64_is_never_asked_for_it(host, kind):
    model = tiny_model(kind)
    with fake_card():
        there = model_on_card(model)
        with no_doubles_on_the_card():
            training = training_of(there, config(3, precision="fp32", min_snr_gamma=5.0), VECTORS)
            with training:
                shares = list(losses_of(training).values())
                pending = PendingLoss(0, ("denoising", "attention_map"), torch.stack(shares)[None])
                with pytest.raises(DataDependentOutputException):  # it gets as far as the values
                    pending.read()


def test_a_rotation_s_change_is_worked_out_where_there_is_fp64(host):
    settings = published("oft").with_(precision="fp32")
    model = tiny_model()
    with fake_card():
        there = model_on_card(model)
        with no_doubles_on_the_card(), training_of(there, settings, VECTORS) as training:
            changes = training.learner.learned().delta
    assert changes and {dense(change).device.type for change in changes.values()} == {"cpu"}
