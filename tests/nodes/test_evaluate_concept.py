"""Evaluate Concept: the numbers are those of the pictures, the errors say why."""

from __future__ import annotations

import dataclasses
import re

import pytest
import torch
from support.encoders import dinov2_folder
from support.stages import refuses

EVALUATE, SCORE = "AttnDBEvaluateConcept", "AttnDBScoreImages"
SMALL = {"steps": 2, "cfg": 4.0, "width": 64, "height": 64, "cell_size": 64}
PROMPTS = "a photo of a {} in the snow\na sketch of a {} underwater"


@pytest.fixture(scope="module")
def micro(run):
    with torch.inference_mode():
        wires = run("AttnDBLoadMicroModel")[:3]
        return dict(zip(("model", "clip", "vae"), wires, strict=True))


@pytest.fixture(scope="module")
def concepts(run, micro, photos):
    """After stage 1, and after stage 2 without stage 1."""
    with torch.inference_mode():
        node = "AttnDBConceptDatasetFromImages"
        data = run(node, images=photos[0], category=photos[1], placeholder="<my-robot>")[0]
        values = {"steps": 2, "batch_size": 2, "resolution": 64, "dataset": data}
        names = ("AttnDBStage1LearnEmbedding", "AttnDBStage2TrainCrossAttention")
        return [run(name, **micro, **values, learning_rate=1e-2)[0] for name in names]


@pytest.fixture
def evaluated(run, micro, photos, encoder, concepts):
    def evaluate(**changes):
        values = {
            "concepts": {"concept_0": concepts},
            "encoders": {"encoder_0": encoder},
            "photos": photos[0],
            "prompts": PROMPTS,
            **SMALL,
            **changes,
        }
        return run(EVALUATE, **micro, **values)

    return evaluate


def test_rows_are_before_and_after_and_the_numbers_are_those_of_the_pictures(
    run, evaluated, photos, encoder, concepts
):
    grid, table, best, scores, pictures = evaluated(images_per_prompt=2, seed=3)
    assert [row.label for row in scores] == ["before training", "after stage 1", "after stage 2"]
    assert [row.pictures for row in scores] == [4, 4, 4] and len(pictures) == 12
    lines = [line for line in PROMPTS.splitlines() for _ in range(2)]
    for number, row in enumerate(scores):
        own = pictures[4 * number : 4 * number + 4]
        [_, _, identity, text] = run(
            SCORE,
            encoders={"encoder_0": encoder},
            images=own,
            photos=photos[0],
            prompt="\n".join(lines),
            category="robot",
        )
        assert row.value("identity") == pytest.approx(identity, abs=1e-6)
        assert row.value("text") == pytest.approx(text, abs=1e-6)
    assert len({row.value("identity") for row in scores}) == 3
    assert scores[0].attention is None and 0.0 <= scores[1].attention <= 1.0
    assert scores[0].value("outdoes") == pytest.approx(0.5)  # of each two, one outdoes the other
    assert "| before training | 4 |" in table and "Best by identity and text: after" in table
    assert best in concepts
    assert re.search(r"ahead of that: identity in \d of 4, text in \d of 4\.", table)
    assert grid.shape[0] == 1 and grid.shape[1] > 3 * 64 and grid.shape[2] > 3 * 64


def test_a_picture_is_what_compare_concepts_draws(run, micro, evaluated, concepts):
    *_, pictures = evaluated(seed=5, before_training=False)
    _, theirs = run(
        "AttnDBCompareConcepts",
        **micro,
        concepts={"concept_0": concepts},
        prompts=PROMPTS,
        seed=5,
        before_training=False,
        **SMALL,
    )
    ours = [pictures[0], pictures[2], pictures[1], pictures[3]]  # theirs: prompt by prompt
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_the_best_is_the_concept_with_the_highest_score(evaluated, concepts):
    for by in ("identity", "text"):
        _, _, best, scores, _ = evaluated(best_by=by)
        values = [row.value(by) for row in scores[1:]]
        assert best is concepts[values.index(max(values))]


