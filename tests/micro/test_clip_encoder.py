"""The micro CLIP as an encoder of any graph: the same scores as the toy model's own judge."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from attndreambooth.attndb.evaluation.scores import Reference, Sample, score
from attndreambooth.micro.clip_encoder import micro_clip_encoder
from attndreambooth.micro.concepts import CONCEPTS
from attndreambooth.micro.shipped import load_micro_clip
from attndreambooth.micro.text import CaptionEncoder


@pytest.fixture(scope="module")
def tokenizer(host):
    import comfy.sd1_clip
    from transformers import CLIPTokenizer

    folder = Path(comfy.sd1_clip.__file__).parent / "sd1_tokenizer"
    return CLIPTokenizer.from_pretrained(folder)


def pictures(name):
    return torch.from_numpy(np.stack([photo.picture for photo, _ in CONCEPTS[name].photos()]))


def test_scores_are_those_of_the_toy_models_own_judge(tokenizer):
    judge, encoder = load_micro_clip(CaptionEncoder(tokenizer)), micro_clip_encoder(tokenizer)
    photos, drawn = pictures("hatted-robot"), pictures("horned-car")
    text = "a photo of a robot in the snow"
    row = score(
        "row",
        [Sample(picture=picture / 255.0, text=text) for picture in drawn],
        Reference(photos=list(photos / 255.0)),
        [encoder],
    )
    assert row.value("identity") == pytest.approx(
        judge.identity(photos.numpy(), drawn.numpy()), abs=1e-5
    )
    assert row.value("text") == pytest.approx(judge.text(text, drawn.numpy()), abs=1e-5)


def test_a_subject_is_nearer_to_itself_than_to_others_in_any_size(tokenizer):
    encoder = micro_clip_encoder(tokenizer)
    photos = Reference(photos=list(pictures("hatted-robot") / 255.0))
    large = torch.nn.functional.interpolate(
        (pictures("hatted-robot") / 255.0).permute(0, 3, 1, 2), (224, 224), mode="bilinear"
    ).permute(0, 2, 3, 1)
    own = score("own", [Sample(picture=p) for p in large], photos, [encoder])
    other = [Sample(picture=p / 255.0) for p in pictures("horned-car")]
    assert own.value("identity") > score("other", other, photos, [encoder]).value("identity") + 0.2


def test_the_words_it_reads_are_those_it_was_trained_on(tokenizer):
    encoder = micro_clip_encoder(tokenizer)
    assert CaptionEncoder(tokenizer).vocabulary.tokens == encoder._model.vocabulary.tokens
    known, unknown = encoder.texts(["a robot, in the snow", "a zebra in the snow"])
    assert torch.allclose(known, encoder.texts(["a robot in the snow"])[0], atol=1e-6)
    assert torch.allclose(unknown, encoder.texts(["a sks in the snow"])[0], atol=1e-6)
