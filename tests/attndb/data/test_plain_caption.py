"""Datasets of kohya and OneTrainer: captions without {}, folders with repeats."""

from __future__ import annotations

import json
import logging

import pytest
from PIL import Image

from attndreambooth.attndb import __main__ as program
from attndreambooth.attndb.data.caption import captioned
from attndreambooth.attndb.data.dataset import ConceptDataset
from attndreambooth.attndb.data.folder import load_folder
from attndreambooth.attndb.data.photo import DatasetError
from attndreambooth.attndb.data.placeholder import default_placeholder, without_repeats
from attndreambooth.attndb.data.plain_caption import SubjectWords

PLAIN = {"captions": "plain text files"}


@pytest.mark.parametrize(
    ("text", "template"),
    [
        ("photo of sks dog on a sofa", "photo of {} on a sofa"),
        ("a dog on a sofa", "a {} on a sofa"),
        ("A Dog, sitting", "A {}, sitting"),
        ("SKS DOG", "{}"),
        ("sks dog and another dog", "{} and another dog"),
        ("a dog beside sks dog", "a dog beside {}"),
        ("a dog beside sks", "a {} beside sks"),
        ("sks on a sofa", "{} on a sofa"),
        ("sks dog asleep, sks dog's bed", "{} asleep, dog's bed"),
        ("sks, dog, sitting, sofa", "{}, sitting, sofa"),
        ("outdoors, sks dog, dog, grass", "outdoors, {}, grass"),
        ("sitting, dog, sks", "sitting, {}"),
        ("a hot-dog and two dogs, dogged", "{}, a hot-dog and two dogs, dogged"),
        ("sitting on a sofa", "{}, sitting on a sofa"),
        ("<my-dog> dog on a sofa", "{} on a sofa"),
        ("a <my-dog> on a sofa", "a {} on a sofa"),
        ("dog (puppy), tail \\(wagging\\)", "{} \\(puppy\\), tail \\(wagging\\)"),
    ],
)
def test_the_subject_s_words_become_the_place_for_it(text, template):
    words = SubjectWords("dog", "<my-dog>", "sks dog")
    assert words.template_of(text) == (template, not template.endswith(f"{{}}, {text}"))


@pytest.mark.parametrize(
    ("trigger", "text", "template"),
    [
        ("ohwx", "ohwx, dog, sitting, sofa", "{}, sitting, sofa"),
        ("ohwx", "photo of ohwx dog", "photo of {}"),
        ("ohwx", "photo of a dog, ohwx", "photo of a dog, {}"),
        ("ohwx", "ohwx sitting, a dog behind", "{} sitting, a dog behind"),
        ("rex, good boy", "good boy on a sofa", "{} on a sofa"),
        ("", "ohwx dog on a sofa", "ohwx {} on a sofa"),
        (" ", "a dog", "a {}"),
        ("dog", "a dog and a dog", "a {} and a dog"),
    ],
)
def test_the_trigger_is_what_another_trainer_was_told(trigger, text, template):
    assert SubjectWords("dog", "<x>", trigger).template_of(text) == (template, True)


def test_a_folder_s_own_words_are_the_trigger_and_common_words_of_it_are_no_subject():
    words = SubjectWords("bag")
    assert words.template_of("red bag on a red sofa", "10_red bag")[0] == "{} on a red sofa"
    assert words.template_of("a red sofa, a bag on it", "10_red bag")[0] == "a red sofa, a {} on it"
    assert words.template_of("ohwx bag", "bags")[0] == "ohwx {}"
    assert words.template_of("two bags", "3_bag") == ("{}, two bags", False)


def test_a_category_of_two_words_and_accents_are_found():
    words = SubjectWords("stuffed  animal", "<x>", "caf\u00e9 stuffed animal")
    assert words.template_of("a cafe\u0301 Stuffed Animal here")[0] == "a {} here"
    assert words.template_of("a stuffed animal here")[0] == "a {} here"
    assert SubjectWords("").template_of("a dog") == ("{}, a dog", False)


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ("10_sks dog", "sks dog"),
        ("5_dog", "dog"),
        ("sks dog", "sks dog"),
        ("2026", "2026"),
        ("2026_11", "2026_11"),
        ("10_", "10_"),
        ("a_10_dog", "a_10_dog"),
    ],
)
def test_repeats_are_no_part_of_a_name(folder, words):
    assert without_repeats(folder) == words


