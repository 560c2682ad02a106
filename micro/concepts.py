"""Held-out subjects: what the captions of the world cannot name, and their photos with true masks.

No picture with an `Identity` is ever in the base training set; the subjects below are also kept
out of the micro CLIP's training, which draws its own at random.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from .world import Identity, Scene, render
from .world.shapes import BADGES, TOPPERS
from .world.vocabulary import PATTERNS

PHOTO_PLACES = ("meadow", "beach", "snow", "room", "city")
TEAL, CRIMSON, NAVY, MINT = (20, 175, 175), (200, 25, 80), (25, 35, 110), (150, 230, 190)
AMBER, LIME, LILAC, CREAM = (250, 175, 20), (160, 220, 40), (190, 150, 240), (250, 235, 200)
CORAL, PLUM, SKY, OLIVE = (250, 110, 90), (100, 30, 95), (110, 190, 250), (115, 120, 40)


@dataclass(frozen=True, kw_only=True)
class Concept:
    """One subject: its super-category and what makes it itself."""

    name: str
    category: str
    identity: Identity

    def scene(self, place: str, style: str = "photo", **where) -> Scene:
        """The subject in a place of the world."""
        fixed = {"colour": "red", "pattern": "plain"}  # overruled by the identity
        return Scene(
            category=self.category,
            place=place,
            style=style,
            identity=self.identity,
            **fixed,
            **where,
        )

    def photos(self) -> list[tuple[np.ndarray, np.ndarray, Scene]]:
        """Five photos (64, 64, 3) uint8 in five places, each with its mask (64, 64) and scene."""
        spots = (
            (32.0, 19.0, 0),
            (24.0, 21.0, 1),
            (40.0, 19.0, 2),
            (32.0, 21.0, 1),
            (32.0, 17.0, 0),
        )
        scenes = [
            self.scene(place, x=x, half=half, variant=variant)
            for place, (x, half, variant) in zip(PHOTO_PLACES, spots, strict=True)
        ]
        return [(*render(scene), scene) for scene in scenes]


def _concept(category, body, partner, pattern, second, badge, badge_rgb, topper, top_rgb):
    return Concept(
        name=f"{topper}-{category}",
        category=category,
        identity=Identity(
            body=body,
            partner=partner,
            second=second,
            pattern=pattern,
            badge=badge,
            badge_colour=badge_rgb,
            topper=topper,
            topper_colour=top_rgb,
        ),
    )


CONCEPTS: dict[str, Concept] = {
    concept.name: concept
    for concept in (
        _concept("robot", TEAL, AMBER, "spotted", CRIMSON, "diamond", AMBER, "hat", CRIMSON),
        _concept("fish", CORAL, NAVY, "plain", NAVY, "bar", CREAM, "crown", AMBER),
        _concept("car", LIME, PLUM, "plain", PLUM, "diamond", PLUM, "cone", CORAL),
        _concept("house", LILAC, CREAM, "checked", OLIVE, "disc", AMBER, "ball", CRIMSON),
        _concept("cat", CREAM, CORAL, "striped", TEAL, "disc", CRIMSON, "crown", PLUM),
        _concept("duck", NAVY, MINT, "plain", LIME, "triangle", CORAL, "hat", AMBER),
        _concept("boat", MINT, PLUM, "striped", CRIMSON, "disc", CREAM, "ball", AMBER),
        _concept("rocket", AMBER, TEAL, "checked", TEAL, "bar", PLUM, "ball", LILAC),
        _concept("mug", PLUM, LIME, "plain", AMBER, "triangle", LIME, "cone", SKY),
        _concept("mushroom", SKY, CRIMSON, "spotted", LILAC, "square", CREAM, "cone", NAVY),
        _concept("turtle", CRIMSON, CREAM, "checked", SKY, "diamond", NAVY, "hat", OLIVE),
        _concept("butterfly", MINT, CORAL, "faded", AMBER, "square", PLUM, "ball", CRIMSON),
        _concept("balloon", OLIVE, AMBER, "striped", SKY, "square", SKY, "crown", CORAL),
    )
}


def random_identity(rng: np.random.Generator) -> Identity:
    """A random subject; the chance that it is one of CONCEPTS is nil (free RGB colours)."""

    def colour() -> tuple[int, int, int]:
        r, g, b = (int(value) for value in rng.integers(20, 251, size=3))
        return (r, g, b)

    def pick(options) -> str:
        options = list(options)
        return options[int(rng.integers(len(options)))]

    return Identity(
        body=colour(),
        partner=colour(),
        second=colour(),
        pattern=pick(PATTERNS),
        badge=pick(BADGES),
        badge_colour=colour(),
        topper=pick(TOPPERS),
        topper_colour=colour(),
    )


def contact_sheet(scale: int = 2) -> Image.Image:
    """All photos of all concepts, one row each."""
    rows = [np.concatenate([p[0] for p in c.photos()], axis=1) for c in CONCEPTS.values()]
    image = Image.fromarray(np.concatenate(rows))
    return image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)
