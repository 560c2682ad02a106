"""Model sampling in front of a training: trained as told, refused where a timestep means something
else, and part of what a concept fits."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from support.stages import refuses

SD15_SCHEDULE = "faa81905b775fc64d6e63a9da911a01639fbb5b8c37afc993b8d3985e6fa59ed"


def discrete(model, prediction, zsnr=False):
    from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete

    return ModelSamplingDiscrete().patch(model, prediction, zsnr)[0]


def continuous(model, prediction):
    from comfy_extras.nodes_model_advanced import ModelSamplingContinuousEDM

    return ModelSamplingContinuousEDM().patch(model, prediction, 120.0, 0.002)[0]


def cascade(model):
    from comfy_extras.nodes_model_advanced import ModelSamplingStableCascade

    return ModelSamplingStableCascade().patch(model, 2.0)[0]


@pytest.fixture
def refused(sd15, train, output):
    def check(model, pattern, clip=None):
        with refuses(pattern):
            train(1, type(sd15)(model, clip or sd15.clip, sd15.vae))
        assert not output.exists() or not list(output.rglob("*"))

    return check


@pytest.mark.parametrize("prediction", ["eps", "v_prediction"])
def test_timesteps_that_are_not_places_in_the_schedule_are_refused_by_name(
    sd15, refused, prediction
):
    refused(
        continuous(sd15.model, prediction),
        r"Stage 1.*timesteps.*\(ModelSamplingContinuousEDM\).*before that node",
    )


def test_a_cascade_schedule_is_refused_by_name(sd15, refused):
    refused(cascade(sd15.model), r"\(StableCascadeSampling\)")


@pytest.mark.parametrize("prediction", ["lcm", "x0"])
def test_other_predictions_are_refused_as_before(sd15, refused, prediction):
    refused(discrete(sd15.model, prediction), "neither epsilon nor v")


def test_the_sampling_of_a_model_is_its_prediction_and_its_schedule(sd15, sd21):
    from attndreambooth.nodes.host.model.families import sampling_identity

    plain = sampling_identity(sd15.model)
    # the same on every host version: it is kept in files
    assert plain == {"prediction_type": "epsilon", "schedule_sha256": SD15_SCHEDULE}
    assert sampling_identity(sd21.model) == plain
    velocity = sampling_identity(discrete(sd15.model, "v_prediction"))
    assert velocity == {**plain, "prediction_type": "v"}
    zero = sampling_identity(discrete(sd15.model, "v_prediction", True))
    assert zero["schedule_sha256"] != plain["schedule_sha256"]
    assert sampling_identity(discrete(sd15.model, "lcm"))["prediction_type"] == "other"
    assert sampling_identity(discrete(sd15.model, "eps")) == plain


@pytest.fixture
def told(sd15, trained):
    """A concept whose record says what model sampling it was trained with."""
    from attndreambooth.nodes.host.model.families import sampling_identity

    def make(model, **changes):
        record = {**trained.record, **sampling_identity(model)}
        return dataclasses.replace(trained, record=record, **changes)

    return make


def test_a_concept_of_another_prediction_type_is_refused_by_apply_concept_and_by_a_stage(
    sd15, run, train, told
):
    concept = told(discrete(sd15.model, "v_prediction", True))
    wires = {"model": sd15.model, "clip": sd15.clip}
    cause = r"<astro> was trained on a MODEL that predicts v, and this one predicts epsilon"
    with refuses(f"Apply Concept: .*{cause}.*ModelSamplingDiscrete"):
        run("AttnDBApplyConcept", **wires, concept=concept)
    with refuses(f"Stage 3.*{cause}"):
        train(3, sd15, concept)


def test_a_concept_of_another_schedule_is_refused(sd15, run, told):
    concept = told(discrete(sd15.model, "v_prediction", True))
    model = discrete(sd15.model, "v_prediction")
    with refuses(r"Apply Concept: .*<astro>.*another noise schedule \(zsnr"):
        run("AttnDBApplyConcept", model=model, clip=sd15.clip, concept=concept)


def test_a_concept_fits_the_sampling_it_was_trained_with(sd15, run, told, trained):
    names = ("prediction_type", "schedule_sha256")
    record = {key: value for key, value in trained.record.items() if key not in names}
    silent = dataclasses.replace(trained, record=record)
    for model in (sd15.model, discrete(sd15.model, "v_prediction", True)):
        run("AttnDBApplyConcept", model=model, clip=sd15.clip, concept=told(model))
        run("AttnDBApplyConcept", model=model, clip=sd15.clip, concept=silent)


def test_on_sd21_the_sampling_is_the_cause_not_the_checkpoint(sd21, run, train, told):
    from attndreambooth.nodes.host.model.families import family

    velocity = discrete(sd21.model, "v_prediction")
    assert family(velocity) == family(sd21.model) == "SD 2.1-base"
    concept = train(1, sd21, steps=0)[0]
    record = {**concept.record, "prediction_type": "v"}
    with refuses(r"predicts v, and this one predicts epsilon"):
        run(
            "AttnDBApplyConcept",
            model=sd21.model,
            clip=sd21.clip,
            concept=dataclasses.replace(concept, record=record),
        )


@pytest.fixture
def lora(sd15, trained):
    """Some LoRA of the MODEL and of the CLIP, as Load LoRA reads a file."""
    generator = torch.Generator().manual_seed(0)
    unet = next(name for name in trained.delta if name.endswith("attn2.to_q.weight"))
    text = "clip_l.transformer.text_model.encoder.layers.0.mlp.fc1"
    names = {
        "diffusion_model." + unet.removesuffix(".weight"): trained.delta[unet].shape,
        f"text_encoders.{text}": sd15.clip.cond_stage_model.state_dict()[f"{text}.weight"].shape,
    }
    return {
        f"{name}.lora_{kind}.weight": 0.1 * torch.randn(*shape, generator=generator)
        for name, (rows, columns) in names.items()
        for kind, shape in (("up", (rows, 2)), ("down", (2, columns)))
    }


def test_load_lora_bypass_in_front_is_refused_by_name(sd15, lora, refused):
    import comfy.sd

    model, clip = comfy.sd.load_bypass_lora_for_models(sd15.model, sd15.clip, lora, 1.0, 1.0)
    assert model.injections and clip.patcher.injections
    refused(model, r"Stage 1.*MODEL comes from Load LoRA \(Bypass\).*plain Load LoRA")
    refused(sd15.model, r"CLIP comes from Load LoRA \(Bypass\)", clip=clip)


def test_other_injections_and_clip_hooks_are_refused_by_name(sd15, refused):
    import comfy.hooks

    model = sd15.model.clone()
    model.set_injections("somebody", [object()])
    refused(model, r"Stage 1.*MODEL .*'somebody'.*before that node")
    clip = sd15.clip.clone()
    clip.patcher.forced_hooks = comfy.hooks.HookGroup()
    clip.patcher.forced_hooks.add(comfy.hooks.WeightHook())
    refused(sd15.model, r"CLIP comes from Set CLIP Hooks", clip=clip)


@pytest.mark.parametrize("strength", [float("nan"), float("inf")])
def test_a_strength_that_is_no_number_is_refused(sd15, run, trained, strength):
    wires = {"model": sd15.model, "clip": sd15.clip}
    with refuses(rf"Apply Concept: strength is {strength}: type a number"):
        run("AttnDBApplyConcept", **wires, concept=trained, strength=strength)


def test_a_change_of_a_wrong_shape_names_the_weight_not_the_family(sd15, run, trained):
    name = next(iter(trained.delta))
    wires = {"model": sd15.model, "clip": sd15.clip}
    for odd, told in (
        ({**trained.delta, name: torch.zeros(3, 5)}, rf"{name} has shape \(3, 5\)"),
        ({**trained.delta, "no.such.weight": torch.zeros(2)}, "no.such.weight.*does not exist"),
    ):
        concept = dataclasses.replace(trained, delta=odd)
        with refuses(f"although both are SD 1.5.*{told}.*damaged"):
            run("AttnDBApplyConcept", **wires, concept=concept)


def test_vectors_of_a_wrong_width_are_not_blamed_on_the_family(sd15, run, trained):
    concept = dataclasses.replace(trained, vectors=torch.ones(1, 5))
    with refuses(r"have width 5, and this CLIP \(clip_l\) reads 64"):
        run("AttnDBApplyConcept", model=sd15.model, clip=sd15.clip, concept=concept)
