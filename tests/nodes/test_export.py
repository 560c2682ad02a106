"""Export to Diffusers: diffusers loads the folder and computes, and draws, what the graph does."""

from __future__ import annotations

import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.in_diffusers import pipeline_parts, saved_unet
from support.stages import refuses, small

from attndreambooth.attndb.artifacts.diffusers_unet import WEIGHT_FILES
from attndreambooth.attndb.artifacts.prediction_metadata import file_prediction

NODE = "AttnDBExportToDiffusers"
WIDTH = {"sd15": 768, "sd21": 1024}
STEPS = 4  # the host's and diffusers' timesteps are whole numbers: 999, 666, 333, 0
SIDE = 64
PROMPT, NEGATIVE = "a photo of a <astro> person", "blurry"


@pytest.fixture(scope="module", params=["sd15", "sd21"])
def made(request, home, train, tmp_path_factory):
    """A concept of two vectors after stages 1 and 3, on text as wide as the family's."""
    import folder_paths

    before = folder_paths.get_output_directory()
    folder_paths.set_output_directory(str(tmp_path_factory.mktemp("trained")))
    wires = small(request.param, width=WIDTH[request.param])
    with torch.inference_mode():
        concept, model, clip, *_ = train(3, wires, train(1, wires, vectors=2)[0])
    folder_paths.set_output_directory(before)
    return SimpleNamespace(kind=request.param, wires=wires, concept=concept, model=model, clip=clip)


def host_prediction(model, x, t, context):
    """The U-Net of a MODEL with its patches, as the sampler would run it."""
    from attndreambooth.nodes.host.model.private_unet import private_unet
    from attndreambooth.nodes.host.model.weights import UNET_PREFIX, merged_weights

    weights = merged_weights(model, UNET_PREFIX)
    unet = private_unet(model.model.model_config.unet_config, weights, torch.device("cpu"))
    return unet(x, t, context=context, transformer_options={})


def test_the_same_noise_and_text_give_the_same_prediction(made, run):
    folder, concept = run(NODE, model=made.wires.model, concept=made.concept)
    assert concept is made.concept
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(2, 4, 8, 8, generator=generator)
    context = torch.randn(2, 77, WIDTH[made.kind], generator=generator)
    t = torch.tensor([400, 30])
    with torch.inference_mode(False), torch.no_grad():
        theirs = saved_unet(folder)(x, t, encoder_hidden_states=context).sample
        ours = host_prediction(made.model, x, t, context)
        base = host_prediction(made.wires.model, x, t, context)
    error = (theirs - ours).norm() / ours.norm()
    assert error < 1e-5 and error < 0.01 * (ours - base).norm() / ours.norm()


