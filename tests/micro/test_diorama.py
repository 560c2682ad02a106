"""The 128 px world is the same from the same seed, and says the truth about itself."""

from dataclasses import replace

import numpy as np
import pytest

from attndreambooth.micro.clip import pair_of_scenes
from attndreambooth.micro.concepts import CONCEPTS, EVALUATION, PHOTO_SETS, TUNING
from attndreambooth.micro.stock import (
    CLIP_TRAIN,
    CODER,
    TRAIN,
    coder_scene,
    make_scenes,
    rendered,
    scene_rng,
)
from attndreambooth.micro.world import (
    SIZE,
    Companion,
    Look,
    Scene,
    Words,
    full_caption,
    random_caption,
    random_scene,
    render,
)
from attndreambooth.micro.world.captions import UNKNOWN_WORD, caption_words, clauses
from attndreambooth.micro.world.shapes import BADGE, BODY, HAT, HELD, SECOND
from attndreambooth.micro.world.vocabulary import (
    BADGES,
    CATEGORIES,
    COLOURS,
    FINISHES,
    HATS,
    INDOORS,
    LIGHTS,
    PATTERNS,
    PLACES,
    RELATIONS,
    STYLES,
)
from attndreambooth.micro.world.vocabulary import HELD as THINGS

LOOK = Look(
    body=(30, 160, 160),
    second=(210, 40, 90),
    badge="star",
    badge_colour=(250, 200, 40),
    hat="crown",
    hat_colour=(40, 60, 200),
    held="balloon",
    held_colour=(230, 60, 60),
)
BASE = Scene(category="robot", look=LOOK, place="meadow")
BOAT = Companion(category="boat", colour="blue", rgb=COLOURS["blue"], relation="next to")


def test_the_world_is_as_large_as_promised():
    assert len(CATEGORIES) == 14 and len(STYLES) == 4 and len(COLOURS) == 11
    assert len(PLACES) == 10 and len(LIGHTS) >= 4 and len(RELATIONS) >= 3
    assert len(EVALUATION) == 12 and len(TUNING) == 4
    assert len({concept.category for concept in EVALUATION}) == 12


def test_one_seed_gives_the_same_scenes_and_the_same_bytes(tmp_path):
    first, second = make_scenes(3, TRAIN, 12), make_scenes(3, TRAIN, 12)
    assert first == second and make_scenes(4, TRAIN, 12) != first
    pictures, scenes = rendered(tmp_path, 3, TRAIN, 12)
    assert scenes == first and pictures.shape == (12, SIZE, SIZE, 3)
    for picture, scene in zip(pictures, second, strict=True):
        assert np.array_equal(render(scene).picture, picture)


def test_streams_and_makers_give_other_scenes():
    assert make_scenes(0, CODER, 8) != make_scenes(0, TRAIN, 8)
    strangers = make_scenes(0, CODER, 40, coder_scene)
    assert sum(scene.words == Words() for scene in strangers) >= 30


@pytest.mark.parametrize("style", STYLES)
def test_each_part_shows_where_its_role_says(style):
    """Another colour of one part changes that part's pixels, and nothing far from them."""
    fields = {BODY: "body", SECOND: "second", BADGE: "badge_colour", HAT: "hat_colour"}
    fields[HELD] = "held_colour"
    base = render(replace(BASE, style=style))
    for role, field in fields.items():
        look = replace(LOOK, **{field: (120, 130, 20)})
        other = render(replace(BASE, look=look, style=style))
        assert np.array_equal(base.parts, other.parts)
        differs = (base.picture != other.picture).any(axis=-1)
        where = base.parts == role
        assert where.sum() > 60 and differs[where].mean() > 0.8
        near = np.zeros_like(where)
        reach = 6 if style == "pixel" else 3
        for dy in range(-reach, reach + 1):
            for dx in range(-reach, reach + 1):
                near |= np.roll(where, (dy, dx), axis=(0, 1))
        assert differs[~near].sum() <= 0.02 * differs.sum()


def test_in_a_photo_a_part_has_its_colour():
    drawn = render(BASE)
    for role, colour in ((BODY, LOOK.body), (SECOND, LOOK.second), (HAT, LOOK.hat_colour)):
        mean = drawn.picture[drawn.parts == role].mean(axis=0)
        assert np.abs(mean - colour).max() < 45, role
    assert drawn.mask.sum() < (drawn.parts > 0).sum()  # what is held is no part of the subject


