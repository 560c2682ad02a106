"""A concept trained behind CLIP Set Last Layer says so, and that it is drawn otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.kohya import kohya_lora
from support.stages import Wires, encode, small

from attndreambooth.attndb.artifacts.clip_layer import OWN

TRAINED_AT_2 = (
    "the concept <astro> was trained with layer -2 (CLIP Set Last Layer), and this CLIP is read at "
    "CLIP's own layer, which draws it otherwise: set it to -2 in front of this node, or behind it"
)
TRAINED_AT_OWN = (
    "the concept <astro> was trained with CLIP's own layer, and this CLIP is read at layer -2 "
    "(CLIP Set Last Layer), which draws it otherwise: take it out"
)


def at(wires: Wires, layer: int) -> Wires:
    """Behind the stock node."""
    import nodes

    return Wires(
        wires.model, nodes.CLIPSetLastLayer().set_last_layer(wires.clip, layer)[0], wires.vae
    )


@pytest.fixture
def said(host, monkeypatch):
    """What stands under the nodes."""
    from attndreambooth.nodes import compare_concepts, concept

    texts = []
    for module in (compare_concepts, concept):
        monkeypatch.setattr(module, "show_text", texts.append)
    return texts


@pytest.fixture
def apply(run, said, caplog):
    """What Apply Concept says, under the node and in the log."""

    def apply_concept(wires, concept):
        said.clear()
        caplog.clear()
        run("AttnDBApplyConcept", model=wires.model, clip=wires.clip, concept=concept)
        logged = [r.getMessage() for r in caplog.records if "CLIP's own layer" in r.getMessage()]
        assert logged == [f"Apply Concept: {text}" for text in said]
        return list(said)

    return apply_concept


def test_it_is_recorded_and_apply_concept_says_where_clip_is_read_otherwise(
    sd15, train, run, apply, caplog, chain
):
    skipping = at(sd15, -2)
    concept = train(1, skipping)[0]
    assert concept.record["stages"][0]["clip_layer"] == -2
    assert apply(sd15, concept) == [TRAINED_AT_2]
    assert apply(skipping, concept) == []
    run("AttnDBSaveConcept", concept=concept, name="skipped")
    assert apply(sd15, run("AttnDBLoadConcept", name="skipped")[0]) == [TRAINED_AT_2]

    plain = chain[0]
    assert "clip_layer" not in plain.record["stages"][0]
    assert apply(skipping, plain) == [TRAINED_AT_OWN]
    assert apply(sd15, plain) == apply(at(sd15, -1), plain) == []

    caplog.clear()
    further = train(2, sd15, concept)[0]
    assert "was trained with layer -2 (CLIP Set Last Layer) so far, and this CLIP" in caplog.text
    assert [s.get("clip_layer") for s in further.record["stages"]] == [-2, None]
    assert apply(sd15, further) == []


def test_a_region_says_it_too(run, sd15, said, chain):
    for clip, told in ((at(sd15, -2).clip, [TRAINED_AT_OWN]), (sd15.clip, [])):
        said.clear()
        run("AttnDBConceptInRegion", clip=clip, concept=chain[0])
        assert said == told


@pytest.mark.parametrize(("kind", "own", "other"), [("sd15", -1, -2), ("sd21", -2, -1)])
def test_a_familys_own_layer_is_no_other_than_none(kind, own, other, request):
    """To the bit: SD 2 reads the last but one."""
    from attndreambooth.nodes.host.model.clip_layer import chosen_layer

    wires = request.getfixturevalue(kind)
    texts = [encode(at(wires, layer).clip, "a dog") for layer in (own, other)]
    plain = encode(wires.clip, "a dog")
    assert torch.equal(texts[0], plain) and not torch.equal(texts[1], plain)
    assert chosen_layer(wires.clip) == chosen_layer(at(wires, own).clip) == OWN
    assert chosen_layer(at(wires, other).clip) == other


def test_figures_and_tables_say_it_too(run, said):
    model, clip, vae = run("AttnDBLoadMicroModel")
    images, category, _ = run("AttnDBMicroConcept", concept="hatted-robot")
    words = {"images": images, "category": category, "placeholder": "<astro>"}
    data = run("AttnDBConceptDatasetFromImages", **words)[0]
    wires = at(Wires(model, clip, vae), -2)
    given = {"steps": 1, "batch_size": 1, "resolution": 64, "dataset": data}
    concept = run("AttnDBStage1LearnEmbedding", **wires.named(), **given)[0]
    drawn = {"steps": 1, "cfg": 1.0, "width": 64, "height": 64, "cell_size": 64}
    drawn |= {"concepts": {"concept_0": [concept, concept]}, "before_training": False}
    run("AttnDBCompareConcepts", model=model, clip=clip, vae=vae, **drawn)
    assert said == [TRAINED_AT_2]
    encoder = run("AttnDBLoadImageEncoder", encoder="toy model")[0]
    scored = {**drawn, "encoders": {"encoder_0": encoder}, "photos": images}
    for clip_now, note in ((clip, (TRAINED_AT_2,)), (wires.clip, ())):
        *_, scores, _ = run("AttnDBEvaluateConcept", model=model, clip=clip_now, vae=vae, **scored)
        assert scores[0].notes == note


def test_a_lora_of_kohyas_scripts_says_it_and_an_export_hands_it_on(run, apply, home):
    import folder_paths

    wires = small("sd15", width=768)
    word = 0.3 * torch.randn(768, generator=torch.Generator().manual_seed(1))
    torch.save({"<sloth>": word}, home / "embeddings" / "word.bin")
    save_file(
        kohya_lora(wires.model, "lora_unet_down_blocks"),
        home / "loras" / "anime.safetensors",
        {"ss_clip_skip": "2"},
    )
    folder_paths.filename_list_cache.clear()
    given = {"embedding": "word.bin", "category": "person", "placeholder": "<astro>"}
    given |= {"lora": "anime.safetensors"}
    concept = run("AttnDBImportConcept", model=wires.model, **given)[0]
    assert apply(wires, concept) == [TRAINED_AT_2] and apply(at(wires, -2), concept) == []
    folder, _ = run("AttnDBExportToDiffusers", model=wires.model, concept=concept, name="anime")
    told = (Path(folder) / "README.md").read_text(encoding="utf-8")
    assert "pipe('a photo of a <astro> person', clip_skip=1).images[0]" in told

    tensors = load_file(home / "loras" / "anime.safetensors")
    save_file(tensors, home / "loras" / "anime.safetensors", {})
    untold = run("AttnDBImportConcept", model=wires.model, **given)[0]
    assert apply(wires, untold) == apply(at(wires, -2), untold) == []
