"""Export to Diffusers of an SDXL concept: diffusers' U-Net computes the same, and it comes back."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.in_diffusers import pipeline_parts, saved_unet
from support.stages import small

NODE = "AttnDBExportToDiffusers"

CHANGED = (
    "input_blocks.1.0.in_layers.2.weight",
    "middle_block.1.transformer_blocks.1.attn2.to_k.weight",
    "label_emb.0.0.weight",
    "out.2.bias",
)


@pytest.fixture(scope="module")
def made(home, train, tmp_path_factory):
    """A word of two vectors that changes a convolution, text attention and the sizes' embedding."""
    import folder_paths

    before = folder_paths.get_output_directory()
    folder_paths.set_output_directory(str(tmp_path_factory.mktemp("trained")))
    wires = small("sdxl")
    with torch.inference_mode():
        begun = train(1, wires, steps=0, vectors=2)[0]
    folder_paths.set_output_directory(before)
    weights = dict(wires.model.model.diffusion_model.named_parameters())
    grain = torch.Generator().manual_seed(3)
    delta = {name: 0.1 * torch.randn(weights[name].shape, generator=grain) for name in CHANGED}
    words = {
        name: v + 0.2 * torch.randn(v.shape, generator=grain)
        for name, v in begun.embeddings.items()
    }
    concept = dataclasses.replace(
        begun, delta=delta, vectors=words["clip_l"], further={"clip_g": words["clip_g"]}
    )
    return SimpleNamespace(wires=wires, concept=concept)


def test_the_same_noise_text_and_sizes_give_the_same_prediction(made, run):
    from comfy.ldm.modules.diffusionmodules.util import timestep_embedding

    from attndreambooth.nodes.host.model.private_unet import private_unet
    from attndreambooth.nodes.host.model.weights import UNET_PREFIX, merged_weights

    folder, _ = run(NODE, model=made.wires.model, concept=made.concept)
    applied, _, _ = run(
        "AttnDBApplyConcept", model=made.wires.model, clip=made.wires.clip, concept=made.concept
    )
    config = made.wires.model.model.model_config.unet_config
    grain = torch.Generator().manual_seed(4)
    x = torch.randn(2, 4, 8, 8, generator=grain)
    t = torch.tensor([400, 30])
    context = torch.randn(2, 77, config["context_dim"], generator=grain)
    pooled = torch.randn(2, config["adm_in_channels"] - 6 * 256, generator=grain)
    sizes = torch.tensor([[1024.0, 768, 0, 64, 512, 512], [640, 480, 8, 0, 512, 512]])

    def ours(model):
        weights = merged_weights(model, UNET_PREFIX)
        unet = private_unet(config, weights, torch.device("cpu"))
        y = torch.cat([pooled, timestep_embedding(sizes.flatten(), 256).reshape(2, -1)], dim=1)
        return unet(x, t, context=context, y=y, transformer_options={})

    with torch.inference_mode(False), torch.no_grad():
        told = {"text_embeds": pooled, "time_ids": sizes}
        theirs = saved_unet(folder)(
            x, t, encoder_hidden_states=context, added_cond_kwargs=told
        ).sample
        drawn, base = ours(applied), ours(made.wires.model)
    error = (theirs - drawn).norm() / drawn.norm()
    assert error < 1e-5 and error < 0.01 * (drawn - base).norm() / drawn.norm()


def test_it_comes_back_by_import_concept(made, run, monkeypatch):
    import folder_paths

    folder, _ = run(NODE, model=made.wires.model, concept=made.concept, name="xl")
    root = Path(folder).parent
    readme = (Path(folder) / "README.md").read_text(encoding="utf-8")
    assert "StableDiffusionXLPipeline" in readme and "token='<astro>'" in readme
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "diffusers", ([str(root)], set()))
    concept, trigger = run(
        "AttnDBImportConcept",
        model=made.wires.model,
        embedding="diffusers/xl/learned_embeds.safetensors",
        unet="xl",
        **{"category": "person", "placeholder": "<astro>"},
    )
    assert trigger == made.concept.trigger
    for name, vectors in made.concept.embeddings.items():
        assert torch.equal(concept.embeddings[name], vectors)
    assert set(concept.delta) == set(CHANGED)
    for name, change in made.concept.delta.items():
        assert (concept.delta[name] - change).abs().max() < 1e-6


