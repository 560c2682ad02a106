"""Import Concept: other programs' files do in a concept what they do in the stock loaders."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.kohya import kohya_lora
from support.stages import draw, small

WORD = 0.3 * torch.randn(768, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def sd15(home):
    """A small SD 1.5 that reads words of the real width."""
    return small("sd15", width=768)


@pytest.fixture
def files(sd15, home):
    """An embedding as the published code saves it, and a kohya LoRA of every to_k in attn2."""

    torch.save({"<sloth>": WORD}, home / "embeddings" / "learned_embeds_steps_60.bin")
    tensors = kohya_lora(sd15.model, "lora_unet_down_blocks")
    save_file(tensors, home / "loras" / "kohya.safetensors")
    import folder_paths

    folder_paths.filename_list_cache.clear()


def test_it_draws_what_the_stock_loaders_draw(sd15, run, files):
    import nodes

    concept, trigger = run(
        "AttnDBImportConcept",
        model=sd15.model,
        embedding="learned_embeds_steps_60.bin",
        lora="kohya.safetensors",
        category="sloth bear",
    )
    assert trigger == "<sloth> sloth bear" and torch.equal(concept.vectors, WORD[None])
    model, clip, _ = run("AttnDBApplyConcept", model=sd15.model, clip=sd15.clip, concept=concept)
    ours = draw(model, clip, "a photo of a <sloth> sloth bear")
    stock, _ = nodes.LoraLoader().load_lora(sd15.model, sd15.clip, "kohya.safetensors", 1.0, 0.0)
    prompt = "a photo of a embedding:learned_embeds_steps_60.bin sloth bear"
    theirs = draw(stock, sd15.clip, prompt)
    base = draw(sd15.model, sd15.clip, prompt)
    assert (ours - theirs).abs().max() < 1e-2 * (base - theirs).abs().max()


@pytest.mark.parametrize("ends", [("lora.up", "lora.down"), ("lora_B", "lora_A")])
def test_a_lora_that_diffusers_saved_is_the_kohya_one(sd15, run, files, home, ends):
    """Its alpha stands in the metadata, and its paths are those of diffusers' modules."""
    import comfy.utils
    import folder_paths

    kohya, tensors = load_file(home / "loras" / "kohya.safetensors"), {}
    for path in comfy.utils.unet_to_diffusers(sd15.model.model.model_config.unet_config):
        stem = f"lora_unet_{path.removesuffix('.weight').replace('.', '_')}"
        for theirs, ours in zip(("lora_up", "lora_down"), ends, strict=True):
            if f"{stem}.{theirs}.weight" in kohya:
                name = f"unet.{path.removesuffix('.weight')}.{ours}.weight"
                tensors[name] = kohya[f"{stem}.{theirs}.weight"]
    told = {"unet.r": 4, "unet.lora_alpha": 2}
    metadata = {"lora_adapter_metadata": json.dumps(told)}
    save_file(tensors, home / "loras" / "diffusers.safetensors", metadata)
    folder_paths.filename_list_cache.clear()
    given = {"model": sd15.model, "embedding": "learned_embeds_steps_60.bin", "category": "bear"}
    one, other = (
        run("AttnDBImportConcept", lora=f"{kind}.safetensors", **given)[0]
        for kind in ("kohya", "diffusers")
    )
    assert one.delta and one.digest() == other.digest()


def test_it_can_be_saved_and_trained_on(sd15, run, train, files, home):
    concept, _ = run(
        "AttnDBImportConcept",
        model=sd15.model,
        embedding="learned_embeds_steps_60.bin",
        category="person",
        placeholder="<astro>",
    )
    run("AttnDBSaveConcept", concept=concept, name="imported")
    loaded, _ = run("AttnDBLoadConcept", name="imported")
    assert loaded.digest() == concept.digest() and loaded.placeholder == "<astro>"
    has_it = run("AttnDBApplyConcept", model=sd15.model, clip=sd15.clip, concept=concept)[:2]
    more, model, clip, *_ = train(2, type(sd15)(*has_it, sd15.vae), loaded, steps=1)
    assert len(more.record["stages"]) == 1 and more.delta
    run("AttnDBApplyConcept", model=model, clip=clip, concept=loaded)  # the earlier one instead


