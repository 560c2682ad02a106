"""Load Concept Dataset: which folders are read, what is told of them, when it runs again."""

from __future__ import annotations

import os
import socket
import sys
import time

import numpy as np
import pytest
from PIL import Image

FOLDER = "AttnDBLoadConceptDataset"
WORDS = {"category": "person", "placeholder": "<astro>"}


def save(folder, *names, seed=0):
    """Pictures that differ, by name."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        grain = np.random.default_rng((seed, number)).integers(0, 256, (6, 6, 3), dtype=np.uint8)
        picture = Image.fromarray(grain).resize((64, 64), Image.Resampling.NEAREST)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        picture.save(folder / name)
    return folder


@pytest.fixture
def load(run):
    """Load Concept Dataset on a typed path, or on a chosen folder."""

    def load_dataset(path="", folder="(typed path)", **changes):
        return run(FOLDER, folder=folder, path=str(path), **{**WORDS, **changes})[0]

    return load_dataset


@pytest.fixture
def refused(load):
    from attndreambooth.nodes.errors import NodeError

    def check(*args, **kwargs):
        with pytest.raises(NodeError) as caught:
            load(*args, **kwargs)
        assert str(caught.value).startswith("Load Concept Dataset: ")
        return str(caught.value)

    return check


@pytest.fixture
def inputs(home, tmp_path, monkeypatch):
    """An input directory of this test's own."""
    import folder_paths

    from attndreambooth.nodes.host import photo_folders

    monkeypatch.setattr(folder_paths, "input_directory", str(tmp_path / "input"))
    photo_folders._listed["key"] = None
    (tmp_path / "input").mkdir()
    return tmp_path / "input"


# ---- which folders may be read


def names(data):
    return [photo.name for photo in data.photos]


def test_folders_below_input_and_datasets_are_read(load, inputs, tmp_path, monkeypatch):
    import folder_paths

    save(inputs / "cat", "a.png", "b.png")
    save(tmp_path / "datasets" / "dog", "c.png")
    sets = ([str(tmp_path / "datasets")], set())
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "datasets", sets)
    assert names(load("cat")) == ["a.png", "b.png"] == names(load(folder="cat"))
    assert names(load(inputs / "cat")) == ["a.png", "b.png"]
    for place in ("dog", "datasets/dog", tmp_path / "datasets" / "dog"):
        assert names(load(place)) == ["c.png"]
    from attndreambooth.nodes.host.photo_folders import photo_folders

    assert photo_folders() == ["cat", "datasets/dog"]


@pytest.mark.parametrize("folder", ["(typed path)", None])
def test_a_folder_elsewhere_is_refused_and_the_error_says_how_the_owner_allows_it(
    load, refused, inputs, tmp_path, monkeypatch, folder
):
    import folder_paths

    secret = save(tmp_path / "secret", "private.png")
    for place in (str(secret), "../secret", "../secret/.", f"{inputs}/../secret", "../nowhere"):
        chosen = {"folder": place} if folder is None else {"path": place}
        message = refused(**chosen)
        assert "lies outside of ComfyUI's input/ and datasets/" in message
        assert "attndb_photos" in message and "extra_model_paths.yaml" in message
        assert "private.png" not in message
    allowed = ([str(tmp_path / "secret")], set())
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "attndb_photos", allowed)
    assert names(load(secret)) == ["private.png"]


def test_the_owner_s_line_in_the_host_s_own_file_is_read(load, inputs, tmp_path, monkeypatch):
    import folder_paths
    from utils.extra_config import load_extra_path_config

    monkeypatch.setattr(
        folder_paths, "folder_names_and_paths", dict(folder_paths.folder_names_and_paths)
    )
    save(tmp_path / "elsewhere" / "robot", "a.png")
    settings = tmp_path / "extra_model_paths.yaml"
    settings.write_text(f"photos:\n    attndb_photos: {tmp_path / 'elsewhere'}\n")
    load_extra_path_config(str(settings))
    assert names(load(tmp_path / "elsewhere" / "robot")) == ["a.png"]
    assert names(load("elsewhere/robot")) == ["a.png"]


