"""Metrics and scores against loops; what cannot be measured is a blank, not a zero division."""

from __future__ import annotations

import math

import pytest
import torch

from attndreambooth.attndb.evaluation import metrics
from attndreambooth.attndb.evaluation.encoder import Features, FeatureStore
from attndreambooth.attndb.evaluation.score_table import best_row, merit, score_table, won
from attndreambooth.attndb.evaluation.scores import Reference, Sample, Scores, score


class Colours:
    """Mean colour of a picture, and of the letters of a text: what a person can compute."""

    name, key, batch, reads_text = "colours", "colours", 2, True

    def __init__(self, name="colours", reads_text=True):
        self.name = self.key = name
        self.reads_text = reads_text
        self.calls = []

    def images(self, pictures):
        self.calls.append(len(pictures))
        return torch.stack([picture.mean(dim=(0, 1)) for picture in pictures])

    def texts(self, texts):
        self.calls.append(len(texts))
        return torch.tensor([[t.count("r"), t.count("g"), t.count("b")] for t in texts]).float()


def plain(r, g, b, height=8, width=8):
    return torch.tensor([r, g, b]).expand(height, width, 3).clone()


def cosine(a, b):
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / (math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(y * y for y in b)))


PHOTOS = [(0.9, 0.1, 0.2), (0.7, 0.3, 0.1), (0.5, 0.5, 0.5)]
DRAWN = [(0.8, 0.2, 0.1), (0.1, 0.9, 0.3)]


@pytest.fixture
def encoder(request):
    return Colours(request.node.name)  # a key of its own: nothing is kept from another test


def scored(encoder, samples, photos=PHOTOS, masks=(), **changes):
    photos = [plain(*photo) for photo in photos]
    return score("row", samples, Reference(photos=photos, masks=masks), [encoder], **changes)


def samples(**changes):
    return [Sample(picture=plain(*colour), **changes) for colour in DRAWN]


def test_identity_is_the_mean_cosine_of_all_pairs(encoder):
    row = scored(encoder, samples())
    pairs = [cosine(d, p) for d in DRAWN for p in PHOTOS]
    best = [max(cosine(d, p) for p in PHOTOS) for d in DRAWN]
    assert row.value("identity") == pytest.approx(sum(pairs) / len(pairs), abs=1e-6)
    assert row.value("best photo") == pytest.approx(sum(best) / len(best), abs=1e-6)
    assert row.pictures == 2


def test_text_is_the_mean_cosine_with_each_pictures_own_text(encoder):
    texts = ["rrg", "gb"]
    given = [
        Sample(picture=plain(*colour), text=text, context=text[-1:])
        for colour, text in zip(DRAWN, texts, strict=True)
    ]
    row = scored(encoder, given)
    vectors = [(2, 1, 0), (0, 1, 1)]
    expected = [cosine(d, v) for d, v in zip(DRAWN, vectors, strict=True)]
    assert row.value("text") == pytest.approx(sum(expected) / 2, abs=1e-6)
    context = [cosine(d, v) for d, v in zip(DRAWN, [(0, 1, 0), (0, 0, 1)], strict=True)]
    assert row.value("context") == pytest.approx(sum(context) / 2, abs=1e-6)


def test_a_picture_without_a_text_does_not_count_in_the_score_of_text(encoder):
    given = [Sample(picture=plain(*DRAWN[0]), text="r"), Sample(picture=plain(*DRAWN[1]))]
    assert scored(encoder, given).value("text") == pytest.approx(cosine(DRAWN[0], (1, 0, 0)))
    assert scored(encoder, given).value("context") is None


def test_an_encoder_without_texts_leaves_their_scores_blank(request):
    row = scored(Colours(request.node.name, reads_text=False), samples(text="r", context="g"))
    assert row.value("text") is None and row.value("context") is None


def test_the_foreground_alone_is_compared_where_masks_say_it(encoder):
    picture, mask = plain(0.0, 0.0, 1.0), torch.zeros(8, 8)
    picture[:4], mask[:4] = torch.tensor([0.9, 0.1, 0.1]), 1.0
    photo, whole = plain(0.9, 0.1, 0.1), torch.ones(8, 8)
    row = scored(encoder, [Sample(picture=picture, mask=mask)], [(0.9, 0.1, 0.1)], [whole])
    mean = [(0.9 + 0.5) / 2, (0.1 + 0.5) / 2, (0.1 + 0.5) / 2]
    assert row.value("foreground") == pytest.approx(cosine(mean, photo[0, 0].tolist()), abs=1e-6)
    assert row.value("foreground") > row.value("identity")


