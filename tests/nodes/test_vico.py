"""ViCo at sampling: the same prediction as in training, under the host's own samplers."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from support.stages import refuses

from attndreambooth.attndb.attention.word_maps import MapSelection, word_maps_of
from attndreambooth.attndb.models.conditioning import Conditioning
from attndreambooth.attndb.models.image_attention import ImageAttention, ImageBlocks, columns

NODE = "AttnDBTrainComparedMethod"
PROMPT = "a photo of a <my-robot> on the beach"
PLAIN = "a photo of a robot on the beach"


@pytest.fixture(scope="module")
def micro(run):
    names = ("model", "clip", "vae")
    return dict(zip(names, run("AttnDBLoadMicroModel")[:3], strict=True))


@pytest.fixture(scope="module")
def photos(run):
    return run("AttnDBMicroConcept", concept="hatted-robot")


@pytest.fixture(scope="module")
def train(run, micro, photos):
    def train(placeholder: str = "<my-robot>", **changes: Any) -> Any:
        node = "AttnDBConceptDatasetFromImages"
        own = {"images": photos[0], "category": photos[1], "placeholder": placeholder}
        method = {"method": "ViCo", "steps": 6, "learning_rate": 1e-2, "batch_size": 2}
        method |= {"templates": "dataset", "image_learning_rate": 1e-3, "map_weight": 5e-4}
        shared = {"resolution": 128, "augmentation": "none", "precision": "fp32"}
        wires = {**micro, **shared, "dataset": run(node, **own)[0]}
        return run(NODE, **wires, method={**method, **changes})

    return train


@pytest.fixture(scope="module")
def trained(train):
    return train()


@pytest.fixture(scope="module")
def latents(micro, photos):
    """Of the photos, as VAE Encode gives them."""
    import nodes

    return [nodes.VAEEncode().encode(micro["vae"], photos[0][n : n + 1])[0] for n in range(2)]


@pytest.fixture(scope="module")
def applied(run, micro, trained, latents):
    def apply(number: int = 0, strength: float = 1.0, concept: Any = None) -> Any:
        wires = {"model": micro["model"], "clip": micro["clip"], "strength": strength}
        concept = concept or trained[0]
        return run("AttnDBApplyConcept", **wires, concept=concept, reference=latents[number])[:2]

    return apply


def draw(model: Any, clip: Any, prompt: str = PROMPT, sampler: str = "euler", **changes: Any):
    """Samples of the embedded model by the stock nodes."""
    import nodes

    values = {"negative": "", "steps": 3, "cfg": 3.0, "batch": 1, "side": 16, **changes}
    positive, negative = (
        nodes.CLIPTextEncode().encode(clip, text)[0] for text in (prompt, values["negative"])
    )
    channels = model.model.latent_format.latent_channels
    latent = {"samples": torch.zeros(values["batch"], channels, 16, values["side"])}
    return nodes.KSampler().sample(
        *(model, 5, values["steps"], values["cfg"], sampler, "normal"),
        *(positive, negative, latent, 1.0),
    )[0]["samples"]


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_every_call_of_the_u_net_predicts_what_training_would(micro, trained, applied, cfg):
    """Recorded inside a stock sampler, and worked out again by the training's own model, photo and
    pictures in one pass. Without a word of its own the negative text has the positive's."""
    import nodes

    from attndreambooth.nodes.host.model.private_model import private_model
    from attndreambooth.nodes.host.model.reference_image import reference_image
    from attndreambooth.nodes.host.model.weights import UNET_PREFIX, merged_weights

    concept, (model, clip), seen = trained[0], applied(), []

    def record(apply: Any, call: Any) -> Any:
        out = apply(call["input"], call["timestep"], **call["c"])
        seen.append((call["input"].clone(), call["timestep"].clone(), out.clone()))
        seen[-1] += (call["c"]["c_crossattn"].clone(),)
        return out

    watched = model.clone()
    watched.set_model_unet_function_wrapper(record)
    draw(watched, clip, sampler="heun", cfg=cfg, batch=2)
    assert len(seen) >= 4 and len(seen[0][0]) == (2 if cfg == 1.0 else 4)
    text = nodes.CLIPTextEncode().encode(clip, PROMPT)[0][0][1]["attndb_mapped_text"]
    [(_, place)] = text.words
    with torch.inference_mode(False), torch.no_grad():
        weights = merged_weights(micro["model"], UNET_PREFIX)
        private = private_model(micro["model"], micro["clip"], micro["vae"], weights, {})
        tensors = {n.removeprefix("vico."): v.clone() for n, v in concept.modules.items()}
        layers = private.text_attention()
        blocks = ImageBlocks.from_tensors(tensors, private.unet, layers)
        attention = ImageAttention(private.unet, layers, blocks)
        photo, sampling = reference_image(model).latent.clone(), micro["model"].model.model_sampling
        for x, sigma, out, context in seen:
            count = len(x)
            words = columns(77, [[place]], torch.device("cpu")).expand(count, -1, -1)
            attention.begin(count, words)
            conditioning = Conditioning(
                {"clip_l": context}, reference=photo.expand(count, -1, -1, -1)
            )
            z, t = sampling.calculate_input(sigma, x.clone()), sampling.timestep(sigma).float()
            eps = private.denoise(z, t, conditioning)
            ours = sampling.calculate_denoised(sigma, eps, x.clone())
            torch.testing.assert_close(ours, out, rtol=1e-4, atol=1e-4)
        attention.rest()


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m", "dpmpp_sde", "uni_pc"])
def test_the_photo_is_looked_at_under_any_sampler(applied, micro, sampler):
    model, clip = applied()
    drawn = draw(model, clip, sampler=sampler)
    assert bool(drawn.isfinite().all())
    plain = draw(micro["model"], clip, sampler=sampler)
    assert (drawn - plain).abs().mean() > 1e-3
    other = draw(*applied(1), sampler=sampler)
    assert (drawn - other).abs().max() > 1e-4
    # without the word the MODEL draws what it always did
    ours = draw(model, clip, PLAIN, sampler)
    assert torch.equal(ours, draw(micro["model"], micro["clip"], PLAIN, sampler))
    assert not any(m._forward_hooks for m in model.model.diffusion_model.modules())


