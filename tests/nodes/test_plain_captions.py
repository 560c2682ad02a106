"""Datasets with captions that have no {}: of other trainers, and of captioning nodes."""

from __future__ import annotations

import logging

import pytest
from PIL import Image
from support.stages import photos as wired


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


IMAGES = "AttnDBConceptDatasetFromImages"
SAID = ["a corgi dog on a sofa", "A brown puppy in the snow. It is winter.", "at night\n\nIt is."]
KINDS = {"captions_are": "plain text", "trigger": "puppy"}
READ = ["a corgi {} on a sofa", "A brown {} in the snow. It is winter.", "{}, at night"]


@pytest.mark.parametrize("captions", [SAID, [SAID], "\n".join((*SAID[:2], "at night"))])
def test_captions_of_a_captioning_node_are_read_as_those_of_a_folder(run, captions, caplog):
    """A list of texts, a list for a whole batch (Florence-2), lines of one text."""
    words = {"images": wired(), "category": ["dog"], "placeholder": ["<rex>"]}
    kinds = {key: [value] for key, value in KINDS.items()}
    with caplog.at_level(logging.INFO):
        data = run(IMAGES, **words, captions=captions, **kinds)[0]
    assert [photo.caption for photo in data.photos] == READ
    assert (
        "3 plain captions: {} for the subject's words in 2, e.g. image 1: 'a corgi {} on a sofa'; "
        "{} put in front of 1, e.g. image 3: '{}, at night'" in caplog.text
    )
    by_hand = run(IMAGES, **words, captions=READ)[0]
    assert data.digest == by_hand.digest


def test_without_words_of_the_subject_a_warning_asks_for_them_and_an_empty_one_is_the_template(
    run, caplog
):
    data = run(IMAGES, images=wired(), category="cat", captions=[*SAID[:2], " "], **KINDS)[0]
    assert [photo.caption for photo in data.photos][1:] == [READ[1], None]
    assert "type what it is called there into trigger" not in caplog.text
    run(IMAGES, images=wired(), category="cat", captions=SAID, captions_are="plain text")
    assert "type what it is called there into trigger" in caplog.text


def test_of_one_photo_paragraphs_are_one_caption_and_two_captions_are_not(run):
    from attndreambooth.nodes.errors import NodeError

    values = {"images": wired(1), "category": "dog", **KINDS}
    data = run(IMAGES, **values, captions=["A puppy on a sofa.\n\nThe sofa is red."])[0]
    assert [photo.caption for photo in data.photos] == ["A {} on a sofa."]
    with pytest.raises(NodeError, match="captions has 2 lines, and there are 1 photos"):
        run(IMAGES, **values, captions=["a puppy", "a puppy on a sofa"])


def test_as_captions_of_ours_they_are_refused_with_the_remedy(run):
    from attndreambooth.nodes.errors import NodeError

    told = r"caption of image 1: 'a corgi dog on a sofa' needs \{\}.*captions_are to 'plain text'"
    with pytest.raises(NodeError, match=told):
        run(IMAGES, images=wired(), category="dog", captions=SAID)
    with pytest.raises(NodeError, match="captions_are = 'plain': choose one of text, plain text"):
        run(IMAGES, images=wired(), category="dog", captions=SAID, captions_are="plain")