def test_a_placeholder_is_suggested_without_repeats_where_the_captions_are_plain():
    for path in ("10_sks dog", "/data/img/10_sks dog/", "C:\\img\\10_sks dog"):
        assert default_placeholder(path, plain=True) == "<my-sks-dog>"
    assert default_placeholder("10_sks dog") == "<my-10-sks-dog>"  # of what was trained so


@pytest.fixture
def folder(tmp_path):
    """As kohya's trainers have it."""
    folder = tmp_path / "10_sks dog"
    folder.mkdir()
    for number, name in enumerate("abcd"):
        Image.new("RGB", (64, 64), (50 * number, 0, 0)).save(folder / f"{name}.png")
    (folder / "a.txt").write_text("photo of sks dog on a sofa\nsecond variant of it\n")
    (folder / "b.txt").write_text("\n sks,  dog, grass ", encoding="utf-16")
    (folder / "c.txt").write_text("at night")
    return folder


def test_a_folder_of_kohya_is_read_and_the_log_says_how(folder, caplog):
    with caplog.at_level(logging.INFO):
        photos = load_folder(folder, **PLAIN, words=SubjectWords("dog", "<my-sks-dog>"))
    wanted = ["photo of {} on a sofa", "{}, grass", "{}, at night", None]
    assert [photo.caption for photo in photos] == wanted
    assert (
        "3 plain captions: {} for the subject's words in 2, e.g. a.txt: 'photo of {} on a sofa'; "
        "{} put in front of 1, e.g. c.txt: '{}, at night'" in caplog.text
    )
    assert "trigger" not in caplog.text
    data = ConceptDataset(photos, "dog", "<my-sks-dog>")
    assert data.prompts == (
        "photo of <my-sks-dog> dog on a sofa",
        "<my-sks-dog> dog, grass",
        "<my-sks-dog> dog, at night",
        "a photo of a <my-sks-dog> dog",
    )
    by_hand = captioned(load_folder(folder, skip_broken=True), [c or "" for c in wanted])
    assert data.digest == ConceptDataset(by_hand, "dog", "<my-sks-dog>").digest


def test_a_caption_of_ours_among_them_is_kept_and_two_places_are_an_error(folder):
    (folder / "c.txt").write_text("the {} (asleep)\nwith a dog")
    photos = load_folder(folder, **PLAIN, words=SubjectWords("dog"))
    assert photos[2].caption == "the {} (asleep) with a dog"
    (folder / "c.txt").write_text("{} and {}")
    (folder / "d.txt").write_text("x" * 1200)
    with pytest.raises(DatasetError, match=r"c\.txt: the caption '\{\} and \{\}'.*; d\.txt: the"):
        load_folder(folder, **PLAIN, words=SubjectWords("dog"))


def test_where_nothing_is_found_a_warning_asks_for_the_trigger(folder, caplog):
    load_folder(folder, **PLAIN, words=SubjectWords("cat", trigger="rex"))
    assert "no plain caption has the subject's words: type what it is called there" in caplog.text


def test_as_captions_of_ours_they_are_refused_with_the_remedy(folder):
    with pytest.raises(DatasetError, match=r"set captions to 'plain text files'"):
        load_folder(folder, captions="text files")
    with pytest.raises(DatasetError, match=r"\('plain text files' if it is another trainer's\)"):
        load_folder(folder)
    for path in folder.glob("*.txt"):
        path.unlink()
    with pytest.raises(DatasetError, match=r"captions is 'plain text files', and .* holds none"):
        load_folder(folder, **PLAIN, words=SubjectWords("dog"))


def test_kohya_s_own_ending_of_captions_is_named_with_the_remedy(folder):
    (folder / "d.caption").write_text("a dog")
    told = r"d\.caption is a caption as kohya names them: rename it d\.txt"
    with pytest.raises(DatasetError, match=told):
        load_folder(folder, **PLAIN, words=SubjectWords("dog"))


def test_inspect_tells_them_from_ours(folder, capsys):
    assert program.main(["inspect", "--json", str(folder)]) == 0
    facts = json.loads(capsys.readouterr().out)[0]["facts"]
    assert facts["captions_are"] == "plain text files" and facts["captions"]["c.png"] == "at night"
    (folder / "c.txt").write_text("a {}")
    assert program.main(["inspect", "--json", str(folder)]) == 2
    assert "captions_are" not in json.loads(capsys.readouterr().out)[0]["facts"]