def test_a_mask_of_another_size_is_brought_to_the_picture(encoder):
    cut = metrics.foreground(plain(1.0, 0.0, 0.0, 16, 24), torch.ones(8, 8))
    assert cut.shape == (16, 24, 3) and torch.allclose(cut, plain(1.0, 0.0, 0.0, 16, 24))


def test_an_empty_mask_is_no_foreground(encoder):
    assert metrics.foreground(plain(1.0, 0.0, 0.0), torch.zeros(8, 8)) is None
    row = scored(encoder, samples(mask=torch.zeros(8, 8)), masks=[torch.ones(8, 8)] * 3)
    assert row.value("foreground") is None


def test_presence_is_counted_against_others_in_the_same_scene(encoder):
    others = {1: [plain(0.1, 0.1, 0.9), plain(0.9, 0.2, 0.2)], 2: [plain(0.1, 0.2, 0.9)]}
    given = [
        Sample(picture=plain(0.6, 0.3, 0.2), scene=1),
        Sample(picture=plain(0.9, 0.2, 0.2), scene=2),
        Sample(picture=plain(0.9, 0.2, 0.2), scene=3),  # nothing to compare with
    ]
    row = scored(encoder, given, [(0.9, 0.2, 0.2)], distractors=others)
    assert row.value("outdoes") == pytest.approx((0.5 + 1.0) / 2)
    assert row.value("present") == pytest.approx(0.5)


def test_a_picture_is_no_distractor_of_itself(encoder):
    given = samples(scene=0)
    own = {0: [sample.picture for sample in given]}
    row = scored(encoder, given, [(0.9, 0.1, 0.2)], distractors=own)
    assert row.value("outdoes") == pytest.approx(0.5)  # one outdoes the other
    alone = scored(encoder, given[:1], distractors={0: [given[0].picture]})
    assert alone.value("outdoes") is None and alone.value("present") is None


def test_an_equal_distractor_counts_half():
    assert metrics.outdone(0.5, [0.5, 0.4]) == 0.75
    assert metrics.outdone(0.5, []) is None


def test_one_photo_and_one_picture_are_enough(encoder):
    row = scored(encoder, samples()[:1], PHOTOS[:1])
    assert row.value("identity") == row.value("best photo")


def test_black_pictures_have_no_direction_and_divide_nothing(encoder):
    row = scored(encoder, [Sample(picture=plain(0.0, 0.0, 0.0), text="r")])
    assert row.value("identity") == 0.0 and row.value("text") == 0.0


def test_pictures_of_different_sizes_are_scored_together(encoder):
    given = [Sample(picture=plain(*DRAWN[0], 8, 20)), Sample(picture=plain(*DRAWN[0], 30, 5))]
    assert scored(encoder, given).pictures == 2


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"samples": []}, "there is no image to score"),
        ({"encoders": []}, "there is no encoder: connect Load Image Encoder"),
    ],
)
def test_nothing_to_score_is_said(encoder, values, said):
    given = {"samples": samples(), "encoders": [encoder], **values}
    reference = Reference(photos=[plain(*PHOTOS[0])])
    with pytest.raises(ValueError, match=said):
        score("row", given["samples"], reference, given["encoders"])


def test_photos_that_are_missing_or_lack_masks_are_said():
    with pytest.raises(ValueError, match="there is no photo of the subject"):
        Reference(photos=[])
    with pytest.raises(ValueError, match="1 masks for 2 photos"):
        Reference(photos=[plain(1.0, 0.0, 0.0)] * 2, masks=[torch.ones(8, 8)])


def test_what_was_encoded_once_is_not_encoded_again_and_batches_are_kept(encoder):
    features = Features(encoder, FeatureStore())
    pictures = [plain(*colour) for colour in (*PHOTOS, *DRAWN)]
    first = features.pictures([*pictures, pictures[0]])
    assert encoder.calls == [2, 2, 1]
    assert torch.equal(features.pictures(pictures), first[:5])
    assert encoder.calls == [2, 2, 1]
    changed = pictures[0].clone()
    changed[0, 0, 0] += 0.01
    features.pictures([changed])
    assert encoder.calls == [2, 2, 1, 1]


def test_a_store_forgets_what_was_not_asked_for_longest():
    store = FeatureStore(most=2)
    for name in "abc":
        store.put(("e", name), torch.zeros(1))
        store.get(("e", "a"))
    assert store.get(("e", "b")) is None and store.get(("e", "a")) is not None