def pipeline(made, folder):
    """StableDiffusionPipeline as the exported README says; its other parts are the wires'."""
    from diffusers import StableDiffusionPipeline
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    from attndreambooth.devkit.host_path import host_root

    encoder = getattr(made.wires.clip.cond_stage_model, made.wires.clip.cond_stage_model.clip)
    sd15, width = made.kind == "sd15", WIDTH[made.kind]
    text = CLIPTextModel(
        CLIPTextConfig(
            hidden_size=width,
            intermediate_size=2 * width,
            num_attention_heads=4,
            num_hidden_layers=4 if sd15 else 3,  # SD 2.x reads the last but one
            hidden_act="quick_gelu" if sd15 else "gelu",
        )
    ).eval()
    state = {
        key.removeprefix("text_model."): value.clone()
        for key, value in encoder.transformer.state_dict().items()
    }
    text.load_state_dict({key: state[key] for key in text.state_dict()})
    pad = {} if sd15 else {"pad_token": "!"}
    pipe = StableDiffusionPipeline(
        text_encoder=text,
        tokenizer=CLIPTokenizer.from_pretrained(
            host_root() / "comfy" / "sd1_tokenizer", model_max_length=77, **pad
        ),
        unet=saved_unet(folder),
        **pipeline_parts(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.load_textual_inversion(folder, weight_name="learned_embeds.safetensors")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_the_pipeline_draws_the_graphs_picture(made, run):
    import comfy.sample
    import nodes

    [folder, _] = run(NODE, model=made.wires.model, concept=made.concept)
    model, clip, trigger = run("AttnDBApplyConcept", **made_wires(made), concept=made.concept)
    assert trigger in PROMPT
    empty = torch.zeros(1, 4, SIDE // 8, SIDE // 8)

    def graph(model, clip):
        asked, not_asked = (
            nodes.CLIPTextEncode().encode(clip, text)[0] for text in (PROMPT, NEGATIVE)
        )
        latent = {"samples": empty}
        return nodes.KSampler().sample(
            model, 5, STEPS, 7.5, "euler", "normal", asked, not_asked, latent, 1.0
        )[0]["samples"]

    with torch.inference_mode(False), torch.no_grad():
        pipe = pipeline(made, folder)
        pipe.scheduler.set_timesteps(STEPS)
        sigma = pipe.scheduler.init_noise_sigma
        noise = comfy.sample.prepare_noise(empty, 5)
        # the host's noise of the first step has the variance sigma^2 + 1
        drawn: Any = pipe(
            PROMPT,
            negative_prompt=NEGATIVE,
            num_inference_steps=STEPS,
            guidance_scale=7.5,
            latents=noise * (sigma**2 + 1) ** 0.5 / sigma,
            height=SIDE,
            width=SIDE,
            output_type="latent",
        )
    theirs, ours = (
        made.wires.vae.decode(samples)
        for samples in (drawn.images / pipe.vae.config.scaling_factor, graph(model, clip))
    )
    base = made.wires.vae.decode(graph(made.wires.model, clip))
    assert ours.shape == (1, SIDE, SIDE, 3) and ours.std() > 0.05
    assert (theirs - ours).abs().max() < 1 / 255
    assert (base - ours).abs().max() > 10 * (theirs - ours).abs().max()


def made_wires(made):
    return {"model": made.wires.model, "clip": made.wires.clip}


def test_the_readme_tells_the_pipeline_what_the_u_net_predicts(made, run):
    """diffusers takes a checkpoint of SD 2.1-base for one that predicts v."""
    from diffusers import DDIMScheduler

    folder, _ = run(NODE, model=made.wires.model, concept=made.concept)
    readme = (Path(folder) / "README.md").read_text(encoding="utf-8")
    [line] = re.findall(r"^pipe\.scheduler = [^)]*\)[^)]*\)$", readme, re.MULTILINE)
    pipe: Any = SimpleNamespace(scheduler=DDIMScheduler(prediction_type="v_prediction"))
    exec(line, {"pipe": pipe})  # noqa: S102
    assert type(pipe.scheduler) is DDIMScheduler
    config: Any = pipe.scheduler.config
    assert config.prediction_type == "epsilon"


def test_it_comes_back_by_import_concept(made, run, monkeypatch):
    import folder_paths

    [folder, _] = run(NODE, model=made.wires.model, concept=made.concept, name="round/trip")
    root = Path(folder).parent.parent
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "diffusers", ([str(root)], set()))
    [concept, trigger] = run(
        "AttnDBImportConcept",
        model=made.wires.model,
        embedding="diffusers/round/trip/learned_embeds.safetensors",
        unet="round/trip",
        category="person",
    )
    assert trigger == made.concept.trigger
    told = file_prediction(Path(folder) / "unet" / WEIGHT_FILES[0])
    assert told == concept.record["prediction_type"] == made.concept.record["prediction_type"]
    assert torch.equal(concept.vectors, made.concept.vectors)
    assert set(concept.delta) == set(made.concept.delta)
    for name, change in made.concept.delta.items():
        assert (concept.delta[name] - change).abs().max() < 1e-6


def test_a_name_is_used_once_and_the_same_export_is_not_written_again(made, run, output):
    given = {"model": made.wires.model, "name": "kept"}
    first, _ = run(NODE, concept=made.concept, **given)
    before = {path: path.stat().st_mtime_ns for path in Path(first).rglob("*")}
    assert run(NODE, concept=made.concept, **given)[0] == first
    assert {path: path.stat().st_mtime_ns for path in Path(first).rglob("*")} == before
    other, _ = run(NODE, concept=made.concept, **given, precision="fp16")
    assert Path(other).name == "kept-2"
    assert sorted(p.name for p in (output / "diffusers").iterdir()) == ["kept", "kept-2"]
    files = {path.relative_to(other).as_posix() for path in Path(other).rglob("*.*")}
    weights = "unet/diffusion_pytorch_model.safetensors"
    assert files == {"README.md", "learned_embeds.safetensors", "unet/config.json", weights}
    assert (Path(first) / weights).stat().st_size > 1.9 * (Path(other) / weights).stat().st_size
    assert "'kept-2'" in (Path(other) / "README.md").read_text()


def test_a_model_that_has_the_concept_already_gives_the_same_export(made, run):
    first, _ = run(NODE, model=made.wires.model, concept=made.concept, name="a")
    again, _ = run(NODE, model=made.model, concept=made.concept, name="a")
    assert again == first


def test_what_cannot_be_exported_is_refused_by_name(made, run, output):
    import dataclasses

    micro, *_ = run("AttnDBLoadMicroModel")
    with refuses("Export to Diffusers: MODEL is attndb-micro|AttnDBMicro"):
        run(NODE, model=micro, concept=made.concept)
    with refuses("Export to Diffusers: name '../up' cannot be a file name"):
        run(NODE, model=made.wires.model, concept=made.concept, name="../up")
    name, change = next(iter(made.concept.delta.items()))
    for value, precision, told in (
        (torch.nan, "fp32", "holds NaN or infinite values"),
        (1e5, "fp16", "has values beyond float16's: choose fp32"),
    ):
        delta = {**made.concept.delta, name: torch.full_like(change, value)}
        bad = dataclasses.replace(made.concept, delta=delta)
        with refuses(f"Export to Diffusers: {name} of MODEL with the concept {told}"):
            run(NODE, model=made.wires.model, concept=bad, precision=precision)
    assert not output.exists() or not list(output.rglob("*.safetensors"))


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the system does not refuse")
def test_a_folder_that_cannot_be_written_is_named(made, run, output):
    output.mkdir()
    output.chmod(0o500)
    with refuses("Export to Diffusers: .*could not be written, and nothing was saved"):
        run(NODE, model=made.wires.model, concept=made.concept)
