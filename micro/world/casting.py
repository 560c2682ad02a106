"""Seeded scenes of the base world, and random subjects."""

from dataclasses import replace
from typing import Any

import numpy as np

from .scene import VARIANTS, WHITE, Companion, Look, Scene, Words
from .vocabulary import (
    ALL_COLOURS,
    BADGES,
    CATEGORIES,
    COLOURS,
    FINISHES,
    FREE_COLOURS,
    HATS,
    HELD,
    INDOORS,
    LIGHTS,
    NAMELESS_BADGES,
    NAMELESS_HATS,
    PATTERNS,
    PLACES,
    POSES,
    RELATIONS,
    RGB,
    STYLES,
)

# Subjects stand at one of three places, two whole latent cells (8 px) apart, in one of three sizes.
X_CENTRES = (48.0, 64.0, 80.0)
HALVES = (30.0, 34.0, 38.0)
JITTER = 9  # a named colour is a small cloud, not a point
FREE_SHARE = 0.22  # subjects in colours without a name
DARKER = 0.68


def pick(rng: np.random.Generator, options: Any) -> Any:
    options = list(options)
    return options[int(rng.integers(len(options)))]


def _colour(rng: np.random.Generator) -> tuple[str, RGB]:
    """A name and a colour near it; judged names three times as often as the free ones."""
    name = pick(rng, COLOURS if rng.random() < 0.75 else FREE_COLOURS)
    r, g, b = (
        int(np.clip(value + rng.integers(-JITTER, JITTER + 1), 0, 255))
        for value in ALL_COLOURS[name]
    )
    return name, (r, g, b)


def any_colour(rng: np.random.Generator) -> RGB:
    r, g, b = (int(value) for value in rng.integers(20, 251, size=3))
    return (r, g, b)


def far_from(colour: RGB, other: RGB, least: float = 90.0) -> bool:
    """Whether two colours are told apart at a glance."""
    return sum(abs(a - b) for a, b in zip(colour, other, strict=True)) >= least


def _apart(rng: np.random.Generator, *others: RGB) -> tuple[str, RGB]:
    """A named colour that is told from the others."""
    name, colour = _colour(rng)
    while not all(far_from(colour, other) for other in others):
        name, colour = _colour(rng)
    return name, colour


def _darker(colour: RGB) -> RGB:
    r, g, b = (round(value * DARKER) for value in colour)
    return (r, g, b)


def _default_partner(body: RGB) -> RGB:
    return WHITE if far_from(body, WHITE, 150) else (96, 104, 128)


def random_look(rng: np.random.Generator) -> tuple[Look, Words]:
    """A look in named colours."""
    name, body = _colour(rng)
    words: dict[str, str | None] = {"colour": name}
    values: dict[str, Any] = {"body": body, "second": _darker(body)}
    values["pattern"] = list(PATTERNS)[int(rng.choice(4, p=(0.4, 0.2, 0.2, 0.2)))]
    values["finish"] = FINISHES[int(rng.choice(4, p=(0.58, 0.14, 0.14, 0.14)))]
    values["partner"] = _default_partner(body)
    if rng.random() < 0.3:
        words["second"], values["second"] = _apart(rng, body)
    if values["pattern"] != "plain" and rng.random() < 0.45:
        words["partner"], values["partner"] = _apart(rng, body)
    for key, kinds, chance in (("hat", HATS, 0.34), ("held", HELD, 0.2), ("badge", BADGES, 0.2)):
        if rng.random() < chance:
            values[key] = pick(rng, kinds)
            words[key], values[f"{key}_colour"] = _apart(rng, body)
    return Look(**values), Words(**words)


def random_identity(rng: np.random.Generator) -> Look:
    """A subject that words cannot describe: free colours, proportions, nameless parts."""
    body = any_colour(rng)

    def other(*others: RGB) -> RGB:
        colour = any_colour(rng)
        while not all(far_from(colour, o, 110) for o in others):
            colour = any_colour(rng)
        return colour

    hat = pick(rng, (*HATS, *NAMELESS_HATS)) if rng.random() < 0.8 else None
    badge = pick(rng, (*BADGES, *NAMELESS_BADGES)) if rng.random() < 0.7 else None
    return Look(
        body=body,
        second=other(body),
        partner=other(body),
        pattern=pick(rng, PATTERNS),
        finish=pick(rng, FINISHES),
        badge=badge,
        badge_colour=other(body),
        hat=hat,
        hat_colour=other(body),
        wide=float(rng.choice((0.88, 1.0, 1.12))),
        tall=float(rng.choice((0.9, 1.0, 1.08))),
    )


def random_companion(rng: np.random.Generator, category: str) -> Companion:
    """Another object of another category, in a judged colour."""
    kind = pick(rng, [c for c in CATEGORIES if c != category])
    name, rgb = _colour(rng)
    while name not in COLOURS:
        name, rgb = _colour(rng)
    side = 1 if rng.random() < 0.5 else -1
    return Companion(category=kind, colour=name, rgb=rgb, relation=pick(rng, RELATIONS), side=side)


def random_scene(rng: np.random.Generator, **fixed: Any) -> Scene:
    """A scene of the base world; `fixed` sets any field of it."""
    look, words = random_look(rng)
    if rng.random() < FREE_SHARE:
        look, words = random_identity(rng), Words()
    category, place = pick(rng, CATEGORIES), pick(rng, PLACES)
    lights = ("day",) if place in INDOORS else tuple(LIGHTS)
    light = lights[
        int(
            rng.choice(
                len(lights),
                p=(0.52, 0.12, 0.12, 0.12, 0.12)[: len(lights)] if len(lights) > 1 else (1.0,),
            )
        )
    ]
    values: dict[str, Any] = {
        "category": category,
        "look": look,
        "words": words,
        "place": place,
        "style": list(STYLES)[int(rng.choice(4, p=(0.4, 0.2, 0.2, 0.2)))],
        "light": light,
        "pose": list(POSES)[int(rng.choice(3, p=(0.76, 0.12, 0.12)))],
        "x": pick(rng, X_CENTRES),
        "half": pick(rng, HALVES),
        "variant": int(rng.integers(VARIANTS)),
    }
    if rng.random() < 0.36:
        values["companion"] = random_companion(rng, category)
    values |= fixed
    if values["place"] in INDOORS:
        values["light"] = "day"
    friend = values.get("companion")
    if friend is not None and friend.category == values["category"]:
        others = [c for c in CATEGORIES if c != values["category"]]
        values["companion"] = replace(friend, category=pick(rng, others))
    return Scene(**values)
