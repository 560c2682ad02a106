"""fp16 files, half-precision wires, velocity and SD 2.1 checkpoints: trained as what they are."""

from __future__ import annotations

import logging

import torch
from support.comparing import distance, example, output_of, private_output, snapshot
from support.stages import Wires, load

from attndreambooth.devkit.checkpoints import make_checkpoint
from attndreambooth.devkit.small_models import small_model

PROMPT = "a photo of a <astro> person on the beach"


def test_an_fp16_file_trains_and_applies_within_rounding(home, train, privately):
    wires = load(make_checkpoint("sd15", dtype=torch.float16))
    before = snapshot(wires)
    _, applied, *_ = train(3, wires)
    inputs = example(wires.model)
    trained = private_output(privately["backend"], inputs)
    dtype = wires.model.model.get_dtype()
    assert distance(output_of(applied, inputs), trained) < (1e-5 if dtype.itemsize == 4 else 1e-2)
    output_of(wires.model, inputs)
    assert snapshot(wires)["model weights"] == before["model weights"]


def test_half_precision_weights_on_the_wire_are_trained_in_fp32(sd15, train, privately):
    model = small_model("sd15", dtype=torch.float16)
    assert model.model.get_dtype() == torch.float16
    concept, applied, *_ = train(3, Wires(model, sd15.clip, sd15.vae))
    assert {p.dtype for p in privately["backend"].unet.parameters()} == {torch.float32}
    assert {value.dtype for value in concept.delta.values()} == {torch.float16}
    inputs = example(model)
    trained = private_output(privately["backend"], inputs)
    half = tuple(x.half() if x.is_floating_point() else x for x in inputs)
    assert distance(output_of(applied, half).float(), trained) < 2e-2


def test_a_velocity_checkpoint_is_trained_as_one(sd21, train, privately):
    model = small_model("sd21", velocity=True)
    concept, applied, *_ = train(3, Wires(model, sd21.clip, sd21.vae))
    backend = privately["backend"]
    assert backend.diffusion.prediction_type == "v"
    assert concept.base_family == "SD 2.1-768"
    inputs = example(model)
    assert distance(output_of(applied, inputs), private_output(backend, inputs)) < 1e-5


def test_a_model_told_to_predict_velocity_is_trained_so(sd15, train, privately):
    from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete

    told = ModelSamplingDiscrete().patch(sd15.model, "v_prediction", True)[0]
    train(1, type(sd15)(told, sd15.clip, sd15.vae), steps=0)
    diffusion = privately["backend"].diffusion
    assert diffusion.prediction_type == "v"
    assert float(diffusion.alphas_cumprod[-1]) < 1e-6  # zero terminal signal, as asked for


def test_an_sd21_base_checkpoint_is_trained_on_noise(sd21, train, privately):
    concept, applied, *_ = train(2, sd21)
    backend = privately["backend"]
    assert backend.diffusion.prediction_type == "epsilon"
    assert (concept.base_family, concept.text_key) == ("SD 2.1-base", "clip_h")
    inputs = example(sd21.model)
    assert distance(output_of(applied, inputs), private_output(backend, inputs)) < 1e-5


def test_a_stage_without_a_concept_says_that_it_is_an_ablation(sd15, train, caplog):
    with caplog.at_level(logging.WARNING):
        concept, *_ = train(2, sd15, steps=0)
    assert "no concept connected" in caplog.text and "'person'" in caplog.text
    table = sd15.clip.cond_stage_model.clip_l.transformer.get_input_embeddings().weight
    torch.testing.assert_close(concept.vectors[0], table[2533].float())


def test_a_stage_that_lacks_the_wire_of_the_stage_before_says_so_under_its_node(
    sd15, train, monkeypatch
):
    from attndreambooth.nodes.host import workbench

    shown = []
    monkeypatch.setattr(workbench, "show_text", shown.append)
    before = train(1, sd15, steps=0)[0]
    train(2, sd15, before, steps=0)
    assert not shown
    train(2, sd15, steps=0)
    [text] = shown
    assert "connect the concept of the stage before" in text
