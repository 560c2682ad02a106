"""A concept on disk and on the wires: with this pack or without it, the same picture."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from support.stages import draw, encode

PROMPTS = (
    "{} person",
    "a photo of a {} person on the beach",
    "a photo of {}, smiling, and a {} person",
    "({} person:1.3) at night",
    "portrait of ({}:0.7)",
    "{}",
    "a {}\nperson",
)


@pytest.fixture
def saved(run, trained, home):
    """The trained concept's name after Save Concept."""
    (name, concept) = run("AttnDBSaveConcept", concept=trained, name="my-astro")
    assert concept is trained
    return name


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_placeholder_is_the_embedding_file_in_the_stock_text_encode(
    sd15, run, trained, saved, prompt
):
    _, clip, _ = run("AttnDBApplyConcept", model=sd15.model, clip=sd15.clip, concept=trained)
    ours = encode(clip, prompt.format(*["<astro>"] * 2))
    theirs = encode(sd15.clip, prompt.format(*[f"embedding:{saved}"] * 2))
    assert torch.equal(ours, theirs)
    without = encode(sd15.clip, prompt.format(*["person"] * 2))
    assert without.shape != ours.shape or not torch.allclose(ours, without)


def test_the_stock_lora_loader_and_embedding_draw_what_apply_concept_draws(
    sd15, run, trained, saved
):
    import nodes

    model, clip, _ = run("AttnDBApplyConcept", model=sd15.model, clip=sd15.clip, concept=trained)
    prompt = "a photo of a {} person on the beach"
    ours = draw(model, clip, prompt.format("<astro>"))
    loras = nodes.LoraLoader()
    stock_model, stock_clip = loras.load_lora(
        sd15.model, sd15.clip, f"{saved}.safetensors", 1.0, 1.0
    )
    assert torch.equal(draw(stock_model, stock_clip, prompt.format(f"embedding:{saved}")), ours)
    base = draw(sd15.model, sd15.clip, prompt.format(f"embedding:{saved}"))
    assert (base - ours).abs().max() > 1e-3
    half, clip, _ = run(
        "AttnDBApplyConcept", model=sd15.model, clip=sd15.clip, concept=trained, strength=0.5
    )
    stock_half, _ = loras.load_lora(sd15.model, sd15.clip, f"{saved}.safetensors", 0.5, 0.0)
    assert torch.equal(
        draw(half, clip, prompt.format("<astro>")),
        draw(stock_half, sd15.clip, prompt.format(f"embedding:{saved}")),
    )


def test_every_tensor_of_the_weight_file_is_taken_by_the_stock_loader(sd15, trained, saved):
    import comfy.lora
    import comfy.utils
    import folder_paths

    path = folder_paths.get_full_path("loras", f"{saved}.safetensors")
    file = comfy.utils.load_torch_file(path, safe_load=True)
    keys = comfy.lora.model_lora_keys_unet(sd15.model.model, {})
    patches = comfy.lora.load_lora(file, keys)
    assert len(patches) == len(trained.delta) == len(file) > 100
    assert set(sd15.model.clone().add_patches(patches)) == set(patches)


def test_a_saved_concept_comes_back_whole(run, trained, saved):
    concept, trigger = run("AttnDBLoadConcept", name=saved)
    assert trigger == "<astro> person"
    assert concept.digest() == trained.digest()
    for field in ("placeholder", "category", "text_key", "base_family"):
        assert getattr(concept, field) == getattr(trained, field)
    as_file = json.loads(json.dumps(trained.record))
    assert concept.record == as_file and len(as_file["stages"]) == 3


def test_a_loaded_concept_can_be_trained_on(sd15, run, train, trained, saved):
    concept, _ = run("AttnDBLoadConcept", name=saved)
    more = train(3, sd15, concept, steps=0)[0]
    assert all(torch.equal(more.delta[name], trained.delta[name]) for name in trained.delta)
    assert len(more.record["stages"]) == 4


