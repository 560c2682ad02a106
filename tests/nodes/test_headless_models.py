"""What --check refuses of a file's model is what the run could not load."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from attndreambooth.attndb.artifacts.concept import TrainedConcept
from attndreambooth.attndb.jobs.job import MICRO, Job, ModelChoice, PhotoChoice, PreviewChoice
from attndreambooth.devkit.pack import ROOT


@pytest.fixture
def approximate(home, tmp_path, monkeypatch):
    """models/vae_approx with the two halves of TAESD in it."""
    import folder_paths

    known = folder_paths.folder_names_and_paths
    monkeypatch.setitem(known, "vae_approx", ([str(tmp_path)], {".safetensors"}))
    folder_paths.filename_list_cache.clear()
    for half in ("encoder", "decoder"):
        save_file({"a": torch.ones(1)}, tmp_path / f"taesd_{half}.safetensors")
    return tmp_path


def problems(**choice):
    from attndreambooth.headless.wires import missing_models

    return [problem.text for problem in missing_models(ModelChoice(**choice))]


def test_a_vae_that_load_vae_offers_without_a_file_of_its_name_is_taken(approximate):
    import folder_paths

    assert problems(checkpoint="", vae="taesd") == []
    (approximate / "taesd_encoder.safetensors").unlink()
    folder_paths.filename_list_cache.clear()
    [told] = problems(checkpoint="", vae="taesd")
    assert "vae 'taesd' is not in models/vae" in told


def test_the_embedded_model_is_neither_a_vae_nor_a_lora(host):
    from attndreambooth.attndb.jobs.job import LoRAChoice

    [vae, lora] = problems(checkpoint="", vae=MICRO, loras=(LoRAChoice(name=MICRO),))
    assert "vae 'micro' is not in models/vae" in vae
    assert "LoRA 'micro' is not in models/loras" in lora
    assert problems(checkpoint=MICRO) == []


def test_a_vae_beside_the_embedded_model_is_refused_and_not_passed_over(host):
    [told] = problems(checkpoint=MICRO, vae="taesd")
    assert told == "vae 'taesd' is not used: micro has its own; leave it out"


@pytest.fixture
def concept(home):
    """A saved concept of one vector and one weight."""
    from attndreambooth.nodes.host.concept_store import save_concept

    made = TrainedConcept(
        placeholder="<my-robot>",
        category="robot",
        text_key="clip_l",
        vectors=torch.ones(1, 8),
        delta={"out.2.weight": torch.ones(3, 4)},
        base_family="SD 1.5",
    )
    return save_concept(made, "begun")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("<my-robot>", "robot"), None),
        (("<other>", "robot"), "is for the placeholder '<my-robot>', and the dataset says"),
        (("<my-robot>", "dog"), "category is 'dog' in the dataset"),
    ],
)
def test_a_concept_that_no_stage_could_go_on_from_is_told_at_once(concept, home, words, told):
    """The run refuses it: in a long list of subjects hours later."""
    from attndreambooth.headless.wires import missing

    placeholder, category = words
    job = Job(
        name="x",
        model=ModelChoice(checkpoint=MICRO),
        photos=PhotoChoice(folder=home, placeholder=placeholder, category=category),
        stages=(),
        concept=concept,
        lines={"concept": 7},
    )
    found = [(problem.line, problem.text) for problem in missing(job)]
    assert len(found) == (told is not None) and all(told in text for _, text in found)
    weights = home / "loras" / f"{concept}.safetensors"
    weights.rename(weights.with_suffix(".away"))
    [problem] = missing(job)
    assert problem.line == 7 and "belongs to a concept with weights, but" in problem.text
    weights.with_suffix(".away").rename(weights)


@pytest.mark.parametrize(
    ("preview", "told"),
    [
        ({"sampler_name": "eulr"}, "preview: sampler_name = 'eulr': choose one of euler, "),
        ({"scheduler": "karas"}, "preview: scheduler = 'karas': choose one of "),
        ({"sampler_name": "euler", "scheduler": "karras"}, None),
    ],
)
def test_a_sampler_that_the_host_does_not_have_is_told_by_the_previews_line(host, preview, told):
    """The host draws with another one and says nothing."""
    from attndreambooth.headless.wires import missing, preview_of

    job = Job(
        name="x",
        model=ModelChoice(checkpoint=MICRO),
        photos=PhotoChoice(folder=ROOT, placeholder="<x>", category="robot"),
        stages=(),
        preview=PreviewChoice(**preview),
        lines={"preview": 9},
    )
    found = [(problem.line, problem.text) for problem in missing(job)]
    assert len(found) == (told is not None)
    assert all(line == 9 and text.startswith(told) for line, text in found)
    if told is None:
        assert (preview_of(job).sampler_name, preview_of(job).scheduler) == ("euler", "karras")
