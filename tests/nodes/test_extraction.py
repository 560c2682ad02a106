"""Extract LoRA: a thin file, the same picture through the stock loader, and the loss of it said."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.stages import draw, refuses

PROMPT = "a photo of a {} person"


@pytest.fixture(scope="module")
def thin(run, trained):
    """The trained concept at rank 4, the table, and the LoRA."""
    with torch.inference_mode():
        return run("AttnDBExtractLoRA", concept=trained, rank=4)


def test_the_file_in_the_stock_loader_draws_what_apply_concept_draws(sd15, run, thin, trained):
    import folder_paths
    import nodes

    concept, *_ = thin
    name, _ = run("AttnDBSaveConcept", concept=concept, name="extracted")
    model, clip, _ = run("AttnDBApplyConcept", model=sd15.model, clip=sd15.clip, concept=concept)
    stock, _ = nodes.LoraLoader().load_lora(sd15.model, sd15.clip, f"{name}.safetensors", 1.0, 0.0)
    ours = draw(model, clip, PROMPT.format("<astro>"))
    assert torch.equal(draw(stock, sd15.clip, PROMPT.format(f"embedding:{name}")), ours)
    base = draw(sd15.model, clip, PROMPT.format("<astro>"))
    whole, _, _ = run("AttnDBApplyConcept", model=sd15.model, clip=sd15.clip, concept=trained)
    assert (draw(whole, clip, PROMPT.format("<astro>")) - ours).abs().max() > 1e-4
    assert (base - ours).abs().max() > 1e-3
    size = Path(folder_paths.get_full_path("loras", f"{name}.safetensors")).stat().st_size
    assert size < sum(value.numel() * value.element_size() for value in trained.delta.values()) / 2


def test_the_lora_on_the_wire_is_the_file_to_the_stock_nodes(sd15, run, thin, output):
    import folder_paths
    from comfy_extras.nodes_train import LoraModelLoader, SaveLoRA

    concept, _, lora = thin
    name, _ = run("AttnDBSaveConcept", concept=concept, name="on-the-wire", precision="fp32")
    before = {key: value.clone() for key, value in lora.items()}
    (loaded,) = LoraModelLoader.execute(sd15.model, lora, 1.0).args
    model, clip, _ = run("AttnDBApplyConcept", model=sd15.model, clip=sd15.clip, concept=concept)
    text = PROMPT.format("<astro>")
    assert torch.equal(draw(loaded, clip, text), draw(model, clip, text))
    SaveLoRA.execute(lora, "loras/wired")
    [written] = (output / "loras").glob("wired*.safetensors")
    saved, wired = (
        load_file(path)
        for path in (folder_paths.get_full_path("loras", f"{name}.safetensors"), written)
    )
    assert saved.keys() == wired.keys() == before.keys()
    for key, value in before.items():
        assert torch.equal(wired[key], value)
        torch.testing.assert_close(saved[key], value.float(), rtol=0, atol=0)
        assert torch.equal(lora[key], value), "the stock nodes leave it as it is"


def test_full_rank_draws_the_picture_of_the_whole_concept(sd15, run, trained):
    wires = {"model": sd15.model, "clip": sd15.clip}
    whole = {"rank": 1280, "biases_and_norms": True}
    concept, table, _ = run("AttnDBExtractLoRA", concept=trained, **whole)
    pictures = []
    for one in (trained, concept):
        model, clip, _ = run("AttnDBApplyConcept", **wires, concept=one)
        pictures.append(draw(model, clip, PROMPT.format("<astro>")))
    assert "relative error 0.0000" in table.splitlines()[0]
    difference = (pictures[1] - pictures[0]).abs().max()
    assert difference <= 1e-3 * pictures[0].abs().max()


def test_an_extracted_concept_comes_back_whole_and_is_a_stage_of_the_same_concept(
    sd15, run, thin, trained
):
    concept, table, _ = thin
    run("AttnDBSaveConcept", concept=concept, name="thin-again")
    loaded, _ = run("AttnDBLoadConcept", name="thin-again")
    assert loaded.digest() == concept.digest()
    assert loaded.record["extraction"]["rank"] == 4
    assert f"{loaded.record['extraction']['relative_error']:.4f}" in table
    model, _, _ = run("AttnDBApplyConcept", model=sd15.model, clip=sd15.clip, concept=trained)
    replaced, _, _ = run("AttnDBApplyConcept", model=model, clip=sd15.clip, concept=concept)
    key = next(name for name, change in concept.delta.items() if len(change.shape) == 4)
    assert len(replaced.patches[f"diffusion_model.{key}"]) == 1


def test_an_embedding_alone_has_nothing_to_extract(run, chain):
    with refuses(r"Extract LoRA: the concept <astro> changes no weights"):
        run("AttnDBExtractLoRA", concept=chain[0])