def test_without_a_row_before_training_presence_is_not_measured(evaluated):
    _, table, _, scores, _ = evaluated(before_training=False)
    assert scores[0].value("present") is None and "present" not in table


def test_masks_of_the_photos_add_the_foreground_as_mask_subject_sees_it_on_the_pictures(
    run, evaluated, micro, photos, encoder, monkeypatch
):
    from attndreambooth.attndb.evaluation import metrics

    scored, plain = [], metrics.foreground
    monkeypatch.setattr(
        metrics, "foreground", lambda picture, mask: scored.append(mask) or plain(picture, mask)
    )
    *_, scores, pictures = evaluated(masks=photos[2])
    assert all(row.value("foreground") is not None for row in scores)
    assert scores[1].value("foreground") != scores[1].value("identity")
    [masks] = run("AttnDBMaskSubject", **micro, images=pictures, category=photos[1])
    used = [mask for mask in scored if mask.shape == (64, 64)]
    assert len(used) == len(masks) == 6
    assert all(torch.equal(ours, theirs[0]) for ours, theirs in zip(used, masks, strict=True))
    for number, row in enumerate(scores):
        own = slice(2 * number, 2 * number + 2)
        values = {"images": pictures[own], "masks": masks[own], "prompt": ""}
        given = {"photos": photos[0], "photo_masks": photos[2], "category": "robot"}
        [_, [theirs], *_] = run(SCORE, encoders={"encoder_0": encoder}, **values, **given)
        assert row.value("foreground") == pytest.approx(theirs.value("foreground"), abs=1e-6)


def test_a_concept_is_put_on_the_model_once(evaluated, concepts, monkeypatch):
    from attndreambooth.nodes import columns

    put = {"apply_to_model": [], "corrected_clip": []}
    for name, done in put.items():
        plain = getattr(columns, name)
        monkeypatch.setattr(columns, name, lambda *a, d=done, p=plain: d.append(a[1]) or p(*a))
    evaluated(prompts="a photo of a {}")
    assert all(done == concepts for done in put.values())


def test_a_text_is_encoded_once_for_all_pictures_and_masks(evaluated, photos, monkeypatch):
    import comfy.sd

    read, encoded, of = [], [], comfy.sd.CLIP
    tokenize, encode = of.tokenize, of.encode_from_tokens_scheduled
    monkeypatch.setattr(of, "tokenize", lambda *a, **k: read.append(a[1]) or tokenize(*a, **k))
    monkeypatch.setattr(
        of, "encode_from_tokens_scheduled", lambda *a: encoded.append(read[-1]) or encode(*a)
    )
    evaluated(images_per_prompt=2, negative="dark", masks=photos[2])
    words = ["robot", "<my-robot> robot", "<my-robot> robot"]  # by column
    drawn = [line.replace("{}", word) for word in words for line in PROMPTS.splitlines()]
    looked_for = ["a photo of a robot", ""]
    assert sorted(encoded) == sorted([*drawn, *["dark"] * len(words), *looked_for])