def other(concept, placeholder: str, seed: int):
    """Another subject of the same shapes."""
    generator = torch.Generator().manual_seed(seed)
    return dataclasses.replace(
        concept,
        placeholder=placeholder,
        vectors=concept.vectors + 0.1 * torch.randn(concept.vectors.shape, generator=generator),
        delta={
            name: value.std() * torch.randn(value.shape, generator=generator)
            for name, value in concept.delta.items()
        },
    )


def test_two_concepts_live_on_one_model(sd15, run, trained):
    second = other(trained, "<robot>", 1)
    pictures = []
    for order in ((trained, second), (second, trained)):
        model, clip = sd15.model, sd15.clip
        for concept in order:
            model, clip, _ = run("AttnDBApplyConcept", model=model, clip=clip, concept=concept)
        pictures.append(draw(model, clip, "<astro> person beside a <robot> person"))
        alone = [
            run("AttnDBApplyConcept", model=sd15.model, clip=sd15.clip, concept=c)[1] for c in order
        ]
        for single, concept in zip(alone, order, strict=True):
            text = f"a {concept.placeholder} person"
            assert torch.equal(encode(clip, text), encode(single, text))
        key = next(iter(trained.delta))
        assert len(model.patches[f"diffusion_model.{key}"]) == 2
    torch.testing.assert_close(pictures[0], pictures[1], rtol=1e-3, atol=1e-3)
    assert sd15.model.patches == {}


def test_a_concept_applied_again_replaces_itself(sd15, run, trained):
    newer = other(trained, trained.placeholder, 2)
    wires = {"model": sd15.model, "clip": sd15.clip}
    model, clip, _ = run("AttnDBApplyConcept", **wires, concept=trained)
    model, clip, _ = run("AttnDBApplyConcept", model=model, clip=clip, concept=newer)
    fresh, words, _ = run("AttnDBApplyConcept", **wires, concept=newer)
    assert torch.equal(draw(model, clip, "<astro> person"), draw(fresh, words, "<astro> person"))


def test_a_longer_placeholder_is_not_taken_for_a_shorter_one(sd15, run, trained):
    clip = sd15.clip
    for name, seed in (("zorb", 1), ("zorba", 2), ("<a>", 3), ("<a>2", 4)):
        concept = other(trained, name, seed)
        _, clip, _ = run(
            "AttnDBApplyConcept", model=sd15.model, clip=clip, concept=concept, strength=0
        )
        _, alone, _ = run(
            "AttnDBApplyConcept", model=sd15.model, clip=sd15.clip, concept=concept, strength=0
        )
        assert torch.equal(encode(clip, f"a {name} cat"), encode(alone, f"a {name} cat"))
    assert torch.equal(encode(clip, "the zorbas sat"), encode(sd15.clip, "the zorbas sat"))


def test_stages_1_and_2_alone_save_what_they_trained(run, chain, home):
    run("AttnDBSaveConcept", concept=chain[0], name="one")
    assert (home / "embeddings" / "one.safetensors").is_file()
    assert not (home / "loras" / "one.safetensors").exists()
    assert run("AttnDBLoadConcept", name="one")[0].digest() == chain[0].digest()
    run("AttnDBSaveConcept", concept=chain[1], name="two")
    assert run("AttnDBLoadConcept", name="two")[0].digest() == chain[1].digest()


def test_saving_again_rewrites_the_same_and_never_another(run, trained, saved, home):
    bytes_of = lambda name: (home / "loras" / f"{name}.safetensors").read_bytes()  # noqa: E731
    first = bytes_of(saved)
    assert run("AttnDBSaveConcept", concept=trained, name=saved)[0] == saved
    assert bytes_of(saved) == first
    second = other(trained, "<robot>", 1)
    assert run("AttnDBSaveConcept", concept=second, name=saved)[0] == f"{saved}-2"
    assert run("AttnDBSaveConcept", concept=second, name=saved)[0] == f"{saved}-2"
    assert bytes_of(saved) == first != bytes_of(f"{saved}-2")


