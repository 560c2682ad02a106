"""A concept merged into a checkpoint by the stock saving nodes: with the embedding file it draws
what Apply Concept draws, without the pack and without the weight file."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from support.stages import draw, encode, load

from attndreambooth.devkit.checkpoints import make_checkpoint
from attndreambooth.devkit.pack import ROOT

CHANGED = (
    "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight",
    "middle_block.1.proj_in.weight",
    "out.2.bias",
)
PROMPT = "a photo of a {} person on the beach"


@pytest.fixture(scope="module")
def base(home):
    """A checkpoint of the family as the stock loader gives it, in fp32."""
    return load(make_checkpoint("sd15", dtype=torch.float32))


@pytest.fixture
def concept(base, train):
    """A concept that changes a matrix, a convolution and a bias."""
    begun = train(1, base, steps=0)[0]
    weights = dict(base.model.model.diffusion_model.named_parameters())
    generator = torch.Generator().manual_seed(3)
    delta = {name: 0.03 * torch.randn(weights[name].shape, generator=generator) for name in CHANGED}
    vectors = begun.vectors + 0.02 * torch.randn(begun.vectors.shape, generator=generator)
    return dataclasses.replace(begun, vectors=vectors, delta=delta)


def merged(wires, folder):
    """What Load Checkpoint gives of what Save Checkpoint wrote."""
    from comfy_extras.nodes_model_merging import CheckpointSave

    saver = CheckpointSave()
    saver.output_dir = str(folder)
    saver.save(*wires, filename_prefix="merged")
    [path] = folder.glob("merged*.safetensors")
    return load(path)


def test_the_merged_checkpoint_and_the_embedding_draw_the_same_picture(
    base, concept, run, tmp_path
):
    model, clip, _ = run("AttnDBApplyConcept", model=base.model, clip=base.clip, concept=concept)
    ours = draw(model, clip, PROMPT.format("<astro>"))
    (name, _) = run("AttnDBSaveConcept", concept=concept, name="merged-astro")
    word = PROMPT.format(f"embedding:{name}")
    alone = merged((model, clip, base.vae), tmp_path)
    assert torch.equal(encode(alone.clip, word), encode(clip, PROMPT.format("<astro>")))
    theirs = draw(alone.model, alone.clip, word)
    torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-4)
    plain = draw(base.model, base.clip, word)
    assert float((plain - ours).abs().max()) > 1e-2


def test_in_the_merged_checkpoint_the_bare_placeholder_is_plain_text(base, concept, run, tmp_path):
    """Neither an error nor the concept: the docs and the node say so, for nothing else can."""
    model, clip, _ = run("AttnDBApplyConcept", model=base.model, clip=base.clip, concept=concept)
    alone = merged((model, clip, base.vae), tmp_path)
    bare = PROMPT.format("<astro>")
    read = encode(alone.clip, bare)
    assert torch.equal(read, encode(base.clip, bare))
    assert torch.equal(read, encode(base.clip, PROMPT.format("< astro >")))
    theirs = draw(alone.model, alone.clip, bare)
    assert float((theirs - draw(model, clip, bare)).abs().max()) > 1e-2
    page = (ROOT / "web" / "docs" / "AttnDBApplyConcept.md").read_text(encoding="utf-8")
    assert "plain text: there write embedding:name" in page


def test_an_embedding_without_its_file_is_left_out_and_told_in_the_log(base, caplog):
    read = encode(base.clip, PROMPT.format("embedding:no-such-file"))
    assert torch.equal(read, encode(base.clip, PROMPT.format("").replace("  ", " ")))
    assert "no-such-file" in caplog.text


def test_half_the_strength_is_merged_as_half(base, concept, run, tmp_path):
    wires = {"model": base.model, "clip": base.clip, "concept": concept}
    model, clip, _ = run("AttnDBApplyConcept", **wires, strength=0.5)
    alone = merged((model, clip, base.vae), tmp_path)
    before = load(make_checkpoint("sd15", dtype=torch.float32))  # base's may hold patches now
    before = before.model.model.diffusion_model.state_dict()
    after = alone.model.model.diffusion_model.state_dict()
    for key, value in before.items():
        change = 0.5 * concept.delta[key] if key in concept.delta else torch.zeros_like(value)
        torch.testing.assert_close(after[key], value + change, rtol=1e-5, atol=1e-6)