def test_links_that_leave_the_folders_are_not_followed(load, refused, inputs, tmp_path):
    secret = save(tmp_path / "secret", "private.png")
    inside = save(inputs / "cat", "a.png")
    (inputs / "way").symlink_to(secret)
    assert "lies outside" in refused("way")
    (inside / "b.png").symlink_to(secret / "private.png")
    (inside / "more").symlink_to(secret)
    message = refused("cat")
    assert "b.png is a link that leaves the folder" in message
    assert "more is a link that leaves the folder" in message and "private" not in message
    assert names(load("cat", skip_broken=True)) == ["a.png"]
    (inside / "b.png").unlink()
    (inside / "more").unlink()
    save(inputs / "other", "c.png", seed=1)
    (inside / "within.png").symlink_to(inputs / "other" / "c.png")
    assert names(load("cat")) == ["a.png", "within.png"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "folder is empty"),
        (" ' ' ", "folder is empty"),
        ("~nosuchuser/photos", "~nosuchuser/photos does not exist"),
        ("~root", "~root does not exist"),
        ("a\0b", "'a\\x00b' is no path"),
        ("x" * 5000, "is no path"),
        ("x" * 300, "cannot be opened: File name too long"),
        ("no\ud800where", "'no\\ud800where' is no path"),
        ("M\udcfcller", "M\\udcfcller does not exist"),
        ("two\nlines\x1b[31m", "two\\nlines\\x1b[31m does not exist"),
    ],
)
def test_a_path_that_is_none_is_named(refused, inputs, text, told):
    message = refused(text)
    assert told in message and len(message) < 1000
    message.encode()


@pytest.mark.parametrize("folder", [5, 1.5, {"a": 1}, ["x"], True])
def test_a_folder_that_is_no_text_is_refused(refused, inputs, folder):
    from attndreambooth.nodes.dataset import LoadConceptDataset

    assert "is no text" in refused(folder=folder)
    assert "is no text" in LoadConceptDataset.validate_inputs(folder)
    assert LoadConceptDataset.validate_inputs("any") is LoadConceptDataset.validate_inputs(None)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
@pytest.mark.parametrize("name", [" edge ", "'quoted'", '"', "a b", "caf\xe9", "~tilde"])
def test_folders_with_edge_blanks_and_quotes_are_reached(load, inputs, name):
    save(inputs / name, "a.png")
    assert names(load(folder=name)) == names(load(inputs / name)) == ["a.png"]
    if not name.startswith("~"):
        assert names(load(name)) == ["a.png"]


