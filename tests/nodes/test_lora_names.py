"""A saved LoRA in other programs: they know every name, and compute what Apply Concept computes."""

from __future__ import annotations

import re
import zlib
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.concepts import concept_with
from support.published import FAMILIES, narrow_model, published_model

from attndreambooth.attndb.artifacts import concept_files as files
from attndreambooth.attndb.artifacts.concept import TrainedConcept
from attndreambooth.attndb.artifacts.foreign_files import foreign_delta
from attndreambooth.attndb.artifacts.kohya_names import kohya_names, kohya_path
from attndreambooth.attndb.artifacts.tensor_file import write_whole
from attndreambooth.attndb.artifacts.weight_delta import LowRank, delta_tensors
from attndreambooth.attndb.artifacts.weight_file import host_keys, weight_file_keys

PREFIX = "diffusion_model."
RANKS = {"one rank": lambda name: 6, "many ranks": lambda name: 1 + zlib.crc32(name.encode()) % 6}


@pytest.fixture(params=list(FAMILIES))
def published(request, host):
    """A U-Net at its real size, its layers that have weights, and kohya's names of them."""
    model = published_model(request.param)
    state = model.model.state_dict()
    paths = {key.removeprefix(PREFIX).rpartition(".")[0] for key in state}
    names = kohya_names(paths, request.param)
    assert set(names) == paths and len(set(names.values())) == len(paths)
    return SimpleNamespace(model=model, family=request.param, names=names)


def test_the_hosts_loader_knows_every_layer_by_its_name(published):
    import comfy.lora

    known = comfy.lora.model_lora_keys_unet(published.model.model, {})
    for path, name in published.names.items():
        assert known[name] == f"{PREFIX}{path}.weight"
        assert kohya_path(name) == path


def test_they_are_the_layers_of_the_u_net_that_kohyas_scripts_train(published):
    """diffusers' of SD 1.x and 2.x, the checkpoint's own of SDXL."""
    from diffusers import UNet2DConditionModel

    from attndreambooth.nodes.host.model.diffusers_names import diffusers_config

    if published.family == "SDXL":
        theirs = list(published.names)
    else:
        with torch.device("meta"):
            unet: Any = UNet2DConditionModel.from_config(diffusers_config(published.model))
        theirs = {key.rpartition(".")[0] for key in unet.state_dict()}
    assert set(published.names.values()) == {f"lora_unet_{n.replace('.', '_')}" for n in theirs}


def in_a1111(name: str, layers: set[str]) -> str | None:
    """A1111's rule, from its description of layers: diffusers' blocks are counted three to a level,
    and what is none of them is called as in the checkpoint."""
    layer = name.removeprefix("lora_unet_")
    ends = {"conv1": "in_layers_2", "conv2": "out_layers_3", "time_emb_proj": "emb_layers_1"}
    ends["conv_shortcut"] = "skip_connection"
    edges = {"conv_in": "input_blocks_0_0", "conv_out": "out_2"}
    edges |= {f"time_embedding_linear_{n}": f"time_embed_{2 * n - 2}" for n in (1, 2)}
    found = edges.get(layer, layer)
    if of := re.fullmatch(r"(down|up)_blocks_(\d)_(down|up)samplers_0_conv", layer):
        level = int(of[2])
        up = f"output_blocks_{3 * level + 2}_{2 if level else 1}_conv"
        found = up if of[1] == "up" else f"input_blocks_{3 * level + 3}_0_op"
    elif of := re.fullmatch(
        r"(down|mid|up)_block(?:s_(\d))?_(attentions|resnets)_(\d)_(.+)", layer
    ):
        side, level, kind, number, end = of[1], int(of[2] or 0), of[3], int(of[4]), of[5]
        attention = kind == "attentions"
        end = end if attention else ends.get(end, end)
        if side == "mid":
            found = f"middle_block_{1 if attention else 2 * number}_{end}"
        else:
            block = 3 * level + number + (side == "down")
            found = f"{'in' if side == 'down' else 'out'}put_blocks_{block}_{int(attention)}_{end}"
    return found if found in layers else None


def test_a1111_finds_every_matrix_and_convolution(published):
    layers = {path.replace(".", "_") for path in published.names}
    state = published.model.model.state_dict()
    for path, name in published.names.items():
        if state[f"{PREFIX}{path}.weight"].ndim >= 2:
            assert in_a1111(name, layers) == path.replace(".", "_")