def test_the_training_nodes_own_wires_look_at_its_first_photo(trained, applied):
    torch.testing.assert_close(draw(*trained[1:3]), draw(*applied()), rtol=1e-4, atol=1e-4)


def test_strength_0_is_the_untouched_model_and_needs_no_photo(run, trained, micro, applied):
    wires = {"model": micro["model"], "clip": micro["clip"], "concept": trained[0]}
    none = draw(*run("AttnDBApplyConcept", **wires, strength=0.0)[:2])
    assert torch.equal(none, draw(micro["model"], trained[2]))
    half, whole = draw(*applied(strength=0.5)), draw(*applied())
    assert 0 < (half - none).norm() and not torch.equal(half, whole)


def test_without_a_photo_or_with_another_kind_of_latent_it_is_refused(run, trained, micro, latents):
    wires = {"model": micro["model"], "clip": micro["clip"], "concept": trained[0]}
    with refuses("Apply Concept: .*<my-robot> was trained by ViCo.*connect one to 'reference'"):
        run("AttnDBApplyConcept", **wires, strength=1.0)
    both = {"samples": torch.cat([latent["samples"] for latent in latents])}
    for wrong in (both, {"samples": torch.zeros(1, 99, 8, 8)}):
        with refuses("Apply Concept: reference has shape .*: it is the latent of one photo"):
            run("AttnDBApplyConcept", **wires, strength=1.0, reference=wrong)


def test_it_comes_back_from_its_file(run, trained, micro, applied):
    concept = trained[0]
    name = run("AttnDBSaveConcept", concept=concept, name="robot-vico-sampled")[0]
    loaded, trigger = run("AttnDBLoadConcept", name=name)
    assert loaded.digest() == concept.digest() and trigger == "<my-robot>"
    assert torch.equal(draw(*applied(concept=loaded)), draw(*applied()))
    # the stock embedding syntax finds the word, for a model that looks at nothing
    stock = draw(micro["model"], micro["clip"], PROMPT.replace("<my-robot>", f"embedding:{name}"))
    assert torch.equal(stock, draw(micro["model"], trained[2]))


def test_a_batch_other_sizes_and_longer_prompts_are_drawn(applied, micro):
    model, clip = applied()
    one, two = draw(model, clip), draw(model, clip, batch=2)
    torch.testing.assert_close(two[:1], one, rtol=1e-3, atol=1e-3)
    assert bool(draw(model, clip, side=12).isfinite().all())  # the photo is as large as it is
    long = " ".join(["red"] * 80)
    for prompt, negative in ((f"{PROMPT}, {long}", ""), (f"{long} {PROMPT}", ""), (PROMPT, long)):
        drawn = draw(model, clip, prompt, negative=negative)
        assert not torch.equal(drawn, draw(micro["model"], clip, prompt, negative=negative))


def test_the_wires_that_came_in_stay_as_they_are_and_another_photo_takes_the_place(
    run, trained, micro, applied, latents
):
    before = {n: w.clone() for n, w in micro["model"].model.state_dict().items()}
    model, clip = applied()
    draw(model, clip)
    assert not micro["model"].wrappers and model.model is micro["model"].model
    for name, weight in micro["model"].model.state_dict().items():
        assert torch.equal(weight, before[name]), name
    wires = {"model": model, "clip": micro["clip"], "concept": trained[0], "strength": 1.0}
    again = run("AttnDBApplyConcept", **wires, reference=latents[1])[:2]
    assert torch.equal(draw(*again), draw(*applied(1)))
    none = run("AttnDBApplyConcept", **{**wires, "strength": 0.0})[0]
    assert not none.wrappers.get("diffusion_model", {}).get("attndb_reference_image")


