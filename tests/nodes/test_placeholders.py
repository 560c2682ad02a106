"""A placeholder is found where it stands as a word, however a person types it."""

from __future__ import annotations

import dataclasses
import unicodedata

import pytest
import torch
from support.stages import dataset, encode, refuses


@pytest.fixture
def knows(sd15, run, trained):
    """A CLIP that knows these placeholders, each with vectors of its own."""

    def make(*names: str):
        from attndreambooth.nodes.host.model.placeholders import apply_to_clip

        clip = sd15.clip
        for number, name in enumerate(names, start=1):
            vectors = trained.vectors + 0.1 * number
            concept = dataclasses.replace(trained, placeholder=name, vectors=vectors)
            clip = apply_to_clip(clip, concept)
        return clip

    return make


def same(clip, one: str, other: str) -> bool:
    return torch.equal(encode(clip, one), encode(clip, other))


@pytest.mark.parametrize("typed", ["<MY-ROBOT>", "<My-Robot>", "embedding:<my-robot>"])
def test_case_and_the_prompt_syntax_of_embeddings_do_not_matter(knows, sd15, typed):
    clip = knows("<my-robot>")
    assert same(clip, f"a photo of a {typed} robot", "a photo of a <my-robot> robot")
    assert same(clip, f"({typed} robot:1.2) at night", "(<my-robot> robot:1.2) at night")
    assert not same(clip, "a <my-robot> robot", "a robot")


@pytest.mark.parametrize(
    "typed", ["embedding:<my-robot>", "embedding: <my-robot>", "(embedding:<my-robot>:0.7)"]
)
def test_an_embedding_that_is_only_a_placeholder_is_encoded(knows, typed):
    encode(knows("<my-robot>"), typed)


def test_a_word_is_found_in_any_case(knows):
    clip = knows("sks1")
    assert same(clip, "a SKS1 dog", "a sks1 dog") and same(
        clip, "a embedding:sks1 dog", "a sks1 dog"
    )


def test_square_brackets_are_part_of_a_word(knows, sd15):
    clip = knows("[V]")
    assert same(clip, "a [v] dog", "a embedding:[V] dog")
    assert not same(clip, "a [V] dog", "a dog") and same(clip, "a [W] dog", "a [w] dog")
    assert torch.equal(encode(clip, "a [W] dog"), encode(sd15.clip, "a [W] dog"))


@pytest.mark.parametrize("name", ["<my-caf\u00e9>", "@caf\u00e9", "<my-\uac15\uc544\uc9c0>"])
def test_a_letter_and_its_accent_are_one_letter_however_they_are_written(knows, sd15, name):
    """A name that was copied from Finder comes in parts; CLIP reads both alike."""
    from attndreambooth.nodes.host.model.placeholders import known_placeholders

    parts = unicodedata.normalize("NFD", name)
    assert parts != name
    for known in (name, parts):
        clip = knows(known)
        assert same(clip, f"a {parts}, here", f"a {name}, here")
        text = f"a {parts} here"
        assert not torch.equal(encode(clip, text), encode(sd15.clip, text))
    assert len(known_placeholders(knows(name, parts))) == 1


def test_a_word_is_not_found_under_an_accent(knows, sd15):
    text = "a @cafe\u0301 here"
    assert torch.equal(encode(knows("@cafe"), text), encode(sd15.clip, text))


@pytest.mark.parametrize("text", ["a @dog2 here", "a @dogs here", "a @dog-2 here"])
def test_a_placeholder_does_not_eat_the_start_of_a_longer_word(knows, sd15, text):
    assert torch.equal(encode(knows("@dog"), text), encode(sd15.clip, text))


def test_a_longer_placeholder_is_itself_beside_a_shorter_one(knows):
    both = knows("@dog", "@dog2")
    assert same(both, "a @dog2.", "a @DOG2 .") and not same(both, "a @dog2", "a @dog")
    assert not same(both, "a @dog2", "a @dog 2")


def test_punctuation_may_follow_a_placeholder(knows):
    clip = knows("@dog", "<my-robot>")
    assert same(clip, "a @dog, sitting", "a @dog , sitting")
    assert same(clip, "a <my-robot>.", "a <my-robot> .")


def test_an_embedding_file_is_not_taken_for_a_placeholder(run, sd15, knows, trained, home):
    other = dataclasses.replace(trained, vectors=trained.vectors - 0.2)
    for name in ("sks1", "sks1.v2"):
        run("AttnDBSaveConcept", concept=other, name=name)
    clip = knows("sks1")
    for name in ("sks1", "sks1.v2"):
        text = f"a embedding:{name}, here"
        assert torch.equal(encode(clip, text), encode(sd15.clip, text))
    assert not same(clip, "a embedding:sks1, here", "a sks1, here")


def test_the_words_of_attention_maps_are_found_the_same_way(knows):
    from attndreambooth.nodes.host.capture.prompt import prompt_words

    words = prompt_words(knows("@dog"), "a @dog2 beside a @DOG dog")
    (place,) = words.find("@DOG#2")  # the first is plain text, and reads the same
    (after,) = words.find("dog#2")
    assert max(place.columns) + 1 == min(after.columns)
    assert [word.label for word in words.all()][-2:] == ["@DOG", "dog#2"]


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("a photo of a {}, embedding:style", "the embedding 'embedding:style'"),
        ("a photo of a {} beside a <robot> person", "the placeholder '<robot>'"),
        ("a photo of a {} beside a <ROBOT> person", "the placeholder '<ROBOT>'"),
        ("a photo of a {}, <astro>", "the placeholder '<astro>'"),
        ("a photo of a {}", "the placeholder 'zorb1'"),  # as its category
    ],
)
def test_a_template_with_other_vectors_is_refused_by_name(
    sd15, run, train, trained, home, output, template, told
):
    from attndreambooth.nodes.host.model.placeholders import apply_to_clip

    run("AttnDBSaveConcept", concept=trained, name="style")
    clip = sd15.clip
    for known in ("<robot>", "zorb1"):
        clip = apply_to_clip(clip, dataclasses.replace(trained, placeholder=known))
    data = dataset(
        run, template=template, category="zorb1" if told.endswith("zorb1'") else "person"
    )
    with refuses(rf"Stage 1.*template .*\) uses {told}"):
        train(1, type(sd15)(sd15.model, clip, sd15.vae), dataset=data)
    assert not list(output.rglob("*"))


@pytest.mark.parametrize(
    ("text", "spelt"),
    [
        ("a <X> b", "a  embedding:attndb-3c783e  b"),
        ("embedding:<x>", " embedding:attndb-3c783e "),
        ("embedding:file <x>", "embedding:file  embedding:attndb-3c783e "),
        ("embedding:file,<x>", "embedding:file, embedding:attndb-3c783e "),
        ("noembedding:<x>", "noembedding: embedding:attndb-3c783e "),
    ],
)
def test_a_prompt_is_spelt_out_for_the_host(host, text, spelt):
    from attndreambooth.nodes.host.model.placeholders import spell_out

    assert spell_out(text, {"<x>": None}, lambda name: name == "file") == spelt
