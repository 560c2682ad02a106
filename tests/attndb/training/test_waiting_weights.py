"""Of a card, weights wait in main memory: what is frozen is there in bf16 alone, and only while a
stage needs it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

from attndreambooth.attndb.losses.totals import LossTotals
from attndreambooth.attndb.models import placement
from attndreambooth.attndb.models.placement import place
from attndreambooth.attndb.models.precision import FrozenInBf16, is_matrix
from attndreambooth.attndb.training.attention_monitor import (
    AttentionMonitor,
    AttentionMonitorSettings,
)
from attndreambooth.devkit.fake_card import CARD, fake_card
from attndreambooth.devkit.tiny_model import (
    UNET_CONFIG,
    prompt_of,
    random_batch,
    tiny_model,
    tiny_xl_model,
)
from attndreambooth.devkit.training import training_of

from .test_fake_card import VECTORS, config

CASES = [
    (1, {"precision": "bf16"}),
    (1, {"precision": "fp32"}),
    (2, {"precision": "bf16"}),
    (2, {"precision": "bf16", "lora_rank": 2}),
    (2, {"precision": "bf16", "lora_rank": 2, "weight_anchor": 0.1, "prior_prediction": 0.1}),
    (3, {"precision": "fp32", "ema_decay": 0.9}),
    (3, {"precision": "bf16", "weight_anchor": 0.1, "prior_prediction": 0.1}),
    (3, {"low_memory": True}),
    (3, {"low_memory": True, "lora_rank": 2}),
]


def waiting_for_the_card(model):
    """The model with fake weights in main memory, as a stage node makes it for a card."""
    from attndreambooth.nodes.host.model.private_model import PrivateModel
    from attndreambooth.nodes.host.model.text_encoder import TextEncoder

    for module in (model.unet, *model.text_encoders.values()):
        for owner in module.modules():
            for name, value in list(owner._parameters.items()):
                if value is not None:
                    fake = nn.Parameter(torch.empty(value.shape), requires_grad=False)
                    owner._parameters[name] = fake
            for name, value in list(owner._buffers.items()):
                if value is not None:
                    owner._buffers[name] = torch.empty(value.shape, dtype=value.dtype)
    text = {name: TextEncoder(encoder) for name, encoder in model.text_encoders.items()}
    for encoder in text.values():
        encoder.model.set_clip_options({"execution_device": CARD})
    base = {name: w.clone() for name, w in model.unet.named_parameters() if ".attn2." in name}
    return PrivateModel(model.unet, text, model.diffusion, CARD, base_weights=base)


@pytest.mark.parametrize(("number", "choices"), CASES)
def test_what_is_frozen_is_on_the_card_in_bf16_alone_and_waits_again_after_it(
    host, number, choices, monkeypatch
):
    model = tiny_model()
    with fake_card():
        backend = waiting_for_the_card(model)
        assert backend.initial_embeddings((7, 9), 2)["clip_l"].device.type == "cpu"
        sent, plain = [], placement.put
        monkeypatch.setattr(
            placement, "put", lambda weight, value: (sent.append(id(weight)), plain(weight, value))
        )
        training = training_of(backend, config(number, **choices), VECTORS)
        trained = {id(parameter) for parameter in training.trainable}
        bf16 = training.learner.denoising.bf16
        assert {value.device for value in training.trainable} == {CARD}
        with training:
            for name, weight in backend.unet.named_parameters():
                assert weight.device == CARD, name
                if id(weight) not in trained and weight.ndim >= 2:
                    assert weight.dtype == (torch.bfloat16 if bf16 else torch.float32), name
            batch = random_batch(3, masked=True).to(CARD)
            for part in (batch, batch.for_base()) if "prior_prediction" in choices else (batch,):
                for loss in training.learner.losses(part, LossTotals(1.0, 1.0, 1.0)).values():
                    assert loss.device == CARD
            if "weight_anchor" in choices:
                learner: Any = training.learner
                assert learner.anchor()["weight_anchor"].device == CARD
            if training.ema is not None:
                assert {value.device for value in training.ema.values} == {CARD}
        if bf16:
            matrices = [p for p in backend.unet.parameters() if is_matrix(p)]
            waiting = {id(p) for p in matrices if p.device.type == "cpu"}
            assert {id(p) for p in matrices} - trained == waiting
            assert waiting.isdisjoint(sent), "for a while in fp32 on the card"


def test_the_look_before_the_first_step_leaves_no_weight_on_the_card(host, tmp_path, monkeypatch):
    """The photos are encoded after it, where the memory said before counts no U-Net."""
    prompt, photo = prompt_of(), Image.new("RGB", (64, 64))
    looks = []

    def look(self, step, model, predict, embeddings):
        text = model.encode_text(prompt, {n: v.to(CARD) for n, v in embeddings.items()})
        z_t, t = torch.empty(1, 4, 8, 8, device=CARD), torch.zeros(1, device=CARD)
        looks.append(predict(z_t, t, text).device)

    monkeypatch.setattr(AttentionMonitor, "_look", look)
    model = tiny_model()
    with fake_card():
        backend = waiting_for_the_card(model)
        latent, names = torch.empty(1, 4, 8, 8), ("<my-doll>", "doll")
        settings = AttentionMonitorSettings()
        monitor = AttentionMonitor(settings, prompt, names, latent, photo, 3, tmp_path)
        monitor.begin(backend, {"clip_l": torch.empty(1, 32)})
        assert looks == [CARD]
        assert {weight.device.type for weight in backend.unet.parameters()} == {"cpu"}


def test_sdxls_text_encoders_learn_from_bf16_weights(host):
    model = tiny_xl_model()
    with fake_card():
        backend = waiting_for_the_card(model)
        start = backend.initial_embeddings((7,), 1)
        with training_of(backend, config(1, precision="bf16"), start) as training:
            batch = random_batch(3, masked=True, sized=True).to(CARD)
            losses = training.learner.losses(batch, LossTotals(1.0, 0.0))
            assert {loss.device for loss in losses.values()} == {CARD}
            for encoder in backend.text_encoders.values():
                assert {p.device for p in encoder.parameters()} == {CARD}
                linear = [m.weight for m in encoder.modules() if isinstance(m, nn.Linear)]
                assert {weight.dtype for weight in linear} == {torch.bfloat16}


def test_a_u_net_is_of_the_very_weights_that_it_was_given(host):
    from attndreambooth.nodes.host.model.private_unet import private_unet

    given = dict(tiny_model(levels=2).unet.state_dict())
    for device in ("cuda", "cpu"):
        unet = private_unet(UNET_CONFIG, given, torch.device(device))
        for name, weight in unet.named_parameters():
            assert weight.device.type == "cpu" and torch.equal(weight, given[name])
            assert weight.data_ptr() == given[name].data_ptr()


def test_what_is_to_wait_waits_and_goes_there_in_bf16_and_back():
    with fake_card():
        module = nn.Linear(2, 2).requires_grad_(False)
        place(module, CARD, without=[module.weight])
        assert (module.weight.device.type, module.bias.device) == ("cpu", CARD)
        with FrozenInBf16(module, device=CARD):
            assert (module.weight.device, module.weight.dtype) == (CARD, torch.bfloat16)
        assert (module.weight.device.type, module.weight.dtype) == ("cpu", torch.float32)
        place(module, CARD)
        assert (module.weight.device, module.weight.dtype) == (CARD, torch.float32)


def test_what_is_there_is_not_touched(monkeypatch):
    monkeypatch.setattr(placement, "put", lambda *_: pytest.fail("it was there"))
    place(nn.Linear(2, 2), torch.device("cpu"))