def test_a_u_net_of_another_layout_has_no_such_names(sd15):
    """The small models have one residual block a level, so that counting by three is wrong."""
    state = sd15.model.model.state_dict()
    paths = {k.removeprefix(PREFIX).rpartition(".")[0] for k in state if k.startswith(PREFIX)}
    for some in (paths, {path for path in paths if ".attn2." in path}):
        assert some and kohya_names(some, "SD 1.5") == {}


# ---- what is computed


def low_rank_concept(model, family, rank) -> TrainedConcept:
    """A LoRA on every matrix and convolution of a MODEL."""
    grain, delta = torch.Generator().manual_seed(5), {}
    for key, weight in sorted(model.model.state_dict().items()):
        name = key.removeprefix(PREFIX)
        if name == key or weight.ndim < 2:
            continue
        out, inputs = weight.shape[0], weight[0].numel()
        r = min(rank(name), out, inputs)
        up = 0.3 * torch.randn(out, r, generator=grain) / r**0.5
        down = torch.randn(r, inputs, generator=grain) / inputs**0.5
        delta[name] = LowRank(up, down, tuple(weight.shape))
    return concept_with(delta, family)


@pytest.fixture(scope="module", params=["SD 1.5", "SDXL"])
def narrow(request, home):
    with torch.inference_mode():
        return SimpleNamespace(model=narrow_model(request.param), family=request.param)


@pytest.fixture(params=list(RANKS))
def saved(request, narrow, home):
    """A concept, the same MODEL with it, and the name of its files."""
    from attndreambooth.nodes.host.concept_store import save_concept
    from attndreambooth.nodes.host.model.concept_patches import apply_to_model

    concept = low_rank_concept(narrow.model, narrow.family, RANKS[request.param])
    name = save_concept(concept, f"{narrow.family}-{request.param}".replace(" ", "-"))
    return SimpleNamespace(
        **vars(narrow),
        concept=concept,
        name=name,
        path=home / "loras" / f"{name}.safetensors",
        applied=apply_to_model(narrow.model, concept, 1.0),
    )


def weights(model):
    from attndreambooth.nodes.host.model.weights import UNET_PREFIX, merged_weights

    return merged_weights(model, UNET_PREFIX)


def test_the_stock_loader_makes_the_same_weights_of_it(saved, narrow):
    import nodes
    from safetensors.torch import load_file

    tensors = load_file(saved.path)
    assert all(key.startswith("lora_unet_") for key in tensors)
    stock, _ = nodes.LoraLoader().load_lora(narrow.model, None, saved.path.name, 1.0, 0.0)
    ours, theirs, base = weights(saved.applied), weights(stock), weights(narrow.model)
    assert all(torch.equal(theirs[name], ours[name]) for name in ours)
    changed = {name for name in ours if not torch.equal(ours[name], base[name])}
    assert changed == set(saved.concept.delta)


def test_diffusers_computes_what_apply_concept_computes(saved):
    unet, predicts = pipeline_with(saved)
    with torch.inference_mode(False), torch.no_grad():
        given = inputs(saved)
        theirs = unet(given.x, given.t, encoder_hidden_states=given.text, **given.told).sample
        ours, base = predicts(saved.applied, given), predicts(saved.model, given)
    error = (theirs - ours).norm() / ours.norm()
    assert error < 1e-5 and error < 1e-4 * (ours - base).norm() / ours.norm()


def inputs(saved) -> SimpleNamespace:
    """A noisy latent, a timestep, text states; of SDXL the sizes, too, as each side wants them."""
    from comfy.ldm.modules.diffusionmodules.util import timestep_embedding

    grain = torch.Generator().manual_seed(4)
    x, text = torch.randn(1, 4, 16, 16, generator=grain), torch.randn(1, 77, 64, generator=grain)
    given = SimpleNamespace(x=x, t=torch.tensor([300]), text=text, told={}, y=None)
    if saved.family == "SDXL":
        pooled = torch.randn(1, 32, generator=grain)
        sizes = torch.tensor([[1024.0, 768, 0, 64, 512, 512]])
        given.told = {"added_cond_kwargs": {"text_embeds": pooled, "time_ids": sizes}}
        given.y = torch.cat([pooled, timestep_embedding(sizes.flatten(), 256).reshape(1, -1)], 1)
    return given


