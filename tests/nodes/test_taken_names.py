"""Names under which the host would find somebody else's file, or ours in its place, are taken."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from safetensors.torch import save_file
from support.stages import encode

WORD = {"clip_l": torch.full((1, 768), 0.5)}


@pytest.fixture
def shared(sd15, home, tmp_path, monkeypatch):
    """Second folders of the host's, as extra_model_paths.yaml names them."""
    import folder_paths

    for kind in ("embeddings", "loras"):
        folders, extensions = folder_paths.folder_names_and_paths[kind]
        (tmp_path / kind).mkdir()
        both = ([*folders, str(tmp_path / kind)], extensions)
        monkeypatch.setitem(folder_paths.folder_names_and_paths, kind, both)
    return tmp_path


@pytest.fixture
def reading(shared, sd15):
    """The text states of a prompt, as a CLIP loaded with these folders encodes it."""
    import folder_paths

    clip = sd15.clip.clone()
    clip.tokenizer = type(clip.tokenizer)(folder_paths.get_folder_paths("embeddings"))
    return lambda prompt: encode(clip, prompt)


@pytest.mark.parametrize("ending", ["pt", "bin", "safetensors"])
def test_an_embedding_in_another_folder_is_still_what_its_name_means(
    run, trained, shared, reading, ending
):
    file = shared / "embeddings" / f"ours-{ending}.{ending}"
    save_file(WORD, file) if ending == "safetensors" else torch.save(WORD, file)
    before = reading(f"a embedding:ours-{ending} person")
    name = run("AttnDBSaveConcept", concept=trained, name=f"ours-{ending}")[0]
    assert name == f"ours-{ending}-2"
    assert torch.equal(reading(f"a embedding:ours-{ending} person"), before)


def test_a_lora_in_another_folder_is_still_what_its_name_means(run, trained, shared):
    import folder_paths

    file = shared / "loras" / "line-art.safetensors"
    save_file(WORD, file)
    assert run("AttnDBSaveConcept", concept=trained, name="line-art")[0] == "line-art-2"
    assert folder_paths.get_full_path("loras", "line-art.safetensors") == str(file)


@pytest.mark.parametrize(
    ("there", "wanted", "saved"),
    [
        ("sd15/lion", "lion", "lion-2"),
        ("tiger", "sd15/tiger", "sd15/tiger-2"),
        ("panther", "black-panther", "black-panther"),
        ("sd15/lynx", "sdxl/lynx", "sdxl/lynx"),
    ],
)
def test_a_name_that_the_host_finds_in_two_folders_is_taken(
    run, trained, home, there, wanted, saved
):
    file = home / "embeddings" / f"{there}.safetensors"
    file.parent.mkdir(exist_ok=True)
    save_file(WORD, file)
    assert run("AttnDBSaveConcept", concept=trained, name=wanted)[0] == saved


def test_the_same_concept_may_lie_in_several_folders(run, trained, home):
    for name in ("copy-cat", "sub/copy-cat"):
        assert run("AttnDBSaveConcept", concept=trained, name=name)[0] == name
    other = dataclasses.replace(trained, placeholder="<other>")
    assert run("AttnDBSaveConcept", concept=other, name="sub/copy-cat")[0] == "sub/copy-cat-2"


def test_of_two_folders_files_of_a_name_those_that_belong_together_are_loaded(
    run, trained, sd15, shared, home
):
    """As Load LoRA does, the first weight file was taken: the concept of the second folder could
    not be loaded beside it."""
    import folder_paths

    run("AttnDBSaveConcept", concept=trained, name="twin")
    for kind in ("embeddings", "loras"):
        ours = home / kind / "twin.safetensors"
        ours.rename(shared / kind / ours.name)
    other = dataclasses.replace(trained, placeholder="<other>", delta={**trained.delta})
    other.delta["out.2.bias"] = torch.ones_like(next(iter(trained.delta.values())))
    run("AttnDBSaveConcept", concept=other, name="other-twin")
    strangers = home / "loras" / "twin.safetensors"
    (home / "loras" / "other-twin.safetensors").rename(strangers)
    for _ in range(2):
        folder_paths.filename_list_cache.clear()
        assert run("AttnDBLoadConcept", name="twin")[0].digest() == trained.digest()
        strangers.write_bytes(b"no file of tensors")
