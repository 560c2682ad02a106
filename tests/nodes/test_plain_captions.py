"""Load Concept Dataset with the captions of other trainers."""

from __future__ import annotations

import pytest
from PIL import Image


@pytest.fixture
def inputs(home, tmp_path, monkeypatch):
    """An input directory of this test's own."""
    import folder_paths

    monkeypatch.setattr(folder_paths, "input_directory", str(tmp_path / "input"))
    return tmp_path / "input"


@pytest.fixture
def load(run):
    """The dataset of a typed path."""

    def load_dataset(path, **changes):
        return run("AttnDBLoadConceptDataset", folder="(typed path)", path=str(path), **changes)[0]

    return load_dataset


def photos(folder, letters):
    """A photo for each letter."""
    folder.mkdir(parents=True)
    for number, name in enumerate(letters):
        Image.new("RGB", (64, 64), (60 * number, 0, 0)).save(folder / f"{name}.png")
    return folder


def test_a_folder_of_kohya_is_read_and_suggests_a_name_without_repeats(load, inputs):
    from attndreambooth.nodes.errors import NodeError

    folder = photos(inputs / "10_sks dog", "abc")
    (folder / "a.txt").write_text("photo of sks dog on a sofa")
    (folder / "b.txt").write_text("ohwx, dog, grass")
    kohya = {"placeholder": "", "category": "dog"}
    with pytest.raises(NodeError, match=r"needs \{\} exactly once.*'plain text files'"):
        load(folder, captions="text files", **kohya)
    data = load(folder, captions="plain text files", **kohya)
    assert data.placeholder == "<my-sks-dog>"
    assert [p.caption for p in data.photos] == ["photo of {} on a sofa", "ohwx, {}, grass", None]
    data = load("10_sks dog", captions="plain text files", trigger="ohwx", **kohya)
    assert [p.caption for p in data.photos][:2] == ["photo of sks {} on a sofa", "{}, grass"]
    for path in folder.glob("*.txt"):
        path.unlink()
    assert load(folder, **kohya).placeholder == "<my-10-sks-dog>"  # of what was trained so


def test_a_file_of_subjects_reads_a_folder_of_kohya_as_the_node_does(load, inputs, tmp_path):
    from attndreambooth.attndb.jobs.job_file import read_jobs
    from attndreambooth.headless.wires import dataset_of

    folder = photos(inputs / "10_sks dog", "ab")
    (folder / "a.txt").write_text("ohwx, dog, grass")
    words = {"category": "dog", "captions": "plain text files", "trigger": "ohwx"}
    said = ", ".join(f"{key}: {value}" for key, value in words.items())
    path = tmp_path / "jobs.yaml"
    path.write_text(f"model: micro\nsubjects:\n- photos: {{folder: {folder}, {said}}}\n")
    [job] = read_jobs(path)
    assert job.name == "my-sks-dog"
    assert dataset_of(job).digest == load(folder, placeholder="", **words).digest