def test_maps_are_captured_where_they_are_compared_and_pictures_are_the_same(
    evaluated, concepts, monkeypatch
):
    """Not before training, nor of a prompt that lacks the word or its category."""
    from attndreambooth.nodes import columns
    from attndreambooth.nodes.host.capture import drawn_figure as module

    words = {"stages": [{"method": "textual_inversion", "words": {"with_category": False}}]}
    asked = {"concepts": {"concept_0": [*concepts, concepts[0].with_record(words)]}}
    asked["prompts"] = f"{PROMPTS}\na {{}} beside a robot"
    captured, plain = [], module.capture_model
    monkeypatch.setattr(
        module, "capture_model", lambda *a: captured.append(a[1].prompt) or plain(*a)
    )
    *_, scores, pictures = evaluated(**asked)
    said = [line.replace("{}", "<my-robot> robot") for line in asked["prompts"].splitlines()]
    assert captured == [*said, *said, "a <my-robot> beside a robot"]
    known = [row.attention is not None for row in scores]
    assert known == [False, True, True, True] and len(pictures) == 4 * 3
    draw = columns.drawn_figure
    monkeypatch.setattr(columns, "drawn_figure", lambda *a: draw(*a[:6]))  # all are captured
    *_, again, theirs = evaluated(**asked)
    assert len(captured) == 7 + 4 * 3
    assert all(torch.equal(a, b) for a, b in zip(pictures, theirs, strict=True))
    assert [row.attention for row in again] == [row.attention for row in scores]


def test_a_picture_without_numbers_is_refused_whether_its_maps_are_captured_or_not(
    evaluated, monkeypatch
):
    from attndreambooth.nodes.host.capture import drawn_figure as module

    plain = module.sampled
    monkeypatch.setattr(module, "sampled", lambda *a: plain(*a) * float("nan"))
    for before in (True, False):
        with refuses("picture 1 of samples holds NaN, which decodes to black"):
            evaluated(before_training=before)


def test_the_same_concept_twice_is_drawn_once_and_said(evaluated, concepts, monkeypatch):
    from attndreambooth.nodes import columns

    drawn, plain = [], columns.drawn_figure
    monkeypatch.setattr(columns, "drawn_figure", lambda *a, **k: drawn.append(1) or plain(*a, **k))
    twice = {"concept_0": concepts[0], "concept_1": dataclasses.replace(concepts[0])}
    _, table, best, scores, _ = evaluated(concepts=twice, labels="base\none\ntwo")
    assert len(drawn) == 4 and best is concepts[0]
    assert scores[1].by_encoder == scores[2].by_encoder
    assert "- two: the very same concept as one; it was drawn once" in table


def test_strengths_are_rows_and_the_best_is_told_with_its_own(evaluated, concepts):
    asked = {"concepts": {"concept_0": concepts[1]}, "strengths": "1.0, 0.6"}
    _, table, best, scores, pictures = evaluated(**asked)
    ways = [f"after stage 2, strength {n}" for n in ("1", "0.6")]
    assert [row.label for row in scores] == ["before training", *ways]
    assert best is concepts[1] and not any(row.notes for row in scores)
    assert not torch.equal(pictures[2], pictures[4])
    [verdict] = [line for line in table.splitlines() if line.startswith("Best by")]
    assert all(way in verdict for way in ways)
    [*_, alone] = evaluated(**{**asked, "strengths": "0.6"}, before_training=False)
    assert torch.equal(alone[0], pictures[4])


def test_a_strength_says_nothing_of_a_concept_without_weights(evaluated, concepts, monkeypatch):
    from attndreambooth.nodes import columns

    drawn, plain = [], columns.drawn_figure
    monkeypatch.setattr(columns, "drawn_figure", lambda *a, **k: drawn.append(1) or plain(*a, **k))
    one = {"concept_0": concepts[0]}
    *_, scores, _ = evaluated(concepts=one, strengths="1, 0.6", before_training=False)
    assert len(drawn) == 2 and scores[0].by_encoder == scores[1].by_encoder
    [note] = scores[1].notes
    assert note == (
        "the very same concept as after stage 1, strength 1, of which no weight was trained, so "
        "that a strength says nothing; it was drawn once"
    )


def test_a_negative_is_of_every_row(evaluated):
    one = {"prompts": "a photo of a {} in the snow"}
    pictures = [evaluated(**one, negative=text)[-1] for text in ("", "a sketch of a {}")]
    assert not any(torch.equal(a, b) for a, b in zip(*pictures, strict=True))