def test_files_of_another_family_and_bad_words_are_refused(sd21, sd15, run, files):
    from attndreambooth.nodes.errors import NodeError

    given = {"embedding": "learned_embeds_steps_60.bin", "category": "person"}
    with pytest.raises(NodeError, match=r"Import Concept: .*for clip_l, and this MODEL is SD 2"):
        run("AttnDBImportConcept", model=sd21.model, **given)
    with pytest.raises(NodeError, match=r"Import Concept: .*placeholder"):
        run("AttnDBImportConcept", model=sd15.model, **given, placeholder="person")
    with pytest.raises(NodeError, match=r"Import Concept: .*nobody.*not in models/embeddings"):
        run("AttnDBImportConcept", model=sd15.model, **{**given, "embedding": "nobody.pt"})


@pytest.fixture
def velocity(sd15):
    """The same MODEL behind ModelSamplingDiscrete: it predicts v."""
    from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete

    return ModelSamplingDiscrete().patch(sd15.model, "v_prediction", False)[0]


def test_what_a_lora_is_said_to_predict_stays_with_it(sd15, velocity, run, files, home):
    import folder_paths

    from attndreambooth.nodes.errors import NodeError

    tensors = load_file(home / "loras" / "kohya.safetensors")
    for name, told in (("eps", "sd_v1"), ("vel", "sd_v1_v")):
        save_file(tensors, home / "loras" / f"{name}.safetensors", {"ss_base_model_version": told})
    folder_paths.filename_list_cache.clear()
    given = {"embedding": "learned_embeds_steps_60.bin", "category": "bear"}
    untold = run("AttnDBImportConcept", model=velocity, lora="kohya.safetensors", **given)[0]
    assert "prediction_type" not in untold.record
    with pytest.raises(
        NodeError, match=r"vel\.safetensors is of a model that predicts v, .*Load LoRA"
    ):
        run("AttnDBImportConcept", model=sd15.model, lora="vel.safetensors", **given)
    made = run("AttnDBImportConcept", model=velocity, lora="vel.safetensors", **given)[0]
    run("AttnDBSaveConcept", concept=made, name="of-v")
    loaded = run("AttnDBLoadConcept", name="of-v")[0]
    assert loaded.record["prediction_type"] == "v"
    run("AttnDBApplyConcept", model=velocity, clip=sd15.clip, concept=loaded)
    with pytest.raises(NodeError, match=r"trained on a MODEL that predicts v, and this one .*eps"):
        run("AttnDBApplyConcept", model=sd15.model, clip=sd15.clip, concept=loaded)


def test_what_a_lora_does_to_the_text_encoder_is_said_under_the_node(
    sd15, run, files, home, monkeypatch, caplog
):
    import folder_paths

    from attndreambooth.nodes.host import foreign_concept

    shown: list[str] = []
    monkeypatch.setattr(foreign_concept, "show_text", shown.append)
    given = {"embedding": "learned_embeds_steps_60.bin", "category": "bear", "model": sd15.model}
    run("AttnDBImportConcept", lora="kohya.safetensors", **given)
    assert not shown
    tensors = load_file(home / "loras" / "kohya.safetensors")
    stem = "lora_te_text_model_encoder_layers_0_mlp_fc1"
    more = {
        f"{stem}.lora_up.weight": torch.ones(4, 1),
        f"{stem}.lora_down.weight": torch.ones(1, 4),
    }
    save_file({**tensors, **more}, home / "loras" / "both.safetensors")
    folder_paths.filename_list_cache.clear()
    run("AttnDBImportConcept", lora="both.safetensors", **given)
    [text] = shown
    assert "both.safetensors: 2 keys of the text encoder are left out" in text
    assert "Load LoRA" in text and text in caplog.text