def test_diffusers_takes_the_word_for_each_of_its_tokenizers(made, run):
    """As the folder's README says, without its text encoders."""
    from diffusers.loaders import TextualInversionLoaderMixin
    from safetensors.torch import load_file

    folder, _ = run(NODE, model=made.wires.model, concept=made.concept)
    word = load_file(Path(folder) / "learned_embeds.safetensors")
    assert set(word) == {"clip_l", "clip_g"}
    tokenizer = SimpleNamespace(get_vocab=dict, added_tokens_encoder={})
    for name, vectors in word.items():
        read = TextualInversionLoaderMixin._retrieve_tokens_and_embeddings
        tokens, rows = read(["<astro>"], [vectors], tokenizer)
        extend = TextualInversionLoaderMixin._extend_tokens_and_embeddings
        tokens, rows = extend(tokens, rows, tokenizer)
        assert tokens == ["<astro>", "<astro>_1"]
        assert torch.equal(torch.stack(list(rows)), made.concept.embeddings[name])


def text_encoder(kind, ours, act):
    """The host's CLIP text model as transformers' own."""
    from transformers import CLIPTextConfig

    state = {k: v.clone() for k, v in ours.transformer.state_dict().items()}
    width = state["text_model.final_layer_norm.weight"].shape[0]
    config = CLIPTextConfig(
        hidden_size=width,
        intermediate_size=2 * width,
        num_attention_heads=4,
        num_hidden_layers=4,
        projection_dim=width,
        hidden_act=act,
    )
    model = kind(config).eval()
    plain = {k.removeprefix("text_model."): v for k, v in state.items()}
    model.load_state_dict({k: state.get(k, plain.get(k)) for k in model.state_dict()})
    return model


def pipeline(made, folder):
    """StableDiffusionXLPipeline as the exported README says; its other parts are the wires'."""
    from diffusers import StableDiffusionXLPipeline
    from safetensors.torch import load_file
    from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    from attndreambooth.devkit.host_path import host_root

    clip, words = made.wires.clip.cond_stage_model, host_root() / "comfy" / "sd1_tokenizer"
    pad = {"pad_token": "!"}  # number 0, with which the second encoder's text is filled up
    pipe = StableDiffusionXLPipeline(
        text_encoder=text_encoder(CLIPTextModel, clip.clip_l, "quick_gelu"),
        text_encoder_2=text_encoder(CLIPTextModelWithProjection, clip.clip_g, "gelu"),
        tokenizer=CLIPTokenizer.from_pretrained(words, model_max_length=77),
        tokenizer_2=CLIPTokenizer.from_pretrained(words, model_max_length=77, **pad),
        unet=saved_unet(folder),
        **pipeline_parts(),
        add_watermarker=False,
    )
    word = load_file(Path(folder) / "learned_embeds.safetensors")
    for key, encoder, tokenizer in (
        ("clip_l", pipe.text_encoder, pipe.tokenizer),
        ("clip_g", pipe.text_encoder_2, pipe.tokenizer_2),
    ):
        name = {"token": made.concept.placeholder}
        pipe.load_textual_inversion(word[key], text_encoder=encoder, tokenizer=tokenizer, **name)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_the_pipeline_draws_the_graphs_picture(made, run):
    import comfy.sample
    import nodes

    steps, side, texts = 4, 64, ("a photo of a <astro> person", "blurry")
    [folder, _] = run(NODE, model=made.wires.model, concept=made.concept, name="drawn")
    model, clip, trigger = run(
        "AttnDBApplyConcept", model=made.wires.model, clip=made.wires.clip, concept=made.concept
    )
    assert trigger in texts[0]
    empty = torch.zeros(1, 4, side // 8, side // 8)

    def graph(model, clip, prompt):
        asked, not_asked = (
            nodes.CLIPTextEncode().encode(clip, text)[0] for text in (prompt, texts[1])
        )
        latent = {"samples": empty}
        drawn = nodes.KSampler().sample(
            model, 5, steps, 7.5, "euler", "normal", asked, not_asked, latent, 1.0
        )
        return made.wires.vae.decode(drawn[0]["samples"])

    with torch.inference_mode(False), torch.no_grad():
        pipe = pipeline(made, folder)
        pipe.scheduler.set_timesteps(steps)
        sigma = pipe.scheduler.init_noise_sigma
        # the host's noise of the first step has the variance sigma^2 + 1
        noise = comfy.sample.prepare_noise(empty, 5) * (sigma**2 + 1) ** 0.5 / sigma
        drawn: Any = pipe(
            texts[0],
            negative_prompt=texts[1],
            num_inference_steps=steps,
            guidance_scale=7.5,
            latents=noise,
            height=side,
            width=side,
            output_type="latent",
        )
    scale = made.wires.model.model.latent_format.scale_factor
    theirs, ours = made.wires.vae.decode(drawn.images / scale), graph(model, clip, texts[0])
    error = (theirs - ours).abs().max()
    assert ours.shape == (1, side, side, 3) and ours.std() > 0.05
    assert error < 1 / 255
    assert (graph(made.wires.model, clip, texts[0]) - ours).abs().max() > 10 * error
    assert (graph(model, clip, "a photo of a person") - ours).abs().max() > 10 * error
