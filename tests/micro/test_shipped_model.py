"""attndb-micro behaves like any model of the host."""

import logging

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from attndreambooth.micro import weight_files as weights
from attndreambooth.micro.following import following, prompt_scenes
from attndreambooth.micro.sampling import sample
from attndreambooth.micro.shipped import full, load_autoencoder, load_judges
from attndreambooth.micro.stock import PROMPTS, make_scenes, to_model_range
from attndreambooth.micro.text import CaptionEncoder, TextEncoder, Vocabulary
from attndreambooth.micro.world import full_caption, render

PROMPT = "a photo of a striped red robot on the beach"


def encode(clip, text):
    with torch.inference_mode():
        return clip.encode_from_tokens(clip.tokenize(text))


def test_the_parts_are_the_hosts_own_types(micro):
    import comfy.model_patcher
    import comfy.sd
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    model, clip, vae = micro
    assert isinstance(model, comfy.model_patcher.ModelPatcher)
    assert isinstance(model.model.diffusion_model, UNetModel)
    assert isinstance(clip, comfy.sd.CLIP) and isinstance(vae, comfy.sd.VAE)


def test_the_host_encodes_text_as_the_training_did(micro):
    """One prompt through the host's CLIP and through the encoder that was trained."""
    tensors, metadata = weights.load(weights.MODEL)
    vocabulary = Vocabulary([int(token) for token in metadata["vocabulary"].split()])
    trained = TextEncoder(vocabulary.rows)
    state = weights.take(tensors, "cond_stage_model.")
    trained.load_state_dict(full(state))
    captions = CaptionEncoder(micro[1].tokenizer.clip_l.tokenizer)
    assert captions.vocabulary.tokens == vocabulary.tokens
    with torch.no_grad():
        expected = trained(captions([PROMPT]))
    assert torch.allclose(encode(micro[1], PROMPT), expected, atol=1e-4)


def test_unknown_words_are_named_and_read_as_one_word(micro, caplog):
    clip = micro[1]
    with caplog.at_level(logging.WARNING):
        first = encode(clip, "a photo of a glockenspiel in the city")
        assert "'glockenspiel'" in caplog.text and "'city'" not in caplog.text
    inner = clip.tokenizer.clip_l
    for word in ("sks", "zebra"):
        assert inner.unknown_words(inner.tokenizer(f"a {word}, robot")["input_ids"]) == [word]
    one_token = [encode(clip, f"a photo of a {w} in the city") for w in ("sks", "zebra")]
    assert torch.equal(*one_token)
    assert not torch.equal(first, encode(clip, "a photo of a robot in the city"))


def test_a_learned_embedding_works_as_a_word(micro, tmp_path):
    """`embedding:name` with a row of the table gives what the word itself gives."""
    clip = micro[1].clone()
    inner = clip.tokenizer.clip_l
    token = inner.tokenizer("robot")["input_ids"][1]
    table = clip.cond_stage_model.clip_l.transformer.get_input_embeddings().weight
    save_file({"clip_l": table[token : token + 1].float().clone()}, tmp_path / "thing.safetensors")
    before = inner.embedding_directory
    inner.embedding_directory = [str(tmp_path)]
    try:
        with_file = encode(clip, "a photo of a embedding:thing in the city")
    finally:
        inner.embedding_directory = before
    expected = encode(clip, "a photo of a robot in the city")
    assert torch.allclose(with_file, expected, atol=1e-5)


def test_a_picture_survives_the_vae(micro):
    vae = micro[2]
    scenes = make_scenes(0, PROMPTS, 8)
    pictures = torch.from_numpy(np.stack([render(scene).picture for scene in scenes]))
    with torch.inference_mode():
        latents = vae.encode(pictures.float() / 255)
        again = vae.decode(latents)
    assert latents.shape == (8, 32, 16, 16)
    assert 0.3 < float(latents.std()) < 1.3
    error = (again - pictures.float() / 255).square().mean()
    assert -10 * torch.log10(error) > 30  # dB
    own = load_autoencoder().encode(to_model_range(pictures))
    assert torch.allclose(latents, own.to(latents), atol=1e-4)


