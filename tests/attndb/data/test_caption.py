"""Captions: text files in any encoding, lines of a text, and which prompt a sample gets."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from attndreambooth.attndb.config.data import DataConfig
from attndreambooth.attndb.config.optimizer import OptimizerConfig
from attndreambooth.attndb.config.stage import StageConfig
from attndreambooth.attndb.data.caption import captioned, read_caption
from attndreambooth.attndb.data.dataset import ConceptDataset
from attndreambooth.attndb.data.folder import load_folder
from attndreambooth.attndb.data.photo import DatasetError
from attndreambooth.attndb.data.photo_batches import PhotoBatches
from attndreambooth.attndb.data.photo_file import photos_from_arrays
from attndreambooth.devkit.tiny_model import prompt_of


def photos(count=3):
    return photos_from_arrays([np.full((64, 64, 3), 0.2 * i) for i in range(count)])


def folder_of(tmp_path, **texts):
    """Photos a.png and b.png, and text files by name."""
    for number, name in enumerate("ab"):
        Image.new("RGB", (64, 64), (90 * number, 0, 0)).save(tmp_path / f"{name}.png")
    for name, content in texts.items():
        content = content.encode() if isinstance(content, str) else content
        (tmp_path / f"{name}.txt").write_bytes(content)
    return tmp_path


CAPTION = "a {} caf\xe9"
BOM = "\ufeff"


@pytest.mark.parametrize(
    "content",
    [
        CAPTION.encode("utf-8"),
        (BOM + CAPTION).encode("utf-8"),
        (BOM + CAPTION).encode("utf-16-le"),
        (BOM + CAPTION).encode("utf-16-be"),
        CAPTION.encode("utf-16-le"),
        CAPTION.encode("utf-16-be"),
        CAPTION.encode("latin-1"),
        b"  a {}\r\n\tcaf\xc3\xa9\r\n",
    ],
)
def test_a_caption_is_read_in_whatever_encoding_an_editor_wrote(tmp_path, content):
    (tmp_path / "a.txt").write_bytes(content)
    assert read_caption(tmp_path / "a.txt", "a.txt") == CAPTION


def test_quotes_of_windows_are_read():
    from attndreambooth.attndb.data.caption import decoded

    assert decoded(b"\x93{}\x94 \x96 caf\xe9") == "\u201c{}\u201d \u2013 caf\xe9"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "a.txt is empty"),
        (b" \r\n ", "a.txt is empty: write what is on the photo"),
        (b"a dog on a sofa", "a.txt: the caption 'a dog on a sofa' needs {} exactly once"),
        (b"{} and {}", "a.txt: the caption '{} and {}' needs {} exactly once"),
        (b"\xff\xfea", "a.txt is no text in UTF-16-LE: save it as UTF-8"),
        (b"\x00\x01\x02\x03{}", "a.txt is no text"),
        (b"\x89PNG\x1a {}", "a.txt is no text (it holds \\x1a): save it as UTF-8"),
        (b"{}" * 40_000, "a.txt has more than 64 kB"),
        (b"a {} " + b"x" * 2000, "2005 characters, and 1000 are the most"),
    ],
)
def test_a_text_that_is_no_caption_is_named_with_the_remedy(tmp_path, content, told):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(DatasetError) as caught:
        read_caption(tmp_path / "a.txt", "a.txt")
    assert told in str(caught.value) and str(caught.value).startswith("a.txt")


def test_text_files_are_captions_when_asked_for_and_named_when_not(tmp_path):
    folder = folder_of(tmp_path, a="a {} on a sofa")
    assert [p.caption for p in load_folder(folder, captions="text files")] == [
        "a {} on a sofa",
        None,
    ]
    with pytest.raises(DatasetError, match=r"a\.txt is the caption of a\.png: set captions to"):
        load_folder(folder)
    assert [p.caption for p in load_folder(folder, skip_broken=True)] == [None, None]


@pytest.mark.parametrize(
    ("photo", "text"), [("IMG_1.JPG", "img_1.txt"), ("cafe\u0301.png", "caf\u00e9.txt")]
)
def test_a_caption_is_found_where_other_systems_take_the_names_for_one(tmp_path, photo, text):
    Image.new("RGB", (40, 30)).save(tmp_path / photo)
    (tmp_path / text).write_text("a {} on a sofa")
    [found] = load_folder(tmp_path, captions="text files")
    assert found.caption == "a {} on a sofa"


def test_a_broken_caption_is_named_and_skipped_on_request(tmp_path, caplog):
    folder = folder_of(tmp_path, a="no place", b="a {} in bed")
    with pytest.raises(DatasetError, match=r"a\.txt: the caption 'no place' needs .*skip_broken"):
        load_folder(folder, captions="text files")
    found = load_folder(folder, captions="text files", skip_broken=True)
    assert [p.caption for p in found] == [None, "a {} in bed"]
    assert "skipped: a.txt: the caption 'no place'" in caplog.text


def test_a_text_of_no_photo_s_name_is_named(tmp_path):
    folder = folder_of(tmp_path, notes="a {}")
    with pytest.raises(DatasetError, match=r"notes\.txt is not an image, nor the caption of one"):
        load_folder(folder)
    with pytest.raises(DatasetError, match=r"captions is 'text files', and .* holds none"):
        load_folder(folder_of(tmp_path), captions="text files", skip_broken=True)


def test_files_whose_names_differ_only_in_case_are_told_apart_and_the_second_caption_is_told(
    tmp_path,
):
    (tmp_path / "probe").touch()
    if (tmp_path / "PROBE").exists():
        pytest.skip("one name here")
    (tmp_path / "probe").unlink()
    for name, colour in (("Dog.png", "red"), ("dog.png", "green"), ("dog.PNG", "blue")):
        Image.new("RGB", (40, 30), colour).save(tmp_path / name, "PNG")
    (tmp_path / "dog.txt").write_text("a {} below")
    (tmp_path / "dog.TXT").write_text("a {} above")
    (tmp_path / "Dog.txt").write_text("a {} beside")
    with pytest.raises(DatasetError, match=r"dog\.txt is a second caption beside dog\.TXT"):
        load_folder(tmp_path, captions="text files")
    found = load_folder(tmp_path, captions="text files", skip_broken=True)
    told = {photo.name: photo.caption for photo in found}
    assert told == {"Dog.png": "a {} beside", "dog.PNG": "a {} above", "dog.png": "a {} above"}
    assert list(told) == ["Dog.png", "dog.PNG", "dog.png"]


def test_lines_are_captions_one_for_each_photo():
    found = captioned(photos(), ["a {} here", "", " a  {} there "])
    assert [p.caption for p in found] == ["a {} here", None, "a {} there"]
    assert captioned(photos(), ["", ""]) == photos()
    assert [p.caption for p in captioned(photos(1), ["a {}", "", ""])] == ["a {}"]
    for lines in (["a {}"], ["a {}"] * 4):
        with pytest.raises(DatasetError, match=rf"captions has {len(lines)} lines.* 3 photos"):
            captioned(photos(), lines)
    with pytest.raises(DatasetError, match=r"caption of image 2: 'no place' needs \{\}"):
        ConceptDataset(captioned(photos(), ["", "no place", ""]), "dog", "<x>")


def test_captions_and_templates_are_part_of_what_a_dataset_is_known_by():
    plain = ConceptDataset(photos(), "dog", "<x>")
    captions = [
        replace(plain, photos=captioned(photos(), lines))
        for lines in (["a {}", "", ""], ["", "a {}", ""], ["a {}", "the {}", ""])
    ]
    several = [replace(plain, template=text) for text in ("a {}\nthe {}", "the {}\na {}")]
    assert len({data.digest for data in (plain, *captions, *several)}) == 6
    one_line = replace(plain, template=f"{plain.template}\n\n")
    assert one_line.digest == plain.digest and one_line.prompts == plain.prompts
    assert captions[2].prompts == ("a <x> dog", "the <x> dog", "a photo of a <x> dog")
    with pytest.raises(DatasetError, match="template 'one' needs"):
        replace(plain, template="a {}\none")
    with pytest.raises(DatasetError, match="201 lines, and 200"):
        replace(plain, template="a {}\n" * 201)


def batches(dataset):
    config = StageConfig(
        stage=2,
        steps=6,
        batch_size=4,
        optimizer=OptimizerConfig(learning_rate=1e-3),
        data=DataConfig(resolution=64, augmentation="none"),
    )
    prompts = [prompt_of(text=text) for text in dataset.prompts]
    encode = lambda pixels: pixels[:, ::8, ::8].permute(0, 3, 1, 2)  # noqa: E731
    return PhotoBatches(dataset, prompts, config, 1000, encode)


def drawn(dataset, steps=6):
    """(photo, prompt) of every sample."""
    source = batches(dataset)
    for step in range(steps):
        batch = source[step]
        for latent, prompt in zip(batch.latents, batch.prompts, strict=True):
            yield round(float(latent[0, 0, 0]) / 0.2), prompt.text


def test_every_sample_comes_with_its_own_photo_s_caption():
    data = ConceptDataset(captioned(photos(), ["red {}", "", "blue {}"]), "dog", "<x>", "a {}")
    wanted = {(0, "red <x> dog"), (1, "a <x> dog"), (2, "blue <x> dog")}
    assert set(drawn(data)) == wanted


def test_several_templates_come_equally_often_with_every_photo():
    data = ConceptDataset(photos(), "dog", "<x>", "a {}\nthe {}\nmy {}")
    samples = list(drawn(data))
    assert set(Counter(text for _, text in samples).values()) == {8}
    assert len(set(samples)) > 6, "templates and photos are shuffled apart"
    assert list(drawn(data)) == samples
    plain = batches(replace(data, template="a {}"))
    assert np.array_equal(batches(data)[3].noise, plain[3].noise)


def test_a_record_holds_captions_unless_it_is_private():
    [photo] = captioned(photos(1), ["a {} here"])
    assert photo.record(private=False)["caption"] == "a {} here"
    assert photo.record(private=True) == {"sha256": photo.digest}
    assert "caption" not in photos(1)[0].record(private=False)
