"""Words of models with several text encoders: those of the tokens that a picture attends to."""

from __future__ import annotations

from types import SimpleNamespace


def test_words_of_flux_are_those_of_t5(host):
    """Its CLIP gives one pooled state alone: the picture attends to T5's tokens."""
    from comfy.text_encoders.flux import FluxTokenizer

    from attndreambooth.nodes.host.capture.prompt import prompt_words

    tokenizer = FluxTokenizer()
    clip = SimpleNamespace(tokenizer=tokenizer, tokenize=tokenizer.tokenize_with_weights)
    text = "a photo of a guinea pig, wearing sunglasses"
    ids = [token for token, _ in tokenizer.tokenize_with_weights(text)["t5xxl"][0]]
    words = prompt_words(clip, text)
    labels = [word.label for word in words.all()]
    assert labels == ["a#1", "photo", "of", "a#2", "guinea", "pig", "wearing", "sunglasses"]
    pieces = tokenizer.t5xxl.inv_vocab
    for word in words.choose(["sunglasses", "guinea pig"]):
        read = "".join(pieces[int(ids[column])] for column in word.columns)
        assert read.replace("\u2581", " ").strip() == word.label


def test_accents_are_read_of_t5_as_they_are(host):
    from comfy.text_encoders.flux import FluxTokenizer

    from attndreambooth.nodes.host.capture.prompt import prompt_words

    tokenizer = FluxTokenizer()
    clip = SimpleNamespace(tokenizer=tokenizer, tokenize=tokenizer.tokenize_with_weights)
    words = prompt_words(clip, "ein caf\u00e9 f\u00fcr Katzen")
    assert [word.label for word in words.all()] == ["ein", "caf\u00e9", "f\u00fcr", "Katzen"]
    assert words.find("cafe\u0301")[0].columns == words.find("caf\u00e9")[0].columns


def test_words_of_sd3_are_those_of_clip_where_it_has_one(host):
    from comfy.text_encoders.sd3_clip import SD3Tokenizer

    from attndreambooth.nodes.host.capture.prompt import prompt_words

    tokenizer = SD3Tokenizer()
    columns = {}
    for name, encoder in (("clip", object()), ("t5 alone", None)):
        clip = SimpleNamespace(
            tokenizer=tokenizer,
            tokenize=tokenizer.tokenize_with_weights,
            cond_stage_model=SimpleNamespace(clip_l=encoder, clip_g=None, t5xxl=object()),
        )
        columns[name] = prompt_words(clip, "the cat").choose(["cat"])[0].columns
    assert columns == {"clip": (2,), "t5 alone": (1,)}


def test_a_mark_parts_words_of_t5_as_it_does_those_of_clip(host):
    """Its pieces say where a word begins behind a space alone."""
    from comfy.text_encoders.flux import FluxTokenizer

    from attndreambooth.nodes.host.capture.prompt import prompt_words

    tokenizer = FluxTokenizer()
    clip = SimpleNamespace(tokenizer=tokenizer, tokenize=tokenizer.tokenize_with_weights)
    labels = {
        text: [word.label for word in prompt_words(clip, text).all()]
        for text in ('a cat,dog "in" a hat', "the cat's hat, don't", "a red-haired (woman:1.2)")
    }
    assert labels == {
        'a cat,dog "in" a hat': ["a#1", "cat", "dog", "in", "a#2", "hat"],
        "the cat's hat, don't": ["the", "cat", "'s", "hat", "don", "'t"],
        "a red-haired (woman:1.2)": ["a", "red", "haired", "woman"],
    }
    words = prompt_words(clip, "a red-haired, t-shirt woman")
    assert len(words.find("t-shirt")) == len(words.find("shirt")) == 1