def test_a_model_looks_at_one_photo(run, trained, micro, applied, latents):
    other = dataclasses.replace(trained[0], placeholder="<other>")
    model, clip = applied()
    wires = {"model": model, "clip": clip, "concept": other, "strength": 1.0}
    with refuses("Apply Concept: MODEL already looks at a photo for <my-robot>"):
        run("AttnDBApplyConcept", **wires, reference=latents[0])


def test_blocks_of_another_model_are_refused(run, trained, micro, latents):
    less = dict(list(trained[0].modules.items())[1:])
    concept = dataclasses.replace(trained[0], modules=less)
    wires = {"model": micro["model"], "clip": micro["clip"], "concept": concept, "strength": 1.0}
    with refuses("Apply Concept: the concept <my-robot> is damaged, or was trained on another"):
        run("AttnDBApplyConcept", **wires, reference=latents[0])


def test_capture_attention_sees_pictures_and_not_the_photo(run, micro, applied):
    model, clip = applied()
    captured, capture = run("AttnDBCaptureAttention", model=model, clip=clip, text=PROMPT)[:2]
    assert torch.equal(draw(captured, clip), draw(model, clip))
    own = word_maps_of(capture.runs[-1].record, MapSelection(layers="all")).of("<my-robot>")
    captured, capture = run("AttnDBCaptureAttention", model=micro["model"], clip=clip, text=PROMPT)[
        :2
    ]
    draw(captured, clip)
    plain = word_maps_of(capture.runs[-1].record, MapSelection(layers="all")).of("<my-robot>")
    assert own.shape == plain.shape and not torch.equal(own, plain)


def test_a_correction_turns_its_word(run, trained, micro, latents):
    wires = {"model": micro["model"], "clip": micro["clip"], "concept": trained[0]}
    wires |= {"strength": 1.0, "reference": latents[0]}
    plain = draw(*run("AttnDBApplyConcept", **wires)[:2])
    turned = draw(*run("AttnDBApplyConcept", **wires, correction=0.5)[:2])
    assert not torch.equal(plain, turned)


def test_concepts_are_compared_and_evaluated_with_a_photo(run, trained, micro, photos, latents):
    wires = {"model": micro["model"], "clip": micro["clip"], "vae": micro["vae"]}
    drawing = {"concepts": {"concept_0": trained[0]}, "prompts": "a photo of a {} on the beach"}
    drawing |= {"before_training": False, "steps": 3, "cfg": 3.0, "width": 128, "height": 128}
    drawn = [
        run("AttnDBCompareConcepts", **wires, **drawing, words="<my-robot>", reference=latent)[1][0]
        for latent in latents
    ]
    assert not torch.equal(*drawn)
    with refuses("Compare Concepts: .*<my-robot> was trained by ViCo.*connect one to 'reference'"):
        run("AttnDBCompareConcepts", **wires, **drawing)
    encoder = run("AttnDBLoadImageEncoder", encoder="toy model")[0]
    own = {"encoders": {"encoder_0": encoder}, "photos": photos[0], "images_per_prompt": 1}
    evaluated = run("AttnDBEvaluateConcept", **wires, **drawing, **own)[4][0]
    torch.testing.assert_close(evaluated, drawn[0], rtol=1e-3, atol=1e-3)


def test_what_it_cannot_do_is_refused(run, trained, micro, photos):
    concept, node = trained[0], "AttnDBConceptDatasetFromImages"
    own = {"images": photos[0], "category": photos[1], "placeholder": "<my-robot>"}
    with refuses("was trained by vico, which adds to the model"):
        robot = run(node, **own)[0]
        run("AttnDBStage2TrainCrossAttention", **micro, dataset=robot, concept=concept, steps=1)
    with refuses("export: diffusers has no place for what vico adds"):
        run("AttnDBExportToDiffusers", model=micro["model"], concept=concept, name="vico")


def test_a_preview_looks_at_the_photo(micro, trained, latents):
    from attndreambooth.nodes.host.ui.preview import PreviewSampler, PreviewSettings

    concept, size = trained[0], {"width": 128, "height": 128}
    settings = PreviewSettings(prompt=PROMPT, every=1, **size, steps=3, seed=0, cfg=3.0)
    wires = (micro["model"], micro["clip"], micro["vae"])
    unet = micro["model"].model.diffusion_model
    pictures = []
    for latent in (*latents, latents[0]):
        sampler = PreviewSampler(settings, *wires, unet, ("<my-robot>", "robot"), latent)
        pictures.append(sampler.draw(concept.embeddings, concept.modules).tobytes())
    assert pictures[0] == pictures[2] != pictures[1]
    assert pictures[0] != sampler.draw(concept.embeddings, {}).tobytes()


def test_a_training_with_a_preview_reads_its_photo_by_a_stock_vae(sd15):
    """Whose weights are made under inference mode, and none of which says that it is frozen."""
    from PIL import Image

    from attndreambooth.nodes.host.model.private_model import training_mode
    from attndreambooth.nodes.host.model.reference_image import photo_latent

    with training_mode():
        latent = photo_latent(sd15.vae, Image.new("RGB", (64, 64)), 64)["samples"]
        assert not latent.requires_grad and not latent.is_inference()