def test_concepts_of_two_categories_are_told_apart(evaluated, concepts):
    other = dataclasses.replace(concepts[0], category="cat")
    given = {"concept_0": concepts[0], "concept_1": other}
    *_, scores, _ = evaluated(concepts=given, labels="base\none\ntwo", prompts="a photo of a {}")
    assert not scores[0].notes and not scores[1].notes
    assert scores[2].notes[0].startswith("its category is cat, that of base robot: text and")


def test_photos_of_several_sizes_and_one_photo_are_enough(evaluated, photos):
    wide = torch.cat([photos[0][:1], photos[0][:1]], dim=2)
    *_, scores, _ = evaluated(photos=[photos[0][:1], wide], prompts="a photo of a {}")
    assert scores[1].value("identity") is not None
    *_, scores, _ = evaluated(photos=photos[0][:1], prompts="a photo of a {}")
    assert scores[1].value("identity") == scores[1].value("best photo")


def test_two_encoders_stand_side_by_side(evaluated, encoder, run, tmp_path, monkeypatch):
    import folder_paths

    monkeypatch.setattr(folder_paths, "models_dir", str(tmp_path))
    dinov2_folder(tmp_path / "dinov2-tiny")
    dino = run("AttnDBLoadImageEncoder", folder="dinov2-tiny")[0]
    _, table, _, scores, _ = evaluated(
        encoders={"encoder_0": dino, "encoder_1": encoder}, prompts="a photo of a {}"
    )
    assert list(scores[0].by_encoder) == ["dinov2-tiny", "micro CLIP"]
    assert "dinov2-tiny: identity" in table and "micro CLIP: text" in table
    with refuses("needs an encoder that reads texts"):
        evaluated(encoders={"encoder_0": dino})
    *_, scores, _ = evaluated(
        encoders={"encoder_0": dino}, best_by="identity", prompts="a photo of a {}"
    )
    assert scores[0].value("text") is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"concepts": {}}, "Evaluate Concept: there is no concept: connect"),
        ({"encoders": {}}, "Evaluate Concept: there is no encoder: connect Load Image Encoder"),
        ({"prompts": "a robot"}, re.escape("prompt 'a robot' needs {} exactly once")),
        ({"photos": []}, "there is no photo of the subject"),
        ({"masks": torch.ones(2, 64, 64)}, "2 masks for 5 photos"),
        ({"seed": [1, 2]}, "seed is a list"),
        ({"strengths": "much"}, "Evaluate Concept: strengths: 'much' is no number from 0 to 10"),
        ({"strengths": "1 2 3 4 5 6 7"}, "7 ways to draw each of 2 concepts are 14 columns"),
        ({"images_per_prompt": 0}, "images_per_prompt = 0: use 1 or more"),
        ({"width": 0}, "width = 0: use 8 pixels or more"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(evaluated, changes, said):
    with refuses(said):
        evaluated(**changes)


def test_a_concept_of_another_model_is_refused_before_the_others_are_drawn(
    evaluated, concepts, monkeypatch
):
    from attndreambooth.nodes import columns

    def drawn(*_):
        raise AssertionError("hours of pictures would be lost")

    monkeypatch.setattr(columns, "drawn_figure", drawn)
    other = dataclasses.replace(concepts[1], base_family="SD 1.5")
    with refuses("Evaluate Concept: .* was trained for SD 1.5, and this MODEL is"):
        evaluated(concepts={"concept_0": [*concepts, other]})


def test_a_category_that_no_mask_can_be_made_for_is_refused_before_anything_is_drawn(
    evaluated, concepts, photos, monkeypatch
):
    from attndreambooth.nodes import evaluation

    monkeypatch.setattr(evaluation, "draw", lambda *_: pytest.fail("drawn for nothing"))
    odd = dataclasses.replace(concepts[0], category="robot #2")
    with refuses("robot #2"):
        evaluated(concepts={"concept_0": [odd]}, masks=photos[2])
