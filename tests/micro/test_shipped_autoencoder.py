"""The autoencoder that ships: subjects that it never saw keep the colours of their parts."""

from __future__ import annotations

import shutil

import pytest

from attndreambooth.micro.concepts import CONCEPTS
from attndreambooth.micro.gate import measure, through
from attndreambooth.micro.shipped import load_autoencoder
from attndreambooth.micro.stock import CODER_TEST, coder_scene, make_scenes
from attndreambooth.micro.weight_files import FOLDER, MODEL, WeightsError
from attndreambooth.micro.world import render


@pytest.fixture(scope="module")
def copy():
    return through(load_autoencoder())


def test_held_out_concepts_pass_the_gate(copy):
    photos = [photo for concept in CONCEPTS.values() for photo, _ in concept.photos()[:2]]
    row = measure("concepts", photos, copy)
    assert row.pictures >= 32 and row.passed, row


def test_random_identities_of_another_stream_pass_the_gate(copy):
    scenes = make_scenes(0, CODER_TEST, 48, coder_scene)
    row = measure("strangers", [render(s) for i, s in enumerate(scenes) if i % 4], copy)
    assert row.pictures == 36 and row.passed, row


def test_an_altered_file_is_refused_by_name(tmp_path):
    folder = tmp_path / "weights"
    shutil.copytree(FOLDER, folder)
    raw = bytearray((folder / MODEL).read_bytes())
    raw[-1] ^= 1
    (folder / MODEL).write_bytes(raw)
    with pytest.raises(WeightsError, match=MODEL):
        load_autoencoder(folder)
