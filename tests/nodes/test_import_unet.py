"""Import Concept from diffusers' folders and the published code's: the U-Net's change, exactly."""

from __future__ import annotations

import json
import os
import pickle
import tempfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from support.in_diffusers import in_diffusers
from support.stages import draw, refuses, small

from attndreambooth.attndb.artifacts.weight_delta import dense

NODE = "AttnDBImportConcept"
EMBEDS = "diffusers/sloth/learned_embeds/learned_embeds_steps_60.bin"
UNET = "sloth/learned_models/unet_models/checkpoint-500"
WIDTH = {"sd15": 768, "sd21": 1024}


@pytest.fixture(scope="module", params=["sd15", "sd21"])
def theirs(request, home, train, tmp_path_factory):
    """A concept after stages 1 and 3, and the published code's folder of the same model."""
    import folder_paths

    before = folder_paths.get_output_directory()
    folder_paths.set_output_directory(str(tmp_path_factory.mktemp("trained")))
    wires = small(request.param, width=WIDTH[request.param])
    with torch.inference_mode():
        concept, model, *_ = train(3, wires, train(1, wires)[0])
    folder_paths.set_output_directory(before)
    root = tmp_path_factory.mktemp("models") / "diffusers"
    embeds = root / EMBEDS.removeprefix("diffusers/")
    embeds.parent.mkdir(parents=True)
    torch.save({"new_concept_v0": concept.vectors[0].clone()}, embeds)
    unet, _ = in_diffusers(merged(model))
    unet.save_pretrained(root / UNET / "unet")
    return SimpleNamespace(wires=wires, concept=concept, model=model, root=root, unet=unet)


def merged(model):
    """The host's module with its patches in its weights."""
    from attndreambooth.nodes.host.model.weights import UNET_PREFIX, merged_weights

    weights = merged_weights(model, UNET_PREFIX)
    module = SimpleNamespace(state_dict=lambda: weights)
    return SimpleNamespace(model_config=model.model.model_config, diffusion_model=module)


@pytest.fixture
def diffusers(theirs, monkeypatch):
    """models/diffusers of the test."""
    import folder_paths

    known = folder_paths.folder_names_and_paths
    monkeypatch.setitem(known, "diffusers", ([str(theirs.root)], {"folder"}))
    monkeypatch.setitem(known, "diffusion_models", ([str(theirs.root)], {".safetensors"}))
    return theirs


@pytest.fixture
def bring(diffusers, run):
    """Runs the node on the folder."""

    def run_node(**changes):
        given = {"embedding": EMBEDS, "unet": UNET, "category": "person", "placeholder": "<astro>"}
        return run(NODE, **{"model": diffusers.wires.model, **given, **changes})[0]

    return run_node


@pytest.fixture
def folder(diffusers):
    """Another U-Net's folder in models/diffusers, to be filled; its name is the test's own."""
    return Path(tempfile.mkdtemp(prefix="other-", dir=diffusers.root))


def tensors_of(theirs):
    return {key: value.clone() for key, value in theirs.unet.state_dict().items()}


def test_the_published_codes_folder_is_the_concept_that_it_was_made_of(diffusers, bring):
    concept = bring()
    assert torch.equal(concept.vectors, diffusers.concept.vectors)
    assert set(concept.delta) == set(diffusers.concept.delta)
    for name, change in concept.delta.items():
        # both added the change to the base in fp32: that rounding is all that was lost
        wanted = dense(diffusers.concept.delta[name])
        assert (dense(change) - wanted).abs().max() < 1e-6, name
    assert concept.record["imported"] == {"embedding": EMBEDS, "lora": None, "unet": UNET}


def test_it_draws_what_the_trained_model_draws(diffusers, bring, run):
    wires = diffusers.wires
    prompt = "a photo of a <astro> person"
    base = {"model": wires.model, "clip": wires.clip}
    model, clip, _ = run("AttnDBApplyConcept", **base, concept=bring())
    ours = draw(model, clip, prompt)
    trained, words, _ = run("AttnDBApplyConcept", **base, concept=diffusers.concept)
    assert torch.allclose(ours, draw(trained, words, prompt), atol=1e-4)
    assert not torch.allclose(ours, draw(wires.model, clip, prompt))


def test_the_widgets_offer_what_lies_there(diffusers):
    from attndreambooth.nodes.host.foreign_concept import foreign_embeddings, foreign_unets

    assert UNET in foreign_unets() and foreign_unets()[0] == "(none)"
    single = f"diffusion_models/{UNET}/unet/diffusion_pytorch_model.safetensors"
    assert single in foreign_unets()
    assert EMBEDS in foreign_embeddings()


