"""Prior images through the nodes: refused where wrong, used in stages 2 and 3, recorded."""

from __future__ import annotations

import json
import logging

import pytest
import torch
from support.stages import dataset, photos

from attndreambooth.devkit.training import context_of

PRIOR = {"prompt": "a photo of a {}", "weight": 0.5}


def others(count=3):
    """Pictures that are no photos of the subject."""
    return photos(count).flip(1)


def with_prior(run, data=None, **changes):
    """The small dataset with prior images."""
    values = {"dataset": data or dataset(run), "images": others(), **PRIOR, **changes}
    return run("AttnDBAddPriorImages", **values)[0]


@pytest.fixture
def refused():
    from attndreambooth.nodes.errors import NodeError

    def check(pattern, call, *args, **kwargs):
        with pytest.raises(NodeError, match=pattern):
            call(*args, **kwargs)

    return check


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"weight": 0.0}, "weight = 0: must be above 0"),
        ({"weight": -2.0}, "weight = -2: must be above 0"),
        ({"images": torch.zeros(0, 64, 64, 3)}, "there is no prior image: connect an IMAGE batch"),
        ({"prompt": "a photo of a dog"}, "prompt 'a photo of a dog' does not contain .*'person'"),
        ({"prompt": "a photo of <astro> {}"}, "prompt .* contains the placeholder '<astro>'"),
        ({"images": photos()}, "prior image 1 is the dataset's photo image 1"),
    ],
)
def test_bad_prior_images_are_refused_by_the_node(run, refused, changes, told):
    refused(f"Add Prior Images: {told}", with_prior, run, **changes)


def test_prior_images_are_refused_a_second_time(run, refused):
    refused("Add Prior Images: .* 3 prior images already", with_prior, run, with_prior(run))


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        ("a ({}:1.2)", r"prompt 'a \(person:1\.2\)' uses prompt weights"),
        ("a {} " + "very " * 80, "takes .* tokens.*shorten the prompt in Add Prior Images"),
    ],
)
def test_a_prompt_that_cannot_be_trained_on_is_refused_before_anything_is_done(
    sd15, run, train, output, refused, prompt, told
):
    data = with_prior(run, prompt=prompt)
    refused(f"Stage 2: Train Cross-Attention: .*{told}", train, 2, sd15, dataset=data)
    assert not list(output.rglob("*"))


def test_another_concepts_placeholder_is_no_plain_word(sd15, run, train, chain, refused):
    clip = run("AttnDBApplyConcept", model=sd15.model, clip=sd15.clip, concept=chain[0])[1]
    data = with_prior(run, dataset(run, placeholder="<other>"), prompt="a <astro> {}")
    wires = type(sd15)(sd15.model, clip, sd15.vae)
    refused(r"'a <astro> person' uses an embedding or a learned", train, 2, wires, dataset=data)


def runs(output):
    return sorted(path.parent.name for path in output.glob("attndb/*/run.json"))


@pytest.mark.parametrize("number", [2, 3])
def test_a_stage_uses_and_records_prior_images(sd15, run, train, chain, output, caplog, number):
    before = chain[number - 2]
    data = with_prior(run)
    with caplog.at_level(logging.INFO):
        concept, _, _, picture, total = train(number, sd15, before, dataset=data)
    assert "prior preservation on 3 images of 'a photo of a person', weight 0.5" in caplog.text
    assert " (prior)" in caplog.text
    plain = chain[number - 1]
    assert concept.digest() != plain.digest()
    entry, entry_plain = concept.record["stages"][-1], plain.record["stages"][-1]
    assert entry["prior"] == data.prior.record() and len(entry["prior"]["images"]) == 3
    assert "prior" not in entry_plain
    first, first_plain = entry["losses"][0], entry_plain["losses"][0]
    assert first[:2] == first_plain and first[2] > 0
    assert total["loss"][0] == pytest.approx(sum(first))
    lines = next(output.rglob("losses.jsonl")).read_text().splitlines()
    assert [json.loads(line)["prior"] for line in lines] == [p for *_, p in entry["losses"]]
    green = torch.tensor([120, 210, 130]) / 255
    assert bool(((picture[0] - green).abs().amax(dim=-1) < 1e-3).any())


def test_each_choice_of_prior_images_has_a_run_of_its_own(sd15, run, train, chain, output):
    train(2, sd15, chain[0])
    plain = runs(output)
    train(2, sd15, chain[0], dataset=with_prior(run))
    train(2, sd15, chain[0], dataset=with_prior(run, weight=1.0))
    assert len(runs(output)) == 3 and set(plain) < set(runs(output))
    train(2, sd15, chain[0], dataset=with_prior(run))
    assert len(runs(output)) == 3


def test_stage_1_leaves_prior_images_out_and_says_so(sd15, run, train, chain, output, caplog):
    train(1, sd15)
    plain = runs(output)
    with caplog.at_level(logging.INFO):
        concept = train(1, sd15, dataset=with_prior(run))[0]
    assert "the 3 prior images are not used here" in caplog.text
    assert "finished before" in caplog.text and runs(output) == plain
    assert concept.digest() == chain[0].digest() and concept.record == chain[0].record


def test_an_interrupted_training_with_prior_images_goes_on_to_the_same_bytes(
    sd15, run, train, chain, monkeypatch, caplog, output
):
    import comfy.model_management
    import folder_paths

    from attndreambooth.nodes.host.ui import progress

    data = with_prior(run)
    whole = train(3, sd15, chain[1], dataset=data, steps=3)[0]
    folder_paths.set_output_directory(str(output / "again"))
    plain = progress.TrainingProgress.__call__

    def interrupt(self, loss, *others):
        comfy.model_management.interrupt_current_processing()
        return plain(self, loss, *others)

    with monkeypatch.context() as patched:
        patched.setattr(progress.TrainingProgress, "__call__", interrupt)
        with pytest.raises(comfy.model_management.InterruptProcessingException):
            train(3, sd15, chain[1], dataset=data, steps=3)
    with caplog.at_level(logging.INFO):
        resumed = train(3, sd15, chain[1], dataset=data, steps=3)[0]
    assert "resuming at step 2" in caplog.text
    assert resumed.digest() == whole.digest() and resumed.record == whole.record


def test_the_prior_prompt_reads_as_the_stock_node_reads_it(sd15, run, train, privately):
    from support.comparing import distance
    from support.stages import encode

    from attndreambooth.nodes.host.model.text import tokenize_prior_prompt

    train(2, sd15, steps=0)
    text = tokenize_prior_prompt(sd15.clip, "a photo of a person")
    assert None not in text.tokens
    ours = context_of(privately["backend"], text, privately["result"].vectors)[0]
    assert distance(ours, encode(sd15.clip, "a photo of a person")) < 1e-5


def test_all_stages_in_one_node_take_prior_images(sd15, run, monkeypatch):
    from attndreambooth.attndb.config import presets as config

    def small():
        return tuple(stage.with_(steps=1, batch_size=1) for stage in config.paper())

    monkeypatch.setitem(config.PRESETS, "paper", small)
    data = with_prior(run)
    concept, *_ = run("AttnDBAllStages", **sd15.named(), dataset=data, resolution=64)
    assert ["prior" in entry for entry in concept.record["stages"]] == [False, True, True]


def test_the_images_may_have_another_size_than_the_photos(sd15, run, train):
    images = torch.nn.functional.interpolate(others(2).movedim(-1, 1), (40, 72)).movedim(1, -1)
    concept = train(2, sd15, dataset=with_prior(run, images=images), steps=1)[0]
    assert concept.record["stages"][-1]["prior"]["count"] == 2
