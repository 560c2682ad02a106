"""Whether a model draws what a prompt says: held-out prompts, and what a judge must see."""

from collections.abc import Iterator, Sequence
from itertools import count as counter

import numpy as np
from numpy.typing import NDArray

from .judges import NONE, Judges, attributes_of
from .stock import PROMPTS, scene_rng
from .world import Scene, random_scene
from .world.captions import kept_clauses
from .world.vocabulary import COLOURS

# Key of a table's row -> share of prompts that must be followed.
GOALS = {
    **{"category": 0.95, "colour": 0.90, "pattern": 0.85, "place": 0.95, "style": 0.95},
    **{"second": 0.85, "relation": 0.75, "accessory": 0.80},
}


def _named(seed: int) -> Iterator[Scene]:
    for i in counter():
        scene = random_scene(scene_rng(seed, PROMPTS, i))
        if scene.words.colour in COLOURS:
            yield scene


def prompt_scenes(seed: int, count: int) -> list[Scene]:
    """The first scenes of the prompts' stream whose subject has one of the judged colours."""
    scenes = _named(seed)
    return [next(scenes) for _ in range(count)]


def asked_of(scene: Scene) -> dict[str, tuple[tuple[str, str], ...]]:
    """Row -> (attribute, value) pairs that `full_caption` of the scene asks for.

    A clause that the caption has no room for is not asked for; an accessory is right when hat and
    held thing are both as asked.
    """
    kept, true = kept_clauses(scene), attributes_of(scene)
    found: dict[str, tuple[tuple[str, str], ...]] = {
        name: ((name, str(true[name])),) for name in ("category", "colour", "style")
    }
    if scene.words.partner is None or "partner" in kept:
        found["pattern"] = (("pattern", scene.look.pattern),)
    if "place" in kept:
        found["place"] = (("place", scene.place),)
    if "companion" in kept:
        found["second"] = (("second", str(true["second"])),)
        found["relation"] = (("relation", str(true["relation"])),)
    worn = tuple((n, str(true[n])) for n in ("hat", "held") if n in kept and true[n] != NONE)
    if worn:
        found["accessory"] = worn
    return found


def following(
    judges: Judges, pictures: NDArray[np.uint8], scenes: Sequence[Scene]
) -> dict[str, float]:
    """Row -> share of the prompts that ask for it in whose pictures the judge sees it."""
    seen = judges.predict(pictures)
    right: dict[str, list[bool]] = {name: [] for name in GOALS}
    for i, scene in enumerate(scenes):
        for row, pairs in asked_of(scene).items():
            right[row].append(all(seen[name][i] == value for name, value in pairs))
    return {row: float(np.mean(values)) for row, values in right.items() if values}