def test_the_stock_nodes_draw_with_it(micro):
    import nodes

    model, clip, vae = micro
    with torch.inference_mode():
        positive = nodes.CLIPTextEncode().encode(clip, PROMPT)[0]
        negative = nodes.CLIPTextEncode().encode(clip, "")[0]
        empty = nodes.EmptyLatentImage().generate(128, 128, 2)[0]
        arguments = (7, 6, 3.0, "dpmpp_2m", "normal", positive, negative, empty)
        drawn = nodes.KSampler().sample(model, *arguments)[0]
        again = nodes.KSampler().sample(model, *arguments)[0]
        image = nodes.VAEDecode().decode(vae, drawn)[0]
    assert image.shape == (2, 128, 128, 3) and torch.isfinite(image).all()
    assert torch.equal(drawn["samples"], again["samples"])
    assert float(image.std()) > 0.1


def test_the_stock_lora_loader_changes_every_weight_it_names(micro):
    import comfy.sd

    model, clip, _ = micro
    unet = model.model.diffusion_model.state_dict()
    deltas = {f"diffusion_model.{k}.diff": torch.ones_like(v) for k, v in unet.items()}
    deltas = {k.replace(".weight.diff", ".diff"): v for k, v in deltas.items() if ".weight." in k}
    patched, _ = comfy.sd.load_lora_for_models(model, clip, deltas, 0.5, 0.0)
    assert len(patched.patches) == len(deltas) > 50


def test_it_follows_prompts(micro):
    """A dozen held-out prompts in few steps; the real figures come from evaluate-micro."""
    scenes = prompt_scenes(1, 12)
    prompts = [full_caption(scene) for scene in scenes]
    model, clip, vae = micro
    pictures = sample(model, clip, vae, prompts, seed=1, steps=12, batch=12)
    scores = following(load_judges(), pictures.numpy(), scenes)
    assert min(scores["place"], scores["style"], scores["category"]) >= 0.7


def test_the_judges_judge():
    """Near-perfect on renderings, and near chance when told another scene's prompt."""
    scenes = prompt_scenes(2, 100)
    pictures = np.stack([render(scene).picture for scene in scenes])
    right = following(load_judges(), pictures, scenes)
    assert min(right[name] for name in ("category", "place", "style", "second")) >= 0.95
    assert min(right[name] for name in ("colour", "pattern")) >= 0.85
    wrong = following(load_judges(), pictures, scenes[1:] + scenes[:1])
    assert wrong["category"] < 0.4 and wrong["place"] < 0.4


@pytest.mark.parametrize("part", ["model", "clip", "vae"])
def test_two_loads_share_nothing(micro, part):
    from attndreambooth.nodes.host.model.micro import load_micro

    other = dict(zip(("model", "clip", "vae"), load_micro(), strict=True))[part]
    mine = dict(zip(("model", "clip", "vae"), micro, strict=True))[part]
    key = {"model": "model", "clip": "cond_stage_model", "vae": "first_stage_model"}[part]
    first = next(getattr(mine, key).parameters())
    assert first.data_ptr() != next(getattr(other, key).parameters()).data_ptr()


@pytest.mark.parametrize("part", [0, 1, 2])
def test_the_host_can_make_another_of_each_part_as_its_own_trainer_does(micro, part):
    def patcher_of(wires):
        return wires[0] if part == 0 else wires[part].patcher

    mine = patcher_of(micro)
    make, arguments = mine.cached_patcher_init
    with torch.inference_mode(False):
        other = make(*arguments, disable_dynamic=True)
    assert type(other.model) is type(mine.model) and other.model is not mine.model
    theirs = other.model.state_dict()
    for name, tensor in mine.model.state_dict().items():
        assert torch.equal(theirs[name], tensor) and theirs[name].data_ptr() != tensor.data_ptr()
    assert not any(p.is_inference() for p in other.model.parameters())
