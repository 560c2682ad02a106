"""Bad input is refused before anything is done, by an error that names node, value and remedy."""

from __future__ import annotations

import logging

import pytest
import torch
from support.stages import Wires, dataset, load, photos

from attndreambooth.devkit.checkpoints import make_checkpoint


@pytest.fixture
def refused(output):
    """Checks that a call raises a NodeError with this text and leaves no run folder."""
    from attndreambooth.nodes.errors import NodeError

    def check(pattern: str, call, *args, **kwargs) -> None:
        with pytest.raises(NodeError, match=pattern):
            call(*args, **kwargs)
        assert not output.exists() or not list(output.rglob("*"))

    return check


def test_a_distilled_sdxl_with_half_of_its_text_encoders_is_refused_by_name(sd15, train, refused):
    wires = load(make_checkpoint("sdxl", dtype=torch.float32))
    mixed = Wires(wires.model, sd15.clip, sd15.vae)
    refused(
        r"Stage 1: Learn Embedding: MODEL \(Segmind Vega\) reads two text encoders.*clip_l alone",
        *(train, 1, mixed),
    )


@pytest.mark.parametrize("part", ["clip", "vae"])
def test_a_checkpoint_without_a_part_is_refused_with_the_remedy(home, train, refused, part):
    wires = load(make_checkpoint("sd15", dtype=torch.float16, without=(part,)))
    name = part.upper()
    refused(
        rf"Stage 2: Train Cross-Attention: {name} is missing.*connect a {name}", train, 2, wires
    )


def test_a_clip_of_another_family_is_refused(sd15, sd21, train, refused):
    refused(
        r"Stage 1.*: MODEL \(SD 1.5\) reads text of width 64.*96.*same checkpoint",
        train,
        1,
        Wires(sd15.model, sd21.clip, sd15.vae),
    )


def test_a_vae_of_another_family_is_refused(sd15, train, refused, monkeypatch):
    monkeypatch.setattr(sd15.vae, "latent_channels", 16)  # as Flux's and SD 3's
    refused(r"Stage 3.*works on 4 latent channels.*VAE gives 16: connect the VAE", train, 3, sd15)


def test_an_inpainting_checkpoint_is_refused_as_one(sd15, train, refused, monkeypatch):
    monkeypatch.setattr(sd15.model.model, "concat_keys", ("mask", "masked_image"), raising=False)
    refused(r"MODEL is SD 1\.5 inpainting, which cannot be trained", train, 1, sd15)


def test_an_sd15_concept_cannot_go_on_with_sd21(sd21, train, chain, refused):
    refused(r"Stage 2.*<astro>.*SD 1\.5.*SD 1\.5 checkpoint", train, 2, sd21, chain[0])
    refused(r"Stage 3.*<astro>.*SD 1\.5.*SD 1\.5 checkpoint", train, 3, sd21, chain[1])


def test_a_concept_of_another_placeholder_is_refused(sd15, run, train, chain, refused):
    data = dataset(run, placeholder="<robot>")
    refused(r"Stage 2.*'<astro>'.*'<robot>'", train, 2, sd15, chain[0], dataset=data)


def test_a_placeholder_that_is_already_a_word_is_refused(sd15, run, train, refused):
    data = dataset(run, placeholder="5")
    refused(r"Stage 1.*placeholder '5' is already a word.*<my-5>", train, 1, sd15, dataset=data)


def test_a_prompt_that_is_too_long_is_refused(sd15, run, train, refused):
    data = dataset(run, template="a photo of a {} " + "very " * 80)
    refused(r"Stage 1.*shorten the template", train, 1, sd15, dataset=data)


def test_prompt_weights_in_a_template_are_refused(sd15, run, train, refused):
    data = dataset(run, template="a photo of a ({}:1.2)")
    refused(r"Stage 1.*template .*round brackets", train, 1, sd15, dataset=data)


def test_a_category_of_several_tokens_works_and_the_log_says_what_is_tied(sd15, run, train, caplog):
    for category, tie, told in (
        ("stuffed animal", "last word", "token 2 of 'stuffed animal'"),
        ("stuffed animal", "first token", "token 1 of 'stuffed animal'"),
    ):
        data = dataset(run, category=category)
        with caplog.at_level(logging.INFO):
            concept = train(1, sd15, dataset=data, category_tie=tie, steps=0)[0]
        assert told in caplog.text
        wanted = sd15.clip.tokenize(category)["l"][0][2 if tie == "last word" else 1][0]
        assert concept.record["tied_token_id"] == wanted
        table = sd15.clip.cond_stage_model.clip_l.transformer.get_input_embeddings().weight
        torch.testing.assert_close(concept.vectors[0], table[wanted].float())


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"category": ""}, "category is empty"),
        ({"category": "a:b"}, "category 'a:b'"),
        ({"placeholder": "my dog"}, "placeholder 'my dog'"),
        ({"placeholder": "axolotl"}, "placeholder 'axolotl' is already a word"),
        ({"placeholder": "person"}, "placeholder 'person' is the category itself"),
        ({"template": "a photo"}, r"template 'a photo' needs \{\}"),
    ],
)
def test_bad_words_of_a_dataset_are_refused(run, refused, changes, told):
    refused(f"Concept Dataset From Images: {told}", dataset, run, **changes)