def test_numbers_that_are_not_finite_are_refused(encoder):
    encoder.images = lambda pictures: torch.full((len(pictures), 3), math.nan)
    with pytest.raises(ValueError, match="numbers that are not finite"):
        scored(encoder, samples())


@pytest.mark.parametrize(
    "picture", [torch.zeros(0, 8, 3), plain(0.1, math.nan, 0.2), plain(0.1, math.inf, 0.2)]
)
def test_a_picture_that_is_none_is_named(encoder, picture):
    with pytest.raises(ValueError, match="image 3 of 3 is empty, or holds values that are no"):
        scored(encoder, [*samples(), Sample(picture=picture)])


def test_a_photo_that_is_none_is_no_image_to_its_user(encoder):
    broken = (0.1, math.nan, 0.2)
    with pytest.raises(ValueError, match="photo 2 of 2 is empty, or holds values that are no"):
        scored(encoder, samples(), photos=[*PHOTOS[:1], broken])
    others = {None: [plain(*broken)]}
    with pytest.raises(ValueError, match="distractor 1 of 1 is empty"):
        scored(encoder, samples(), distractors=others)


def row(label, identity, text, **more):
    return Scores(
        label=label, pictures=4, by_encoder={"e": {"identity": identity, "text": text}}, **more
    )


def test_the_table_names_its_columns_and_marks_the_best():
    text = score_table([row("a | b", 0.8, 0.2), row("c", 0.6, 0.3, notes=("as before",))])
    lines = text.splitlines()
    assert lines[0] == "|  | pictures | identity | text |"
    assert lines[2] == "| a \\| b | 4 | **0.800** | 0.200 |"
    assert lines[3] == "| c | 4 | 0.600 | **0.300** |"
    assert lines[-1] == "- c: as before"


def test_equal_rows_have_no_best_and_blanks_are_dashes():
    lines = score_table([row("a", 0.8, 0.2), row("b", 0.8, None)]).splitlines()
    assert lines[2:4] == ["| a | 4 | 0.800 | 0.200 |", "| b | 4 | 0.800 | - |"]


def test_shares_that_are_shown_alike_are_both_the_best():
    rows = [
        Scores(label=str(n), pictures=500, by_encoder={"e": {"present": share}})
        for n, share in enumerate((0.998, 1.0, 0.5))
    ]
    assert [line.count("**100%**") for line in score_table(rows).splitlines()[2:5]] == [1, 1, 0]


def test_one_encoder_is_named_below_the_table():
    assert "- measured by e" in score_table([row("a", 0.8, 0.2)]).splitlines()


def test_two_encoders_have_columns_of_their_own(request):
    one, two = Colours(request.node.name), Colours(f"{request.node.name} 2")
    one.name = two.name = "clip"
    found = score("a", samples(), Reference(photos=[plain(*PHOTOS[0])]), [one, two])
    assert list(found.by_encoder) == ["clip", "clip 2"]
    table = score_table([found])
    assert "clip: identity" in table and "clip 2: identity" in table and "measured" not in table


def test_the_best_is_high_in_both():
    rows = [row("swallowed", 0.9, 0.1), row("both", 0.8, 0.25), row("forgot", 0.4, 0.3)]
    assert merit(rows[1], "identity and text") == pytest.approx(math.sqrt(0.8 * 0.25))
    assert best_row(rows, "identity and text") == 1
    assert best_row(rows, "identity") == 0 and best_row(rows, "text") == 2
    assert best_row([rows[0], rows[0]], "identity") == 0
    assert merit(row("a", -0.1, 0.3), "identity and text") == 0.0


def test_pairs_are_counted_picture_by_picture(encoder):
    own, photo = scored(encoder, samples(text="r")), [(0.8, 0.2, 0.1)]
    values = [cosine(d, p) for d in DRAWN for p in PHOTOS]
    expected = [sum(values[:3]) / 3, sum(values[3:]) / 3]
    assert own.each["identity"] == pytest.approx(expected, abs=1e-6)
    assert len(own.each["text"]) == 2
    assert won(own, own, "identity") == (0, 0)  # ties
    turned = scored(encoder, samples()[::-1])
    assert won(own, turned, "identity") == (1, 2)
    assert won(own, scored(encoder, samples()[:1], photo), "identity") is None
    assert won(own, turned, "text") is None  # the other has no texts


def test_a_choice_by_what_was_not_measured_is_refused():
    with pytest.raises(ValueError, match="no encoder gave a score of text"):
        best_row([row("a", 0.8, None)], "identity and text")
    with pytest.raises(ValueError, match="best_by = 'luck'"):
        best_row([row("a", 0.8, 0.2)], "luck")