def test_what_else_a_pipeline_or_a_controlnet_has_is_no_choice_of_a_u_net(folder):
    from attndreambooth.nodes.host.foreign_concept import foreign_unets

    for part, kind in (("vae", "AutoencoderKL"), ("unet", "UNet2DConditionModel")):
        (folder / part).mkdir()
        (folder / part / "diffusion_pytorch_model.safetensors").write_bytes(b"")
        (folder / part / "config.json").write_text(json.dumps({"_class_name": kind}))
    (folder / "canny").mkdir()
    (folder / "canny" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"")
    (folder / "canny" / "config.json").write_text('{"_class_name": "ControlNetModel"}')
    (folder / "untold").mkdir()
    (folder / "untold" / "diffusion_pytorch_model.bin").write_bytes(b"")
    own = {name for name in foreign_unets() if name.startswith(folder.name)}
    assert own == {folder.name, f"{folder.name}/untold"}


def test_a_pickle_a_single_file_and_the_unet_folder_itself_are_the_same(diffusers, bring, folder):
    wanted = bring().digest()
    torch.save(tensors_of(diffusers), folder / "diffusion_pytorch_model.bin")
    assert bring(unet=folder.name).digest() == wanted
    assert bring(unet=f"{UNET}/unet").digest() == wanted
    save_file(tensors_of(diffusers), folder / "mine.safetensors")
    assert bring(unet=f"diffusion_models/{folder.name}/mine.safetensors").digest() == wanted


def test_what_was_not_trained_is_left_out_also_where_it_was_rounded(diffusers, bring, folder):
    state = {
        k: v.half() for k, v in in_diffusers(diffusers.wires.model.model)[0].named_parameters()
    }
    key = next(key for key in state if key.endswith("attn2.to_v.weight"))
    state[key] = state[key] + 0.5
    save_file(state, folder / "diffusion_pytorch_model.fp16.safetensors")
    [(name, change)] = bring(unet=folder.name).delta.items()
    assert name.endswith("attn2.to_v.weight")
    assert (dense(change) - 0.5).abs().max() < 5e-3


def test_a_u_net_that_is_the_models_own_makes_an_embedding_alone(diffusers, bring, folder):
    unet, _ = in_diffusers(diffusers.wires.model.model)
    unet.save_pretrained(folder)
    assert bring(unet=folder.name).delta == {}


