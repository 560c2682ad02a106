"""Seeded scenes, and the English sentences that name them."""

import numpy as np

from .places import VARIANTS
from .render import Scene
from .vocabulary import CATEGORIES, COLOURS, PATTERNS, PLACES, STYLES

UNKNOWN_WORD = "sks"  # any word outside the vocabulary; it lands on the unknown row
_STYLE_VARIANTS = {
    "photo": ("a photo of", "a photo of", "a picture of"),
    "sketch": ("a sketch of", "a sketch of", "a drawing of"),
    "pixel": ("pixel art of", "pixel art of", "pixel art of"),
}
# Objects stand at one of three places, a whole latent cell (8 px) apart, in one of three sizes:
# what a small model has to learn of a shape then repeats exactly in its latents.
X_CENTRES = (24.0, 32.0, 40.0)
HALVES = (17.0, 19.0, 21.0)
_SIDE_PHRASES = ("on the left", "in the middle", "on the right")


def _pick(rng: np.random.Generator, options) -> str:
    options = list(options)
    return options[int(rng.integers(len(options)))]


def side(x: float) -> int:
    """0, 1 or 2: left, middle or right third where an object's centre lies."""
    return 0 if x < 27 else 2 if x > 37 else 1


def random_scene(rng: np.random.Generator, **fixed) -> Scene:
    """A scene of the base world; `fixed` sets any field of it."""
    values = dict(
        category=_pick(rng, CATEGORIES),
        colour=_pick(rng, COLOURS),
        pattern=PATTERNS[int(rng.choice(5, p=(0.28, 0.18, 0.18, 0.18, 0.18)))],
        place=_pick(rng, PLACES),
        style=_pick(rng, STYLES),
        x=_pick(rng, X_CENTRES),
        half=_pick(rng, HALVES),
        variant=int(rng.integers(VARIANTS)),
    )
    return Scene(**(values | fixed))


def full_caption(scene: Scene) -> str:
    """The plain sentence that names style, pattern, colour, category and place."""
    head = STYLES[scene.style][0]
    return f"{head} a {scene.pattern} {scene.colour} {scene.category} {PLACES[scene.place]}"


def random_caption(scene: Scene, rng: np.random.Generator) -> str:
    """A sentence about the scene with words left out at random; never wrong, often incomplete."""
    r = rng.random(9)
    words = []
    if r[0] > 0.08:
        words.append(_pick(rng, _STYLE_VARIANTS[scene.style]))
    words.append("a")
    if r[1] < 0.06:
        words.append(UNKNOWN_WORD)
    if r[2] < 0.12 and (scene.half != HALVES[1]):
        words.append("small" if scene.half < HALVES[1] else "big")
    if r[3] > 0.18:
        words.append(scene.pattern)
    if r[4] > 0.12:
        words.append(scene.colour)
    words.append(scene.category if r[5] > 0.02 else "thing")
    tail = [PLACES[scene.place]] if r[6] > 0.08 else []
    if r[7] < 0.2:
        tail.append(_SIDE_PHRASES[side(scene.x)])
        if r[8] < 0.5:
            tail.reverse()
    return " ".join(words + tail)