# ---- what lies in a folder


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="POSIX")
def test_what_is_no_regular_file_is_said_and_never_waited_for(refused, load, inputs):
    folder = save(inputs / "odd", "a.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "dangling.png").symlink_to(inputs / "nothing.png")
    (folder / "round").symlink_to(folder)
    with socket.socket(socket.AF_UNIX) as end:
        os.chdir(folder)
        end.bind("socket.png")
        os.chdir("/")
        message = refused("odd")
    for told in (
        "pipe.png is a named pipe",
        "dangling.png is a link that leads nowhere",
        "round is a link to a folder that is read already",
        "socket.png is a socket",
    ):
        assert told in message
    assert names(load("odd", skip_broken=True)) == ["a.png"]


def test_an_error_names_five_files_at_most(refused, inputs):
    folder = save(inputs / "texts", "a.png")
    for number in range(40):
        (folder / f"note {number}.txt").write_text("x")
    message = refused("texts")
    assert message.count("is not an image") == 5 and "; and 35 more. Fix or remove" in message
    assert "note 0.txt" in message and "note 4.txt" in message and len(message) < 500


@pytest.mark.parametrize(("count", "told"), [(501, " 501 files"), (3000, " 3,000 files")])
def test_a_folder_of_too_many_files_is_refused_with_the_count(refused, inputs, count, told):
    folder = save(inputs / "many", "a.png")
    for number in range(count - 1):
        (folder / f"{number}.png").touch()
    start = time.process_time()
    message = refused("many")
    assert time.process_time() - start < 1.0
    assert told in message and "at most 500 are read" in message


def test_cancel_stops_a_scan_and_a_reading(load, inputs, monkeypatch):
    import comfy.model_management as management

    save(inputs / "cat", "a.png")
    management.interrupt_current_processing()
    with pytest.raises(management.InterruptProcessingException):
        load("cat")
    assert names(load("cat")) == ["a.png"]


def test_the_choice_of_folders_is_shallow_bounded_and_remembered(inputs, monkeypatch):
    from attndreambooth.nodes.host import photo_folders

    for number in range(250):
        (inputs / f"f{number:03}").mkdir()
        (inputs / f"f{number:03}" / "a.png").touch()
    (inputs / "a" / "b" / "c").mkdir(parents=True)
    for folder in ("a", "a/b", "a/b/c", ".hidden"):
        (inputs / folder).mkdir(exist_ok=True)
        (inputs / folder / "x.png").touch()
    (inputs / "empty").mkdir()
    found = photo_folders.photo_folders()
    assert len(found) == 200 and found[:2] == ["a", "a/b"] and "a/b/c" not in found
    calls = []
    monkeypatch.setattr(photo_folders, "_list", lambda roots: calls.append(1) or [])
    assert photo_folders.photo_folders() == found and not calls
    (inputs / "new").mkdir()
    photo_folders.photo_folders()
    assert calls == [1]  # a new folder is seen at once


# ---- when it runs again


def test_a_path_over_a_wire_runs_again_only_when_files_change(load, inputs):
    from attndreambooth.nodes.dataset import LoadConceptDataset

    def state():
        return LoadConceptDataset.fingerprint_inputs("(typed path)", None, category=None)

    folder = save(inputs / "linked", "a.png", "b.png")
    before = state()
    load("linked")
    assert state() == before == state()
    save(folder, "c.png", seed=3)
    changed = state()
    assert changed != before
    load("linked")
    assert state() == changed
    (folder / "a.png").unlink()
    assert state() != changed
    assert LoadConceptDataset.fingerprint_inputs(None, "") == state()


def test_text_files_are_captions_and_a_changed_one_runs_again(load, refused, inputs):
    from attndreambooth.nodes.dataset import LoadConceptDataset

    folder = save(inputs / "cat", "a.png", "b.png")
    (folder / "a.txt").write_text("a {} in a basket")
    assert "a.txt is the caption of a.png: set captions to 'text files'" in refused("cat")
    data = load("cat", captions="text files")
    assert [photo.caption for photo in data.photos] == ["a {} in a basket", None]
    before = LoadConceptDataset.fingerprint_inputs("cat", "")
    (folder / "a.txt").write_text("a {} on a roof, at night")
    assert LoadConceptDataset.fingerprint_inputs("cat", "") != before


def test_without_a_placeholder_it_is_made_from_the_folder_s_name(load, inputs):
    save(inputs / "Red Bag", "a.png")
    assert load("Red Bag", placeholder="").placeholder == "<my-red-bag>"


def test_private_is_kept(load, inputs):
    save(inputs / "cat", "a.png")
    assert load("cat", private=True).private and not load("cat").private


def test_mask_files_are_masks_and_a_changed_one_runs_again(load, refused, inputs):
    from attndreambooth.nodes.dataset import LoadConceptDataset

    folder = save(inputs / "cat", "a.png", "b.png")
    mask = Image.new("L", (64, 64), 0)
    mask.paste(255, (8, 8, 40, 40))
    mask.save(folder / "a_mask.png")
    assert "a_mask.png is the mask of a.png: set masks to 'files'" in refused("cat")
    data = load("cat", masks="files", background_weight=0.2)
    assert [photo.mask is not None for photo in data.photos] == [True, False]
    assert data.background == 0.2
    before = LoadConceptDataset.fingerprint_inputs("cat", "")
    mask.paste(255, (8, 8, 60, 60))
    mask.save(folder / "a_mask.png")
    os.utime(folder / "a_mask.png", ns=(1, 1))
    assert LoadConceptDataset.fingerprint_inputs("cat", "") != before


def test_a_name_in_two_folders_means_the_one_that_is_shown_so(
    load, inputs, tmp_path, monkeypatch, caplog
):
    """dog was the one in datasets/, though the list shows that as datasets/dog."""
    import folder_paths

    from attndreambooth.nodes.host.photo_folders import photo_folders

    places = {
        "dog": inputs / "dog",
        "datasets/dog": tmp_path / "datasets" / "dog",
        "input/datasets/dog": inputs / "datasets" / "dog",
        "input/input/dog": inputs / "input" / "dog",
    }
    for number, place in enumerate(places.values()):
        save(place, f"{number}.png", seed=number)
    sets = ([str(tmp_path / "datasets")], set())
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "datasets", sets)
    assert [name for name in photo_folders() if name.endswith("dog")] == sorted(places)
    for number, name in enumerate(places):
        assert names(load(folder=name)) == names(load(name)) == [f"{number}.png"], name
    caplog.clear()
    assert names(load("datasets/dog")) == ["1.png"]
    assert f"read from {places['datasets/dog']}; {places['input/datasets/dog']} is" in caplog.text
    caplog.clear()
    load("input/datasets/dog")
    assert "another of this name" not in caplog.text