@pytest.mark.parametrize("relation", RELATIONS)
@pytest.mark.parametrize("side", [1, -1])
def test_a_companion_is_seen_where_the_relation_puts_it(relation, side):
    look = replace(LOOK, held=None)
    scene = replace(BASE, look=look, companion=replace(BOAT, relation=relation, side=side))
    drawn, alone = render(scene), render(replace(BASE, look=look))
    assert drawn.companion.sum() > 250 and alone.companion.sum() == 0
    assert not (drawn.companion & (drawn.parts > 0)).any()
    (y, x), (cy, cx) = (np.argwhere(m).mean(axis=0) for m in (drawn.mask, drawn.companion))
    if relation == "on top of":
        assert y < cy - 25 and abs(x - cx) < 8
    else:
        assert (cx - x) * side > 10


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("category", CATEGORIES),
        ("place", tuple(PLACES)),
        ("style", tuple(STYLES)),
        ("light", tuple(LIGHTS)),
        ("variant", range(4)),
        ("pose", ("standing", "jumping", "leaning")),
    ],
)
def test_every_attribute_changes_the_picture(field, values):
    pictures = [render(replace(BASE, **{field: value})).picture for value in values]
    for i, a in enumerate(pictures):
        for b in pictures[:i]:
            assert (a != b).any(axis=-1).mean() > 0.02


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("pattern", tuple(PATTERNS)),
        ("finish", FINISHES),
        ("hat", HATS),
        ("badge", BADGES),
        ("held", THINGS),
    ],
)
def test_every_part_of_a_look_changes_the_picture(field, values):
    pictures = [
        render(replace(BASE, look=replace(LOOK, **{field: value}))).picture for value in values
    ]
    for i, a in enumerate(pictures):
        for b in pictures[:i]:
            assert (a != b).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"category": "dragon"}, "category 'dragon' is not in the world"),
        ({"light": "noon"}, "light 'noon' is not in the world"),
        ({"place": "space", "light": "rain"}, "needs an outdoor place"),
        ({"variant": 9}, "variant 9 must be in"),
        ({"look": replace(LOOK, hat="wig")}, "hat 'wig' is not in the world"),
        ({"companion": replace(BOAT, relation="inside")}, "relation 'inside'"),
    ],
)
def test_what_the_world_lacks_is_refused_by_name(change, message):
    with pytest.raises(ValueError, match=message):
        replace(BASE, **change)


def test_captions_say_only_what_is_true():
    """Every word of a caption is one that the scene allows, and the category is never another."""
    for i in range(300):
        rng = scene_rng(1, TRAIN, i)
        scene = random_scene(rng)
        allowed = " ".join(
            [full_caption(scene), *clauses(scene).values(), *_free_words(scene)]
        ).split()
        said = random_caption(scene, rng).split()
        assert set(said) <= set(allowed), (said, allowed)
        others = set(CATEGORIES) - {scene.category}
        friend = {scene.companion.category} if scene.companion else set()
        assert not (set(said) & (others - friend))


def _free_words(scene):
    heads = [word for phrase in STYLES[scene.style] for word in phrase.split()]
    return [UNKNOWN_WORD, "thing", "a", "an", *heads]


def test_captions_have_at_most_four_clauses_and_known_words():
    known = {*caption_words(), UNKNOWN_WORD}
    counts = set()
    for i in range(300):
        rng = scene_rng(2, TRAIN, i)
        scene = random_scene(rng)
        for caption in (full_caption(scene), random_caption(scene, rng)):
            assert set(caption.split()) <= known
            counts.add(sum(clause in caption for clause in clauses(scene).values()))
    assert max(counts) == 4


def test_light_stays_out_of_places_that_have_their_own():
    for i in range(200):
        scene = random_scene(scene_rng(5, TRAIN, i))
        assert scene.light == "day" or scene.place not in INDOORS


@pytest.mark.parametrize("name", CONCEPTS)
def test_a_concept_has_photos_with_true_masks_in_both_sets(name):
    concept = CONCEPTS[name]
    for places, expected in (("many", 5), ("two", 2)):
        photos = concept.photos(places)
        assert 4 <= len(photos) <= 6
        assert len({scene.place for _, scene in photos}) == expected
        for photo, scene in photos:
            assert scene.words == Words() and scene.companion is None
            assert 800 < photo.mask.sum() < 6000
    assert set(PHOTO_SETS) == {"many", "two"}
    with pytest.raises(ValueError, match="set 'three' is unknown"):
        concept.photos("three")


def test_concepts_are_never_in_a_training_set():
    """No base scene has a look of a concept, and no random subject of the micro CLIP is one."""
    held_out = {(concept.look.body, concept.look.second) for concept in CONCEPTS.values()}
    scenes = make_scenes(0, TRAIN, 1000)
    scenes += [scene for i in range(300) for scene in pair_of_scenes(scene_rng(0, CLIP_TRAIN, i))]
    assert not held_out & {(scene.look.body, scene.look.second) for scene in scenes}
