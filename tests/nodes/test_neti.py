"""NeTI's word at sampling: the same prediction as in training, under the host's own samplers."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from support.stages import refuses

from attndreambooth.attndb.attention.word_maps import MapSelection, word_maps_of
from attndreambooth.attndb.models.conditioning import Conditioning

NODE = "AttnDBTrainComparedMethod"
PROMPT = "a photo of a <my-robot> on the beach"


@pytest.fixture(scope="module")
def micro(run):
    names = ("model", "clip", "vae")
    return dict(zip(names, run("AttnDBLoadMicroModel")[:3], strict=True))


@pytest.fixture(scope="module")
def trained(run, micro):
    photos, category, *_ = run("AttnDBMicroConcept", concept="hatted-robot")
    node = "AttnDBConceptDatasetFromImages"
    robot = run(node, images=photos, category=category, placeholder="<my-robot>")[0]
    method = {
        "method": "NeTI",
        "steps": 8,
        "learning_rate": 1e-2,
        "batch_size": 2,
        "templates": "dataset",
        "bypass": True,
        "nested_dropout": 0.5,
    }
    shared = {"resolution": 64, "augmentation": "none", "precision": "fp32", "dataset": robot}
    return run(NODE, **micro, **shared, method=method)


def draw(model: Any, clip: Any, prompt: str = PROMPT, sampler: str = "euler", **changes: Any):
    """Samples of the embedded model by the stock nodes."""
    import nodes

    values = {"negative": "", "steps": 3, "cfg": 3.0, "batch": 1, "change": lambda c: c, **changes}
    positive, negative = (
        nodes.CLIPTextEncode().encode(clip, text)[0] for text in (prompt, values["negative"])
    )
    channels = model.model.latent_format.latent_channels
    latent = {"samples": torch.zeros(values["batch"], channels, 8, 8)}
    node = nodes.KSampler()
    positive = values["change"](positive)
    return node.sample(
        *(model, 5, values["steps"], values["cfg"], sampler, "normal"),
        *(positive, negative, latent, 1.0),
    )[0]["samples"]


def test_every_call_of_the_u_net_predicts_what_training_would(micro, trained):
    """Recorded inside a stock sampler, and worked out again by the training's own model."""
    import nodes

    from attndreambooth.attndb.models.space_time_mapper import SpaceTimeMapper
    from attndreambooth.nodes.host.model.private_model import private_model
    from attndreambooth.nodes.host.model.text import tokenize_prompts
    from attndreambooth.nodes.host.model.weights import UNET_PREFIX, merged_weights

    concept, model, clip = trained[:3]
    seen = []

    def record(apply: Any, call: Any) -> Any:
        out = apply(call["input"], call["timestep"], **call["c"])
        seen.append((call["input"].clone(), call["timestep"].clone(), out.clone()))
        return out

    watched = model.clone()
    watched.set_model_unet_function_wrapper(record)
    draw(watched, clip, sampler="heun", cfg=1.0, batch=2)
    assert len(seen) >= 4

    class Dataset:
        placeholder = "<my-robot>"

    with torch.inference_mode(False), torch.no_grad():
        weights = merged_weights(micro["model"], UNET_PREFIX)
        private = private_model(micro["model"], micro["clip"], micro["vae"], weights, {})
        [prompt] = tokenize_prompts(micro["clip"], Dataset(), 1, [PROMPT])
        tensors = {n.removeprefix("neti."): v.clone() for n, v in concept.modules.items()}
        mapper = SpaceTimeMapper.from_tensors(tensors, concept.vectors.shape[1])
        sampling = micro["model"].model.model_sampling
        names = [layer.name for layer in private.text_attention()]
        plain = nodes.CLIPTextEncode().encode(micro["clip"], PROMPT)[0][0][0].clone()
        for x, sigma, out in seen:
            t = sampling.timestep(sigma).float()
            layers = {}
            for index, name in enumerate(names):
                vector, bypass = mapper(t, torch.full_like(t, index))
                both = private.encode_words(
                    [prompt] * 2, {"clip_l": vector[:, None]}, {"clip_l": bypass[:, None]}
                )
                layers[name] = tuple(states["clip_l"] for states in both)
            z = sampling.calculate_input(sigma, x.clone())
            text = Conditioning({"clip_l": plain.expand(2, -1, -1)}, layers=layers)
            eps = private.denoise(z, t, text)
            ours = sampling.calculate_denoised(sigma, eps, x.clone())
            torch.testing.assert_close(ours, out, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m", "heun", "dpmpp_sde", "lcm", "uni_pc"])
def test_it_draws_another_picture_than_without_the_patch_under_any_sampler(trained, micro, sampler):
    _, model, clip = trained[:3]
    drawn = draw(model, clip, sampler=sampler)
    assert bool(drawn.isfinite().all())
    plain = draw(micro["model"], clip, sampler=sampler)
    assert (drawn - plain).abs().mean() > 1e-3
    # without the word the MODEL draws what it always did
    text = "a photo of a robot on the beach"
    assert torch.equal(
        draw(model, clip, text, sampler), draw(micro["model"], micro["clip"], text, sampler)
    )


def test_strength_0_is_the_untouched_model_and_more_changes_more(run, trained, micro):
    concept, _, clip = trained[:3]

    def at(strength: float) -> Any:
        wires = {"model": micro["model"], "clip": micro["clip"]}
        return draw(*run("AttnDBApplyConcept", **wires, concept=concept, strength=strength)[:2])

    none, half, whole = at(0.0), at(0.5), at(1.0)
    assert torch.equal(none, draw(micro["model"], clip))
    assert torch.equal(whole, draw(*trained[1:3]))
    assert 0 < (half - none).norm() and not torch.equal(half, whole)


def test_it_comes_back_from_its_file(run, trained, micro):
    concept, model, clip = trained[:3]
    name = run("AttnDBSaveConcept", concept=concept, name="robot-neti-sampled")[0]
    loaded, trigger = run("AttnDBLoadConcept", name=name)
    assert loaded.digest() == concept.digest() and trigger == "<my-robot>"
    assert set(loaded.modules) == set(concept.modules)
    wires = {"model": micro["model"], "clip": micro["clip"]}
    applied = run("AttnDBApplyConcept", **wires, concept=loaded, strength=1.0)
    assert torch.equal(draw(*applied[:2]), draw(model, clip))
    # the stock embedding syntax finds the word's plain vector
    stock = draw(micro["model"], micro["clip"], PROMPT.replace("<my-robot>", f"embedding:{name}"))
    assert torch.equal(stock, draw(micro["model"], clip))


def test_prompt_weights_several_chunks_and_a_longer_negative_are_obeyed(trained, micro):
    _, model, clip = trained[:3]
    whole = draw(model, clip)
    weighted = draw(model, clip, PROMPT.replace("<my-robot>", "(<my-robot>:0.5)"))
    assert not torch.equal(weighted, whole)
    long = PROMPT + ", " + " ".join(["red"] * 80)
    for prompt, negative in ((long, ""), (PROMPT, " ".join(["blue"] * 100))):
        with_word = draw(model, clip, prompt, negative=negative)
        assert not torch.equal(with_word, draw(micro["model"], clip, prompt, negative=negative))
    # a text that is repeated to a longer one's length is attended to as before
    alone = draw(model, clip, PROMPT, cfg=1.0)
    repeated = draw(model, clip, PROMPT, cfg=1.0, negative=" ".join(["blue"] * 100))
    torch.testing.assert_close(repeated, alone, rtol=1e-3, atol=1e-3)


def test_a_changed_text_is_left_alone_and_said(trained, micro, caplog):
    import nodes

    _, model, clip = trained[:3]

    def averaged(positive: Any) -> Any:
        other = nodes.CLIPTextEncode().encode(clip, "a tree")[0]
        return nodes.ConditioningAverage().addWeighted(positive, other, 0.5)[0]

    drawn = draw(model, clip, change=averaged)
    assert torch.equal(drawn, draw(micro["model"], clip, change=averaged))
    assert "was changed behind CLIP Text Encode" in caplog.text


def test_a_concatenated_text_keeps_its_word(trained, micro):
    import nodes

    _, model, clip = trained[:3]

    def followed(positive: Any) -> Any:
        other = nodes.CLIPTextEncode().encode(clip, "a tree")[0]
        return nodes.ConditioningConcat().concat(positive, other)[0]

    drawn = draw(model, clip, change=followed)
    assert not torch.equal(drawn, draw(micro["model"], clip, change=followed))


def test_a_region_leaves_the_negative_alone_in_a_pass_of_its_own(trained):
    """As Self-Attention Guidance asks for it: without the positive, so at the positive's number."""
    import comfy.samplers
    import nodes

    _, model, clip = trained[:3]
    seen = []

    def again(args: Any) -> Any:
        own = (args["model"], [args["uncond"]], args["input"], args["sigma"], args["model_options"])
        (alone,) = comfy.samplers.calc_cond_batch(*own)
        seen.append((alone, args["uncond_denoised"]))
        return args["denoised"]

    watched = model.clone()
    watched.set_model_sampler_post_cfg_function(again)
    draw(watched, clip, change=lambda c: nodes.ConditioningSetArea().append(c, 32, 32, 0, 0, 1)[0])
    assert len(seen) == 3
    for alone, beside in seen:
        torch.testing.assert_close(alone, beside, rtol=1e-4, atol=1e-4)


def test_a_picture_that_another_node_draws_in_tiles_has_the_word(trained, micro):
    """As nodes for tiled diffusion stack them: the texts of a tile, then those of the next."""
    _, model, clip = trained[:3]
    calls = []

    def tiled(apply: Any, call: Any) -> Any:
        calls.append(len(call["input"]))
        options = call["c"].pop("transformer_options")
        twice = {name: torch.cat([value] * 2) for name, value in call["c"].items()}
        both = (torch.cat([call[name]] * 2) for name in ("input", "timestep"))
        return apply(*both, **twice, transformer_options=options)[calls[-1] :]

    plain, watched = micro["model"].clone(), model.clone()
    for one in (plain, watched):
        one.set_model_unet_function_wrapper(tiled)
    drawn = draw(watched, clip, batch=2)
    torch.testing.assert_close(drawn, draw(model, clip, batch=2), rtol=1e-3, atol=1e-3)
    assert set(calls) == {4} and not torch.allclose(drawn, draw(plain, clip, batch=2), atol=1e-2)


def test_the_wires_that_came_in_stay_as_they_are(run, trained, micro):
    from attndreambooth.nodes.host.model.mapped_text import MAPPED

    model, clip = trained[1:3]
    assert not micro["model"].wrappers and model.wrappers
    assert "encode_token_weights" not in vars(micro["clip"].cond_stage_model)
    plain, [(_, extra)] = micro["clip"], clip.encode_from_tokens_scheduled(clip.tokenize(PROMPT))
    assert MAPPED in extra
    [(_, extra)] = plain.encode_from_tokens_scheduled(plain.tokenize("a photo of a robot"))
    assert MAPPED not in extra
    assert model.model is micro["model"].model


def test_capture_attention_sees_the_words_own_layers_and_changes_nothing(run, trained, micro):
    _, model, clip = trained[:3]
    maps = []
    for wire in (model, micro["model"]):
        captured, capture = run("AttnDBCaptureAttention", model=wire, clip=clip, text=PROMPT)[:2]
        drawn = draw(captured, clip)
        assert torch.equal(drawn, draw(wire, clip))
        record = capture.runs[-1].record
        maps.append(word_maps_of(record, MapSelection(layers="all")).of("<my-robot>"))
    assert not torch.allclose(*maps)


def test_what_it_cannot_do_is_refused(run, trained, micro):
    concept = trained[0]
    wires = {"model": micro["model"], "clip": micro["clip"]}
    with refuses("correction = 0.2: the word <my-robot> has no one vector to turn"):
        run("AttnDBApplyConcept", **wires, concept=concept, strength=1.0, correction=0.2)
    photos, category, *_ = run("AttnDBMicroConcept", concept="hatted-robot")
    node = "AttnDBConceptDatasetFromImages"
    robot = run(node, images=photos, category=category, placeholder="<my-robot>")[0]
    with refuses("was trained by neti, which adds to the model"):
        run("AttnDBStage2TrainCrossAttention", **micro, dataset=robot, concept=concept, steps=1)
    with refuses("export: diffusers has no place for what neti adds"):
        run("AttnDBExportToDiffusers", model=micro["model"], concept=concept, name="neti")
    broken = {n: v for n, v in concept.modules.items() if "first" not in n}
    damaged = dataclasses.replace(concept, modules=broken)
    with refuses("is damaged: its mapper cannot be read"):
        run("AttnDBApplyConcept", **wires, concept=damaged, strength=1.0)
    newer = dataclasses.replace(concept, modules={"other.x": torch.ones(1)})
    with refuses(r"a part that this version of the pack does not know \(other\.x\)"):
        run("AttnDBApplyConcept", **wires, concept=newer, strength=1.0)


def test_a_preview_draws_the_word_of_the_moment(micro, trained):
    from attndreambooth.nodes.host.ui.preview import PreviewSampler, PreviewSettings

    concept = trained[0]
    size = {"width": 64, "height": 64}
    settings = PreviewSettings(prompt=PROMPT, every=1, **size, steps=3, seed=0, cfg=3.0)
    wires = (micro["model"], micro["clip"], micro["vae"])
    unet = micro["model"].model.diffusion_model
    sampler = PreviewSampler(settings, *wires, unet, ("<my-robot>", "robot"))
    with_word = sampler.draw(concept.embeddings, concept.modules).tobytes()
    assert with_word == sampler.draw(concept.embeddings, concept.modules).tobytes()
    assert with_word != sampler.draw(concept.embeddings, {}).tobytes()


@pytest.mark.parametrize(("kind", "skip"), [("sd15", None), ("sd15", -2), ("sd21", None)])
def test_training_and_sampling_encode_alike_whatever_layer_is_read(host, kind, skip):
    """The one by the states in front of the last normalisation, the other by the host's encode."""
    from support.stages import small

    from attndreambooth.attndb.artifacts.lineage import Lineage
    from attndreambooth.attndb.models.space_time_mapper import SpaceTimeMapper
    from attndreambooth.nodes.host.model.mapped_text import MAPPED, with_mapped_word
    from attndreambooth.nodes.host.model.mapped_words import (
        MappedWord,
        encoded_by_layer,
        private_encoder,
    )
    from attndreambooth.nodes.host.model.placeholders import embedding_widths, with_vectors
    from attndreambooth.nodes.host.model.text import tokenize_prompts
    from attndreambooth.nodes.host.model.text_encoder import TextEncoder

    clip = small(kind).clip
    if skip is not None:
        clip = clip.clone()
        clip.clip_layer(skip)
    [width] = embedding_widths(clip).values()
    mapper = SpaceTimeMapper(width, 3, generator=torch.Generator().manual_seed(2))
    plain = torch.randn(1, width)
    marked = with_vectors(with_mapped_word(clip, plain, "key"), "<my-robot>", plain)

    class Dataset:
        placeholder = "<my-robot>"

    with torch.no_grad():
        [(states, extra)] = marked.encode_from_tokens_scheduled(marked.tokenize(PROMPT))
        text = extra[MAPPED]
        assert torch.equal(text.states, states) and set(text.words.values()) == {"key"}
        word = MappedWord(Lineage("<my-robot>", "key", ""), mapper, plain[0], 1.0)
        encoder = private_encoder(text, torch.device("cpu"))
        ours = encoded_by_layer(encoder, text, {"key": word}, 300.0, 3)
        [prompt] = tokenize_prompts(clip, Dataset(), 1, [PROMPT])
        vectors, bypass = mapper(torch.full((3,), 300.0), torch.arange(3))
        training = TextEncoder.from_clip(clip, text.patcher.model.clip, torch.device("cpu"))
        theirs = training.encode_words([prompt] * 3, vectors[:, None], bypass[:, None])
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(*ours)
        again = training.encode_words([prompt], plain[None], None)[0]
        torch.testing.assert_close(again, states, rtol=1e-4, atol=1e-4)
