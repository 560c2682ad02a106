"""What decides a training on the wires is part of its run, and is hashed once, not once a queue."""

from __future__ import annotations

import copy
import dataclasses
import json

import pytest
import torch


def asked(output) -> list[dict]:
    """What the run folders were made for, in the order they were made."""
    paths = sorted(output.glob("attndb/*/run.json"), key=lambda path: path.stat().st_mtime_ns)
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def test_the_vaes_dtype_is_part_of_a_run(sd15, train, output):
    train(2, sd15, steps=0)
    half = copy.copy(sd15.vae)
    half.vae_dtype = torch.float16  # as --fp16-vae makes it; the weights are the same
    train(2, dataclasses.replace(sd15, vae=half), steps=0)
    first, second = asked(output)
    assert (first.pop("vae_dtype"), second.pop("vae_dtype")) == ("float32", "float16")
    assert first == second


def test_where_the_vae_encodes_is_part_of_a_run_and_of_kept_latents(sd15, train, output):
    from attndreambooth.nodes.host.model.encoding import encoder_identity

    train(2, sd15, steps=0)
    elsewhere = copy.copy(sd15.vae)
    elsewhere.device = torch.device("meta")  # as --cpu-vae moves it away from the card
    train(2, dataclasses.replace(sd15, vae=elsewhere), steps=0)
    first, second = asked(output)
    assert second.pop("vae_device") == "meta" and first == second
    here, there = (encoder_identity(v, torch.device("cpu")) for v in (sd15.vae, elsewhere))
    assert (here.pop("device"), there.pop("device")) == ("cpu", "meta") and here == there


@pytest.mark.parametrize("name", ["cuda", "xpu"])
def test_latents_of_two_kinds_of_card_are_kept_apart(sd15, monkeypatch, name):
    from attndreambooth.nodes.host.model.encoding import encoder_identity

    found = []
    for card in ("Arc A770", "Arc B580"):
        monkeypatch.setattr(getattr(torch, name), "get_device_name", lambda _, card=card: card)
        vae = copy.copy(sd15.vae)
        vae.device = torch.device(name)
        found.append(encoder_identity(vae, torch.device(name)).pop("device"))
    assert found == ["Arc A770", "Arc B580"]


@pytest.mark.parametrize(
    ("prediction", "zsnr", "changed"),
    [("v_prediction", False, "prediction_type"), ("eps", True, "schedule_sha256")],
)
def test_model_sampling_in_front_makes_another_run(sd15, train, output, prediction, zsnr, changed):
    from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete

    plain = train(2, sd15, steps=1)[0]
    told = ModelSamplingDiscrete().patch(sd15.model, prediction, zsnr)[0]
    other = train(2, dataclasses.replace(sd15, model=told), steps=1)[0]
    first, second = asked(output)
    assert first[changed] != second[changed]
    assert first["base_sha256"] == second["base_sha256"]
    assert other.record[changed] == second[changed] != plain.record[changed]


def test_weights_are_hashed_once_for_all_queues(sd15, train, monkeypatch):
    from attndreambooth.nodes.host.model import digests, once_read

    hashed = []
    plain = digests.tensors_digest
    monkeypatch.setattr(once_read, "_KEPT", type(once_read._KEPT)())
    monkeypatch.setattr(digests, "tensors_digest", lambda t: hashed.append(len(t)) or plain(t))
    train(2, sd15, steps=1)
    assert len(hashed) == 3, "U-Net, text encoder, VAE"
    train(2, sd15, steps=1)
    train(3, sd15, steps=1)
    copied = dataclasses.replace(sd15, model=sd15.model.clone(), clip=sd15.clip.clone())
    train(2, copied, steps=1)
    assert len(hashed) == 3
