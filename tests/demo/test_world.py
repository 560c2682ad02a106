"""The world is the same from the same seed, and says the truth about itself."""

import numpy as np
import pytest

from attndreambooth.micro.clip import pair_of_scenes
from attndreambooth.micro.concepts import CONCEPTS
from attndreambooth.micro.scenes import CLIP_TRAIN, TRAIN, make_scenes, scene_rng
from attndreambooth.micro.world import (
    CATEGORIES,
    COLOURS,
    PATTERNS,
    PLACES,
    STYLES,
    Scene,
    full_caption,
    random_caption,
    random_scene,
    render,
)


def test_the_world_is_as_large_as_promised():
    assert len(CATEGORIES) >= 12 and len(COLOURS) == 10 and len(PATTERNS) == 5
    assert len(PLACES) == 10 and len(STYLES) >= 3 and len(CONCEPTS) >= 12


def test_one_seed_gives_the_same_scenes_and_the_same_bytes():
    first, second = make_scenes(3, TRAIN, 20), make_scenes(3, TRAIN, 20)
    assert first == second
    for a, b in zip(first, second, strict=True):
        assert np.array_equal(render(a)[0], render(b)[0])
    assert make_scenes(4, TRAIN, 20) != first


def test_the_mask_is_where_the_object_is():
    """Two colours of one object differ inside the mask, and nowhere else."""
    kwargs = {"category": "turtle", "pattern": "plain", "place": "space", "style": "photo"}
    red, mask = render(Scene(colour="red", **kwargs))
    blue, _ = render(Scene(colour="blue", **kwargs))
    differs = (red != blue).any(axis=-1)
    assert differs[mask].mean() > 0.9
    with_stage = np.zeros_like(mask)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            with_stage |= np.roll(mask, (dy, dx), axis=(0, 1))
    assert not differs[~with_stage].any()


@pytest.mark.parametrize("attribute", ["category", "colour", "pattern", "place", "style"])
def test_every_attribute_changes_the_picture(attribute):
    base = Scene(category="mug", colour="red", pattern="plain", place="room", style="photo")
    values = {
        "category": CATEGORIES,
        "colour": list(COLOURS),
        "pattern": PATTERNS,
        "place": list(PLACES),
        "style": list(STYLES),
    }[attribute]
    fields = {k: getattr(base, k) for k in ("category", "colour", "pattern", "place", "style")}
    pictures = {render(Scene(**(fields | {attribute: v})))[0].tobytes() for v in values}
    assert len(pictures) == len(values)


def test_captions_leave_words_out_but_never_lie():
    kinds = {
        "colour": set(COLOURS),
        "pattern": set(PATTERNS),
        "category": set(CATEGORIES),
    }
    left_out = dict.fromkeys(kinds, 0)
    for i in range(300):
        rng = scene_rng(0, TRAIN, i)
        scene = random_scene(rng)
        words = set(random_caption(scene, rng).split())
        for name, known in kinds.items():
            said = words & known
            assert said <= {getattr(scene, name)}
            left_out[name] += not said
    assert all(0 < count < 150 for count in left_out.values())


def test_a_full_caption_names_everything():
    scene = Scene(category="fish", colour="pink", pattern="spotted", place="city", style="sketch")
    assert full_caption(scene) == "a sketch of a spotted pink fish in the city"


def test_an_unknown_attribute_is_refused_by_name():
    with pytest.raises(ValueError, match=r"colour 'mauve'.*use one of"):
        Scene(category="fish", colour="mauve", pattern="plain", place="city", style="photo")


def test_concepts_have_photos_and_masks():
    for concept in CONCEPTS.values():
        photos = concept.photos()
        assert 4 <= len(photos) <= 6
        assert len({scene.place for _, _, scene in photos}) == len(photos)
        assert all(mask.sum() > 200 for _, mask, _ in photos)


def test_concepts_are_never_in_a_training_set():
    """No base scene has an identity, and no random subject of the micro CLIP is a concept."""
    assert all(scene.identity is None for scene in make_scenes(0, TRAIN, 2000))
    held_out = {concept.identity for concept in CONCEPTS.values()}
    for i in range(500):
        for scene in pair_of_scenes(scene_rng(0, CLIP_TRAIN, i)):
            assert scene.identity not in held_out


def test_no_base_scene_looks_like_a_concept():
    """A concept's photo differs from the nearest base scene in a large part of the object."""
    concept = CONCEPTS["hat-robot"]
    picture, mask, scene = concept.photos()[0]
    distances = []
    for colour in COLOURS:
        for pattern in PATTERNS:
            twin = Scene(
                category="robot",
                colour=colour,
                pattern=pattern,
                place=scene.place,
                style="photo",
                x=scene.x,
                y=scene.y,
                half=scene.half,
                variant=scene.variant,
            )
            difference = np.abs(render(twin)[0].astype(int) - picture.astype(int)).max(axis=-1)
            distances.append((difference[mask] > 30).mean())
    assert min(distances) > 0.4
