"""Concept files: read back whole, the same bytes every time, never half-written."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from safetensors import safe_open

from attndreambooth.attndb.artifacts.concept import ConceptFileError, TrainedConcept
from attndreambooth.attndb.artifacts.concept_files import (
    RECORD_KEY,
    concept_files,
    load_concept,
    read_record,
)
from attndreambooth.attndb.artifacts.file_name import check_name, check_new_name
from attndreambooth.attndb.artifacts.tensor_file import read_tensors, text_writer, write_whole
from attndreambooth.attndb.data.dataset import check_placeholder
from attndreambooth.devkit.pack import ROOT


def concept(seed=0, weights=True):
    generator = torch.Generator().manual_seed(seed)
    names = [f"blocks.{i}.attn2.{kind}" for i in range(12) for kind in ("weight", "bias")]
    return TrainedConcept(
        placeholder="<x>",
        category="dog",
        text_key="clip_l",
        vectors=torch.randn(2, 8, generator=generator),
        delta={n: torch.randn(5, 3, generator=generator) for n in names if weights},
        base_family="SD 1.5",
        record={
            "base_sha256": "00ff",
            "prompt": "a photo of a <x> dog",
            "thumbnail": "data:image/jpeg;base64,AAAA",
            "versions": {"b": "1", "a": "2"},
            "stages": [{"stage": 1, "seed": 3, "losses": [[0.5, 0.01]]}],
        },
    )


def save(folder, made, name="astro"):
    embedding, weights = folder / "e" / f"{name}.safetensors", folder / "w" / f"{name}.safetensors"
    write_whole(concept_files(made, name, embedding, weights))
    return embedding, weights


@pytest.mark.parametrize("placeholder", ["[V]", "[my-dog]", "@dog", "#1", '"x"', "a|b", "<x>"])
def test_a_word_that_a_dataset_takes_comes_back_from_its_file(tmp_path, placeholder):
    check_placeholder(placeholder, "dog")
    made = replace(concept(weights=False), placeholder=placeholder)
    assert load_concept(save(tmp_path, made)[0], None).placeholder == placeholder


@pytest.mark.parametrize("number", [errno.ENAMETOOLONG, errno.ENOENT])
def test_a_path_that_is_too_long_for_the_system_is_said_to_be(tmp_path, number):
    """Of a path beyond 259 characters Windows says that there is no such file."""

    def write(_):
        raise OSError(number, os.strerror(number))

    far = tmp_path / ("d" * 120) / ("e" * 120) / "a.safetensors"
    with pytest.raises(OSError, match=r"a\.safetensors could not .* is too long: choose shorter"):
        write_whole({far: write})


@pytest.mark.parametrize("weights", [True, False])
def test_a_concept_comes_back_whole(tmp_path, weights):
    made = concept(weights=weights)
    files = save(tmp_path, made)
    assert files[1].exists() == weights
    back = load_concept(files[0], files[1] if weights else None)
    assert back.record == made.record
    assert back.digest() == made.digest()
    for field in ("placeholder", "category", "text_key", "base_family"):
        assert getattr(back, field) == getattr(made, field)


def test_the_files_are_plain_safetensors_with_metadata_that_others_read(tmp_path):
    made = concept()
    embedding, weights = save(tmp_path, made)
    assert torch.equal(safetensors.torch.load_file(embedding)["clip_l"], made.vectors)
    assert torch.equal(
        safetensors.torch.load_file(weights)["diffusion_model.blocks.3.attn2.diff_b"],
        made.delta["blocks.3.attn2.bias"],
    )
    for path, kind in ((embedding, "textual-inversion"), (weights, "lora")):
        with safe_open(str(path), "pt") as handle:
            metadata = handle.metadata()
        assert metadata["modelspec.architecture"] == f"stable-diffusion-v1/{kind}"
        assert metadata["modelspec.trigger_phrase"] == "<x> dog"
        assert metadata["modelspec.thumbnail"].startswith("data:image/jpeg")
        assert metadata["modelspec.hash_sha256"] == f"0x{made.digest()}"
        record = json.loads(metadata[RECORD_KEY])
        assert record["base_sha256"] == "00ff" and record["stages"][0]["seed"] == 3


SAVE_ELSEWHERE = """
import sys
from pathlib import Path
sys.path[:0] = {paths!r}
from support import load_pack
load_pack()
import test_concept_files
test_concept_files.save(Path(sys.argv[1]), test_concept_files.concept())
"""


def test_another_process_writes_the_same_bytes(tmp_path):
    mine = save(tmp_path / "mine", concept())
    paths = [str(ROOT / "tests"), str(ROOT / "tests" / "attndb" / "artifacts")]
    for number in ("1", "2"):
        subprocess.run(
            [sys.executable, "-c", SAVE_ELSEWHERE.format(paths=paths), str(tmp_path / number)],
            check=True,
            env={**os.environ, "PYTHONHASHSEED": number},
        )
        for ours in mine:
            theirs = tmp_path / number / ours.relative_to(tmp_path / "mine")
            assert theirs.read_bytes() == ours.read_bytes()


# ---- nothing half-written


def everything(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.skipif(os.name == "nt", reason="a file's size cannot be limited there")
def test_a_full_disk_leaves_the_earlier_files_as_they_were(tmp_path):
    """The limit on a file's size stands for the disk's: writes fail in the middle of a file."""
    embedding, weights = save(tmp_path, concept(0))
    before = everything(tmp_path)
    limit = weights.stat().st_size - 100
    assert embedding.stat().st_size < limit  # the first file fits, the second does not
    script = SAVE_ELSEWHERE.format(
        paths=[str(ROOT / "tests"), str(ROOT / "tests" / "attndb" / "artifacts")]
    ).replace("test_files.concept()", "test_files.concept(1)")
    limited = f"import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
    lines = script.splitlines()
    script = "\n".join([*lines[:-1], limited, lines[-1]])
    done = subprocess.run(
        [sys.executable, "-B", "-c", script, str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 1 and "nothing was saved. Free space" in done.stderr, done.stderr
    assert everything(tmp_path) == before


def test_a_full_disk_is_said_in_words(tmp_path):
    def full(handle):
        handle.write(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    files = {tmp_path / "a": text_writer("whole"), tmp_path / "b": full}
    with pytest.raises(OSError, match=r"No space left.*nothing was saved\. Free space") as error:
        write_whole(files)
    assert error.value.errno == errno.ENOSPC
    assert everything(tmp_path) == {}


def test_a_folder_that_cannot_be_made_leaves_nothing(tmp_path):
    (tmp_path / "w").write_text("a file where the folder should be")
    with pytest.raises(OSError, match="nothing was saved"):
        save(tmp_path, concept())
    assert list(everything(tmp_path)) == [(tmp_path / "w").relative_to(tmp_path)]


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="folders have no such modes here")
def test_an_unwritable_folder_is_named():
    nobody = 65534
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o555)
        user = os.geteuid()
        if user == 0:  # root may write anywhere
            os.seteuid(nobody)
        try:
            with pytest.raises(PermissionError, match=r"nothing was saved.*allow writing") as error:
                write_whole({folder / "a.safetensors": text_writer("a")})
        finally:
            if user == 0:
                os.seteuid(user)
        assert name in str(error.value)
        assert everything(folder) == {}
        folder.chmod(0o755)


def test_files_that_cannot_all_be_put_in_place_leave_the_pair_unusable_or_whole(tmp_path):
    """A folder in the place of the second file: renaming fails after the first was renamed."""
    embedding, weights = save(tmp_path, concept(0))
    weights.unlink()
    (weights / "in the way").mkdir(parents=True)
    with pytest.raises(OSError):
        save(tmp_path, concept(1))
    assert not list(tmp_path.rglob("*.part"))
    with pytest.raises(ConceptFileError, match="missing"):
        load_concept(embedding, weights)


# ---- what cannot be used


def test_files_of_two_concepts_do_not_mix(tmp_path):
    embedding, _ = save(tmp_path / "a", concept(0))
    _, weights = save(tmp_path / "b", concept(1))
    with pytest.raises(ConceptFileError, match="belongs to another concept"):
        load_concept(embedding, weights)


def test_missing_weights_are_named(tmp_path):
    embedding, weights = save(tmp_path, concept())
    weights.unlink()
    for given in (None, weights):
        with pytest.raises(ConceptFileError, match=r"astro\.safetensors.*is missing: put it back"):
            load_concept(embedding, given)


def test_a_truncated_file_is_named(tmp_path):
    embedding, weights = save(tmp_path, concept())
    for path in (weights, embedding):
        path.write_bytes(path.read_bytes()[:-7])
        with pytest.raises(ConceptFileError, match=r"astro\.safetensors is not a readable"):
            load_concept(embedding, weights)


def test_unknown_keys_are_named(tmp_path):
    embedding, weights = save(tmp_path, concept())
    for path, told in ((weights, "1 unknown keys, e.g. stranger"), (embedding, "unknown keys")):
        tensors, metadata = read_tensors(path)
        tensors["stranger"] = torch.zeros(1)
        safetensors.torch.save_file(tensors, path, metadata)
        with pytest.raises(ConceptFileError, match=told):
            load_concept(embedding, weights)


def with_record(path, record):
    safetensors.torch.save_file({"clip_l": torch.zeros(1, 8)}, path, record)
    return path


def test_a_foreign_embedding_is_told_from_a_concept(tmp_path):
    path = with_record(tmp_path / "a.safetensors", {"format": "pt"})
    assert read_record(path) is None
    with pytest.raises(ConceptFileError, match=r"a\.safetensors carries no record.*embedding:name"):
        load_concept(path, None)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '{"placeholder": "<x>"}'])
def test_a_broken_record_is_named(tmp_path, text):
    path = with_record(tmp_path / "a.safetensors", {RECORD_KEY: text})
    with pytest.raises(ConceptFileError, match=r"a\.safetensors: its record"):
        load_concept(path, None)


def test_a_newer_format_is_refused(tmp_path):
    embedding, _ = save(tmp_path, concept(weights=False))
    record = read_record(embedding)
    assert record
    with_record(embedding, {RECORD_KEY: json.dumps({**record, "format": 4})})
    with pytest.raises(ConceptFileError, match="newer version"):
        load_concept(embedding, None)


# ---- names


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("my-sloth", "my-sloth"),
        ("pets/sloth_2", "pets/sloth_2"),
        ("pets\\sloth", "pets/sloth"),
        ("sloth.safetensors", "sloth"),
        ("v1.5", "v1.5"),
    ],
)
def test_a_good_name_is_a_path_below_the_folder(name, path):
    assert check_name(name) == check_new_name(name) == path


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        ".",
        "..",
        "../a",
        "a/..",
        "a/../b",
        "/a",
        "a//b",
        "a/",
        "C:/a",
        "a\0",
        "a?",
        "x" * 300,
        "a.",
        " a",
        "..\\a",
        "<a>",
        "a|b",
        ".safetensors",
    ],
)
def test_a_name_that_could_leave_its_folder_is_refused(name):
    with pytest.raises(ValueError, match="cannot be a file name"):
        check_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "my sloth",
        "a[b]",
        "a(b)",
        "a,b",
        "con",
        "x/NUL.v2",
        "a\tb",
        "a\ud800",
        "a\x1b[2J",
        "\u202ea",
    ],
)
def test_a_new_name_works_in_prompts_and_on_every_system(name):
    with pytest.raises(ValueError, match="cannot be a file name"):
        check_new_name(name)


def test_a_new_name_fits_into_what_a_file_system_takes_in_bytes(tmp_path):
    fits, long = "\u72d7" * 66, "\u72d7" * 67
    save(tmp_path, concept(weights=False), check_new_name(fits))
    with pytest.raises(ValueError, match="takes 201 bytes, and 200 are the most: choose a shorter"):
        check_new_name(f"pets/{long}")