def pipeline_with(saved):
    """diffusers' U-Net of a pipeline that has loaded the file, and ours to compare it with."""
    from diffusers import (
        EulerDiscreteScheduler,
        StableDiffusionPipeline,
        StableDiffusionXLPipeline,
        UNet2DConditionModel,
    )

    from attndreambooth.nodes.host.model.diffusers_names import diffusers_config, diffusers_places
    from attndreambooth.nodes.host.model.private_unet import private_unet

    config = saved.model.model.model_config.unet_config
    large = saved.family == "SDXL"
    kind = StableDiffusionXLPipeline if large else StableDiffusionPipeline
    others = ("text_encoder_2", "tokenizer_2") if large else ("safety_checker", "feature_extractor")
    nothing = dict.fromkeys(("vae", "text_encoder", "tokenizer", *others))

    def predicts(model, given):
        unet = private_unet(config, weights(model), torch.device("cpu"))
        return unet(given.x, given.t, context=given.text, y=given.y, transformer_options={})

    with torch.inference_mode(False), torch.no_grad():
        unet: Any = UNet2DConditionModel.from_config(diffusers_config(saved.model))
        unet.eval()
        base = weights(saved.model)
        places = diffusers_places(saved.model)
        unet.load_state_dict({theirs: base[ours] for theirs, (ours, _) in places.items()})
        pipe = kind(unet=unet, scheduler=EulerDiscreteScheduler(steps_offset=1), **nothing)
        pipe.load_lora_weights(saved.path.parent, weight_name=saved.path.name)
    return pipe.unet, predicts


def test_diffusers_takes_the_word_from_the_embedding_file(tmp_path):
    """Of SD 1.x and 2.x: `load_textual_inversion(file, token=word)`."""
    from diffusers.loaders import TextualInversionLoaderMixin
    from safetensors.torch import load_file

    fields = {"category": "dog", "text_key": "clip_l", "vectors": torch.randn(2, 768)}
    concept = TrainedConcept(placeholder="<x>", base_family="SD 1.5", **fields)
    path = tmp_path / "x.safetensors"
    write_whole(files.concept_files(concept, "x", path, tmp_path / "none"))
    tokenizer = SimpleNamespace(get_vocab=dict, added_tokens_encoder={})
    read = TextualInversionLoaderMixin._retrieve_tokens_and_embeddings
    tokens, vectors = read(["<x>"], [load_file(path)], tokenizer)
    assert tokens == ["<x>"] and torch.equal(vectors[0], concept.vectors)


# ---- files of before


def test_a_file_of_before_is_loaded_and_saved_again_with_the_new_names(
    narrow, home, run, monkeypatch
):
    from safetensors import safe_open

    concept = low_rank_concept(narrow.model, narrow.family, lambda name: 2)
    name = f"before-{narrow.family}".replace(" ", "-")

    def keys():
        with safe_open(home / "loras" / f"{name}.safetensors", "pt") as handle:
            return set(handle.keys())

    with monkeypatch.context() as before:
        before.setattr(files, "file_names", lambda *_: {})
        before.setattr(files, "weight_file_keys", lambda delta, _: host_keys(delta))
        run("AttnDBSaveConcept", concept=concept, name=name)
    assert keys() == host_keys(concept.delta).keys()
    loaded, _ = run("AttnDBLoadConcept", name=name)
    assert loaded.digest() == concept.digest()
    assert run("AttnDBSaveConcept", concept=loaded, name=name)[0] == name
    assert keys() == weight_file_keys(concept.delta, narrow.family).keys()
    assert run("AttnDBLoadConcept", name=name)[0].digest() == concept.digest()


def test_import_concept_reads_it_as_a_lora_of_other_programs(narrow):
    from attndreambooth.nodes.host.foreign_concept import _weights

    concept = low_rank_concept(narrow.model, narrow.family, lambda name: 2)
    tensors = weight_file_keys(concept.delta, narrow.family)
    delta, left = foreign_delta(tensors, _weights(narrow.model), "x")
    assert left == 0
    read, made = delta_tensors(delta), delta_tensors(concept.delta)
    assert read.keys() == made.keys()
    assert all(torch.equal(read[name], made[name]) for name in made)