def test_what_is_there_already_is_not_written_again_and_damage_is_mended(run, trained, home):
    paths = [home / kind / "again.safetensors" for kind in ("embeddings", "loras")]
    run("AttnDBSaveConcept", concept=trained, name="again")
    before = [(path.stat().st_ino, path.stat().st_mtime_ns) for path in paths]
    contents = [path.read_bytes() for path in paths]
    assert run("AttnDBSaveConcept", concept=trained, name="again")[0] == "again"
    assert [(path.stat().st_ino, path.stat().st_mtime_ns) for path in paths] == before
    for path in paths:
        damaged = bytearray(path.read_bytes())
        damaged[-1] ^= 1
        path.write_bytes(damaged)
        assert run("AttnDBSaveConcept", concept=trained, name="again")[0] == "again"
        path.unlink()
        assert run("AttnDBSaveConcept", concept=trained, name="again")[0] == "again"
        assert [path.read_bytes() for path in paths] == contents
    for path in paths:
        path.unlink()


def test_the_same_weights_for_another_word_are_another_concept(run, trained, home):
    run("AttnDBSaveConcept", concept=trained, name="words")
    renamed = dataclasses.replace(trained, placeholder="<other>")
    assert run("AttnDBSaveConcept", concept=renamed, name="words")[0] == "words-2"
    assert run("AttnDBLoadConcept", name="words")[0].placeholder == trained.placeholder


def test_what_a_killed_save_left_goes_with_the_next_one(run, trained, home):
    left = home / "loras" / ".killed.safetensors.999999999.part"
    left.write_bytes(b"half")
    run("AttnDBSaveConcept", concept=trained, name="after-a-kill")
    assert not left.exists()


def test_a_name_in_a_sub_folder_works_in_prompts(sd15, run, trained, home):
    (name, _) = run("AttnDBSaveConcept", concept=trained, name="people/astro.v2")
    assert (home / "loras" / "people" / "astro.v2.safetensors").is_file()
    _, clip, _ = run("AttnDBApplyConcept", model=sd15.model, clip=sd15.clip, concept=trained)
    ours = encode(clip, "a <astro> person")
    assert torch.equal(encode(sd15.clip, f"a embedding:{name} person"), ours)


@pytest.mark.parametrize(
    "name",
    ["../astro", "a/../../b", "/astro", "C:\\astro", "", "my astro", "a[1]", "a(b)", "a,", "NUL.x"],
)
def test_a_name_that_leaves_the_folder_or_breaks_prompts_is_refused(run, trained, home, name):
    from attndreambooth.nodes.errors import NodeError

    before = sorted(home.rglob("*"))
    with pytest.raises(NodeError, match=r"Save Concept: name .*cannot be a file name"):
        run("AttnDBSaveConcept", concept=trained, name=name)
    assert sorted(home.rglob("*")) == before


def test_a_missing_concept_is_named(run):
    from attndreambooth.nodes.errors import NodeError

    with pytest.raises(NodeError, match=r"Load Concept: .*no concept named 'nobody'"):
        run("AttnDBLoadConcept", name="nobody")


def test_an_sd15_concept_on_sd21_is_refused_with_both_families(sd15, sd21, run, trained, chain):
    from attndreambooth.nodes.errors import NodeError

    with pytest.raises(NodeError, match=r"Apply Concept: .*<astro>.*SD 1\.5.*use a SD 1\.5"):
        run("AttnDBApplyConcept", model=sd21.model, clip=sd21.clip, concept=trained)
    with pytest.raises(NodeError, match=r"Apply Concept: .*<astro>.*SD 1\.5.*MODEL is SD 2\.1"):
        run("AttnDBApplyConcept", model=sd21.model, clip=sd21.clip, concept=chain[0])