def test_a_wire_without_a_clip_is_named_by_every_node_that_reads_one(
    sd15, run, refused, trained, output
):
    """Load Checkpoint gives nothing where the file has no text encoder."""
    lists = {"model": [sd15.model], "clip": [None], "vae": [sd15.vae]}
    told = "CLIP is missing: the checkpoint holds none; connect a CLIP"
    values = {"model": sd15.model, "clip": None, "concept": trained}
    refused(f"Apply Concept: {told}", run, "AttnDBApplyConcept", **values)
    values = {"images": [photos()], "category": ["person"]}
    refused(f"Mask Subject: {told}", run, "AttnDBMaskSubject", **lists, **values)
    values = {"concepts": {"concept_0": [trained]}}
    refused(f"Compare Concepts: {told}", run, "AttnDBCompareConcepts", **lists, **values)


@pytest.mark.parametrize(
    ("node", "widget", "values"),
    [
        ("AttnDBAllStages", "preset", {"model": 0, "clip": 0, "vae": 0, "dataset": 0}),
        ("AttnDBSaveConcept", "precision", {"name": "a"}),
        ("AttnDBSaveConcept", "metadata", {"name": "a"}),  # the photos' names were saved
        ("AttnDBExportToDiffusers", "precision", {"model": 0, "name": "a"}),
        ("AttnDBTrainingOptions", "low_memory", {}),
        ("AttnDBLoadConceptDataset", "masks", {"folder": "a", "path": "", "category": "dog"}),
        ("AttnDBLoadConceptDataset", "captions", {"folder": "a", "path": "", "category": "dog"}),
        ("AttnDBPromptSet", "prompts", {}),
        ("AttnDBLoadImageEncoder", "encoder", {}),
        ("AttnDBMicroConcept", "concept", {}),
        ("AttnDBMicroConcept", "photo_set", {"concept": "hatted-robot"}),
    ],
)
def test_a_choice_over_a_wire_that_there_is_none_of_is_refused(run, refused, node, widget, values):
    """The host looks at those that are chosen on the node."""
    if "name" in values:
        values = {**values, "concept": None}
    refused(rf"{widget} = 'No photos': choose one of", run, node, **{**values, widget: "No photos"})


@pytest.mark.parametrize(
    ("widget", "least"), [("kept_concepts", 1), ("checkpoint_concepts", 0), ("checkpoint_every", 0)]
)
def test_what_is_kept_of_a_training_is_no_negative_number(sd15, run, train, refused, widget, least):
    given = {widget: least - 1}
    if widget != "checkpoint_every":
        given = {"options": run("AttnDBTrainingOptions", **given)[0]}
    refused(f"Stage 1: .*: {widget} = {least - 1}: use {least}", train, 1, sd15, **given)


@pytest.mark.parametrize("widget", ["every", "steps", "width", "height"])
def test_a_number_from_a_wire_that_cannot_be_drawn_with_is_refused_before_a_training(
    run, refused, widget
):
    """The host holds typed numbers to a widget's bounds, not those that come over a wire."""
    refused(f"Training Preview: {widget} = 0: use", run, "AttnDBTrainingPreview", **{widget: 0})


def test_a_folder_is_read_and_its_troubles_are_named(run, refused, home, tmp_path):
    from PIL import Image

    words = {"folder": "(typed path)", "category": "person", "placeholder": "<astro>"}
    node = "AttnDBLoadConceptDataset"
    refused("Load Concept Dataset: folder is empty", run, node, path="", **words)
    refused("Load Concept Dataset: .*nowhere does not exist", run, node, path="nowhere", **words)
    folder = home / "input" / "astro"
    folder.mkdir(exist_ok=True)
    refused("Load Concept Dataset: .*astro holds no image", run, node, path="astro", **words)
    for number, picture in enumerate(photos(2)):
        Image.fromarray((picture.numpy() * 255).astype("uint8")).save(folder / f"{number}.png")
    found, strip = run(node, path=f' "{folder}" ', **words)
    assert [photo.name for photo in found.photos] == ["0.png", "1.png"]
    assert strip.shape == (1, 256, 512, 3)
    assert run(node, **{**words, "folder": "astro"}, path="")[0].digest == found.digest
    (folder / "2.jpg").write_bytes(b"")
    refused(r"Load Concept Dataset: 2\.jpg is empty.*skip_broken", run, node, path="astro", **words)
    kept, _ = run(node, path="astro", skip_broken=True, **words)
    assert kept.digest == found.digest


def test_a_changed_photo_makes_the_graph_run_again(run, home):
    from PIL import Image

    from attndreambooth.nodes.dataset import LoadConceptDataset

    folder = home / "input" / "again"
    folder.mkdir()
    Image.new("RGB", (64, 64), "red").save(folder / "a.png")
    first = LoadConceptDataset.fingerprint_inputs("again", "")
    assert LoadConceptDataset.fingerprint_inputs("again", "") == first
    Image.new("RGB", (64, 64), "red").save(folder / "b.png")
    assert LoadConceptDataset.fingerprint_inputs("again", "") != first


def test_a_nan_names_the_node_the_step_and_the_part(sd15, train, monkeypatch):
    from attndreambooth.attndb.models import noise_schedule as objective
    from attndreambooth.nodes.errors import NodeError

    plain = objective.Diffusion.add_noise
    monkeypatch.setattr(objective.Diffusion, "add_noise", lambda *args: plain(*args) * float("nan"))
    with pytest.raises(NodeError, match=r"Stage 1: Learn Embedding: step 1: the .* loss is nan"):
        train(1, sd15)
