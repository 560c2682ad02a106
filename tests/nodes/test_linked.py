"""Names of files and choices that come over a wire: the host gives None for them beforehand."""

from __future__ import annotations

import os

import pytest
import torch
from safetensors.torch import save_file


def node(name):
    from attndreambooth.nodes import all_nodes

    return next(each for each in all_nodes() if each.define_schema().node_id == name)


def changed(path):
    found = path.stat()
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns + 10**9))


def test_a_saved_concept_is_loaded_again_only_when_its_files_change(run, trained, home):
    state = node("AttnDBLoadConcept").fingerprint_inputs
    run("AttnDBSaveConcept", concept=trained, name="linked")
    before = state(None)
    run("AttnDBLoadConcept", name="linked")
    assert state(None) == before == state()
    changed(home / "loras" / "linked.safetensors")
    after = state(None)
    assert before != after == state(None)
    assert state("linked") not in (before, after)


@pytest.mark.parametrize("name", ["sub\\written", "sub/written.safetensors"])
def test_a_name_that_is_understood_is_watched_as_it_is_loaded(run, trained, home, name):
    """A workflow from Windows has its separators; a text on a wire may have the file's ending."""
    state = node("AttnDBLoadConcept").fingerprint_inputs
    run("AttnDBSaveConcept", concept=trained, name="sub/written")
    assert run("AttnDBLoadConcept", name=name)[1] == trained.trigger
    before = state(name), state(None)
    changed(home / "loras" / "sub" / "written.safetensors")
    after = state(name), state(None)
    assert before[0] != after[0] and before[1] != after[1]


def test_other_programs_files_are_imported_again_only_when_they_change(run, sd15, home):
    state = node("AttnDBImportConcept").fingerprint_inputs
    save_file({"clip_l": torch.ones(1, 768)}, home / "embeddings" / "foreign.safetensors")
    given = {"embedding": "foreign.safetensors", "lora": "(none)", "unet": "(none)"}
    before = state(**{**given, "embedding": None})
    run("AttnDBImportConcept", model=sd15.model, category="dog", placeholder="<imp>", **given)
    assert state(**{**given, "embedding": None}) == before
    changed(home / "embeddings" / "foreign.safetensors")
    after = state(**{**given, "embedding": None})
    assert before != after == state(**{**given, "embedding": None})


def test_a_file_of_prompts_is_read_again_only_when_it_changes(run, home):
    state = node("AttnDBPromptSet").fingerprint_inputs
    (home / "input" / "linked.txt").write_text("a {}", encoding="utf-8")
    before = state(prompts="text file", file=None)
    run("AttnDBPromptSet", prompts="text file", file="linked.txt")
    assert state(prompts="text file", file=None) == before == state(prompts=None, file="x")
    changed(home / "input" / "linked.txt")
    assert state(prompts="text file", file=None) != before


def test_each_of_a_list_of_files_is_watched_and_what_changes_while_it_is_read(run, home):
    state = node("AttnDBPromptSet").fingerprint_inputs
    files = [home / "input" / f"list-{number}.txt" for number in range(20)]
    for file in files:
        file.write_text("a {}", encoding="utf-8")
        run("AttnDBPromptSet", prompts="text file", file=file.name)
    before = state(prompts=None)
    changed(files[0])
    after = state(prompts=None)
    assert after != before

    from attndreambooth.nodes.host.linked import LinkedFiles

    content = ["first"]
    linked = LinkedFiles(lambda name: content[0])
    unchanged = linked.state()
    with linked.reading("a name"):
        content[0] = "second"
    assert linked.state() != unchanged


def test_a_choice_over_a_wire_is_left_to_the_run(host):
    assert node("AttnDBTrainingOptions").validate_inputs(low_memory=None) is True
    assert node("AttnDBMicroConcept").validate_inputs(concept=None) is True
