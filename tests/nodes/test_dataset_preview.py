"""Preview Dataset: a picture, a text and warnings, without touching a model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.stages import dataset as astronaut_dataset

PREVIEW = "AttnDBPreviewDataset"


@pytest.fixture(autouse=True)
def temp(host, tmp_path, monkeypatch):
    """The host's folder of preview pictures."""
    import folder_paths

    monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path / "temp"))
    return tmp_path / "temp"


@pytest.fixture(scope="module")
def micro(run):
    """The embedded model's CLIP, and photos with true masks."""
    with torch.inference_mode():
        return run("AttnDBLoadMicroModel")[1], *run("AttnDBMicroConcept", concept="hatted-robot")


def robot(run, micro, **changes):
    _, photos, category, masks = micro
    given = {"images": photos, "category": category, "placeholder": "<my-robot>", **changes}
    return run("AttnDBConceptDatasetFromImages", **given)[0], masks


def test_photos_words_and_tokens_are_shown(run, micro, temp):
    data, masks = robot(run, micro)
    picture, text = run(PREVIEW, dataset=data, clip=micro[0], resolution=64)
    assert picture.ndim == 4 and picture.shape[0] == 1 and picture.shape[3] == 3
    assert f"| [V] | {data.category} (category)" in text
    plain = run(PREVIEW, dataset=data, resolution=64)[1]
    assert f"   a photo of a <my-robot> {data.category}" in plain
    assert len(list(temp.glob("*.png"))) == 2
    masked, _ = robot(run, micro, masks=masks)
    assert ", subject " in run(PREVIEW, dataset=masked, resolution=64)[1]


def test_brackets_of_a_plain_caption_are_letters(run, micro):
    from attndreambooth.attndb.data.plain_caption import SubjectWords

    caption, _ = SubjectWords("robot").template_of("a robot (old), at night")
    photos = micro[1][:1]
    data = robot(run, (micro[0], photos, *micro[2:]), category="robot", captions=caption)[0]
    text = run(PREVIEW, dataset=data, clip=micro[0], resolution=64)[1]
    assert "a | [V] | robot (category) | (" in text and "\\" not in text


def test_the_page_shows_the_picture_and_the_text(run, micro, temp):
    from attndreambooth.nodes.dataset_preview import PreviewDataset

    schema = PreviewDataset.define_schema()
    assert schema.is_output_node
    given = {i.id: getattr(i, "default", None) for i in schema.inputs}
    defaults = {name: value for name, value in given.items() if value is not None}
    data, _ = robot(run, micro)
    result = PreviewDataset.execute(dataset=data, **{**defaults, "resolution": 64})
    [image] = result.ui["images"]
    assert (temp / image["filename"]).is_file() and image["type"] == "temp"
    assert result.ui["text"] == (result.args[1],)


def test_options_change_what_is_shown(run, micro):
    data, _ = robot(run, micro)
    still = run("AttnDBTrainingOptions", max_angle=0.0, flip=False)[0]
    text = run(PREVIEW, dataset=data, resolution=64, options=still)[1]
    assert "not turned, not mirrored" in text and ": turned" not in text
    keep = run("AttnDBTrainingOptions", keep_subject=True)[0]
    text = run(PREVIEW, dataset=data, resolution=64, options=keep)[1]
    assert "! keep_subject is on, and no photo has a mask" in text


def test_warnings_stand_in_the_log_too(run, micro, caplog):
    data, _ = robot(run, micro, images=micro[1][:1])
    text = run(PREVIEW, dataset=data, resolution=256)[1]
    for told in ("one photo: what surrounds", "smaller than the crops of 256 px"):
        assert f"! {told}" in text and told in caplog.text


def test_the_tokens_are_those_of_the_host_s_tokenizer(run, sd15, temp):
    from attndreambooth.attndb.data.dataset import ConceptDataset

    photos = astronaut_dataset(run).photos
    data = ConceptDataset(photos, "stuffed animal", "<astro>", "a photo of a {}, smiling")
    before = sd15.clip.tokenizer
    text = run(PREVIEW, dataset=data, clip=sd15.clip, resolution=64)[1]
    assert "a | photo | of | a | [V] | stuffed | animal (category) | , | smiling" in text
    text = run(PREVIEW, dataset=data, clip=sd15.clip, resolution=64, category_tie="first token")[1]
    assert "stuffed (category) | animal |" in text
    assert sd15.clip.tokenizer is before


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"category": "dog", "placeholder": "<x>", "template": "a {}" + " very" * 90}, "one CLIP"),
        ({"category": "dog", "placeholder": "<x>", "template": "(a:1.2) {}"}, "prompt weights"),
    ],
)
def test_what_could_not_be_trained_is_refused_here_already(run, sd15, words, told):
    from attndreambooth.attndb.data.dataset import ConceptDataset
    from attndreambooth.nodes.errors import NodeError

    data = ConceptDataset(astronaut_dataset(run).photos, **words)
    with pytest.raises(NodeError) as caught:
        run(PREVIEW, dataset=data, clip=sd15.clip, resolution=64)
    assert str(caught.value).startswith("Preview Dataset: ") and told in str(caught.value)


def test_a_private_dataset_leaves_no_file_but_the_preview(run, micro, temp, output):
    data, _ = robot(run, micro, private=True)
    run(PREVIEW, dataset=data, resolution=64)
    assert [path.suffix for path in Path(temp).iterdir()] == [".png"]
    assert not output.exists()