class Hostile:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def test_code_in_a_pickle_does_not_run(bring, folder, tmp_path):
    torch.save(
        {"conv_in.weight": Hostile(tmp_path / "ran")}, folder / "diffusion_pytorch_model.bin"
    )
    with refuses(r"Import Concept: diffusion_pytorch_model\.bin cannot be read as tensors alone"):
        bring(unet=folder.name)
    (folder / "diffusion_pytorch_model.bin").write_bytes(pickle.dumps(Hostile(tmp_path / "ran")))
    with refuses("code in it is never run"):
        bring(unet=folder.name)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "file", ["diffusion_pytorch_model.bin", "diffusion_pytorch_model.safetensors"]
)
def test_a_file_that_is_cut_off_or_empty_is_named(diffusers, bring, folder, file):
    whole = folder / file
    if file.endswith(".bin"):
        torch.save(tensors_of(diffusers), whole)
    else:
        save_file(tensors_of(diffusers), whole)
    content = whole.read_bytes()
    for length in (0, 7, len(content) // 2, len(content) - 1):
        whole.write_bytes(content[:length])
        with refuses(rf"Import Concept: .*{file}"):
            bring(unet=folder.name)


def test_a_pickle_that_unpacks_to_much_is_refused(bring, folder):
    whole = folder / "diffusion_pytorch_model.bin"
    torch.save({"conv_in.weight": torch.zeros(1 << 24)}, whole)  # 64 MB of zeros
    packed = folder / "packed.bin"
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as to:
        for entry in source.infolist():
            to.writestr(entry.filename, source.read(entry))
    packed.replace(whole)
    assert whole.stat().st_size < 100_000
    with refuses(r"diffusion_pytorch_model\.bin cannot be read .*it is compressed"):
        bring(unet=folder.name)
    whole.rename(folder / "learned_embeds.bin")
    with refuses(r"learned_embeds\.bin cannot be read .*it is compressed"):
        bring(embedding=f"diffusers/{folder.name}/learned_embeds.bin")


def test_a_file_that_changed_is_read_again(diffusers, folder):
    from attndreambooth.nodes.concept import ImportConcept

    state = tensors_of(diffusers)
    save_file(state, folder / "diffusion_pytorch_model.safetensors")
    given = {"embedding": EMBEDS, "lora": "(none)", "unet": folder.name}
    before = ImportConcept.fingerprint_inputs(**given)
    assert ImportConcept.fingerprint_inputs(**given, category="other") == before
    save_file({**state, "more": torch.zeros(1)}, folder / "diffusion_pytorch_model.safetensors")
    assert ImportConcept.fingerprint_inputs(**given) != before
    lost = ImportConcept.fingerprint_inputs(**{**given, "unet": "nobody"})
    assert lost not in (before, ImportConcept.fingerprint_inputs(**given))
    assert ImportConcept.fingerprint_inputs(**{**given, "embedding": None}) != before


def test_values_that_are_no_numbers_are_named(diffusers, bring, folder):
    for bad, told in ((torch.nan, "NaN or infinite"), (torch.inf, "NaN or infinite")):
        state = tensors_of(diffusers)
        state["mid_block.attentions.0.norm.weight"][3] = bad
        save_file(state, folder / "diffusion_pytorch_model.safetensors")
        with refuses(rf"mid_block\.attentions\.0\.norm\.weight holds {told}"):
            bring(unet=folder.name)
    state = tensors_of(diffusers)
    state["conv_in.bias"] = state["conv_in.bias"].to(torch.int8)
    save_file(state, folder / "diffusion_pytorch_model.safetensors")
    with refuses(r"conv_in\.bias holds torch\.int8"):
        bring(unet=folder.name)


def test_another_family_is_refused_by_name(diffusers, bring, folder):
    file, state = folder / "diffusion_pytorch_model.safetensors", tensors_of(diffusers)
    key = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"
    save_file({key: torch.zeros(320, 2048)}, file)
    with refuses(r"is a U-Net of SDXL, and this MODEL is SD"):
        bring(unet=folder.name)
    inpainting = {**state, "conv_in.weight": torch.zeros(64, 9, 3, 3)}
    save_file(inpainting, file)
    with refuses(r"is a U-Net of SD .* inpainting, and this MODEL is SD"):
        bring(unet=folder.name)
    save_file({**state, "conv_in.weight": torch.zeros(32, 4, 3, 3)}, file)
    with refuses(r"1 of \d+ weights .*conv_in\.weight' \(32, 4, 3, 3\): connect the checkpoint"):
        bring(unet=folder.name)
    save_file({"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(3)}, file)
    with refuses(r"is no U-Net in diffusers' layout .*Load Checkpoint"):
        bring(unet=folder.name)
    torch.save({"state_dict": state, "epoch": 3}, folder / "diffusion_pytorch_model.bin")
    file.unlink()
    with refuses(r"holds other things than a U-Net's weights \('state_dict', 'epoch'\)"):
        bring(unet=folder.name)


def test_a_velocity_model_is_told_by_its_scheduler(diffusers, bring, folder):
    save_file(tensors_of(diffusers), folder / "diffusion_pytorch_model.safetensors")
    (folder / "scheduler").mkdir()
    told = folder / "scheduler" / "scheduler_config.json"
    told.write_text(json.dumps({"prediction_type": "v_prediction"}))
    with refuses(
        r"predicts v, as its scheduler or its metadata says, and this MODEL predicts epsilon"
    ):
        bring(unet=folder.name)
    for harmless in ("{", "[1]", '{"prediction_type": 3}', '{"prediction_type": "epsilon"}'):
        told.write_text(harmless)
        made = bring(unet=folder.name)
        assert made.delta and made.record["prediction_type"] == "epsilon"
    told.unlink()
    said = {"format": "pt", "modelspec.prediction_type": "v"}
    save_file(tensors_of(diffusers), folder / "diffusion_pytorch_model.safetensors", said)
    with refuses(r"predicts v, as its scheduler or its metadata says"):
        bring(unet=folder.name)


def test_folders_without_a_u_net_or_elsewhere_are_refused(diffusers, bring, folder, tmp_path):
    with refuses(rf"Import Concept: {folder.name} holds no U-Net of diffusers"):
        bring(unet=folder.name)
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text("{}")
    with refuses("in several files"):
        bring(unet=folder.name)
    with refuses(r"'nobody' is not in models/diffusers"):
        bring(unet="nobody")
    with refuses(r"learned_embeds_steps_60\.bin' is no folder"):
        bring(unet=EMBEDS.removeprefix("diffusers/"))
    outside = tmp_path / "outside"
    outside.mkdir()
    save_file(tensors_of(diffusers), outside / "diffusion_pytorch_model.safetensors")
    torch.save({"<x>": torch.ones(768)}, outside / "learned_embeds.bin")
    (folder / "link").symlink_to(outside)
    (folder / "file").mkdir()
    link = folder / "file" / "diffusion_pytorch_model.safetensors"
    link.symlink_to(outside / "diffusion_pytorch_model.safetensors")
    away = os.path.relpath(outside, diffusers.root)
    for unet in (f"{folder.name}/link", f"{folder.name}/file", away, str(outside)):
        with refuses("leads out of models/diffusers"):
            bring(unet=unet)
    for name in (f"{folder.name}/link/learned_embeds.bin", f"{away}/learned_embeds.bin"):
        with refuses("leads out of models/diffusers"):
            bring(embedding=f"diffusers/{name}")


def test_a_lora_and_a_u_net_together_are_refused(bring):
    with refuses(r"lora = a\.safetensors and unet = .* choose one"):
        bring(lora="a.safetensors")


def test_a_model_that_diffusers_does_not_know_is_refused(bring, run):
    model, *_ = run("AttnDBLoadMicroModel")
    with refuses("Import Concept: .*embedding for clip"):
        bring(model=model)
