"""Held-out subjects that words cannot describe exactly, and their photos with true masks.

No subject below is in any training set: each has colours between the named ones, its own
proportions, and parts without a word.
"""

from dataclasses import dataclass, replace
from typing import Any

from .world import Look, Rendered, Scene, render
from .world.vocabulary import RGB

TEAL, CRIMSON, INK, MINT = (24, 158, 150), (206, 30, 88), (36, 44, 122), (140, 226, 180)
AMBER, LIME, LILAC, CREAM = (246, 176, 30), (170, 212, 58), (176, 146, 232), (246, 230, 204)
CORAL, PLUM, SKY, OLIVE = (250, 106, 92), (112, 40, 108), (96, 184, 240), (124, 126, 52)
ROSE, RUST, SLATE, FERN = (236, 150, 170), (170, 84, 44), (96, 112, 140), (70, 140, 92)

MANY = ("meadow", "beach", "snow", "room", "city")
TWO = ("meadow", "room", "meadow", "room", "meadow")
PHOTO_SETS = {"many": MANY, "two": TWO}
_SPOTS = ((64.0, 34.0, 0), (48.0, 38.0, 1), (80.0, 34.0, 2), (64.0, 38.0, 3), (64.0, 30.0, 1))


@dataclass(frozen=True, kw_only=True)
class Concept:
    """One subject: its super-category and what makes it itself."""

    name: str
    category: str
    look: Look
    tuning: bool = False  # recipes are searched on these; tables are made of the others

    def scene(self, place: str, **fields: Any) -> Scene:
        """The subject in a place of the world; other fields of a scene as wanted.

        `held` and `held_colour` put something in its hand, as the clause "holding a red flag".
        """
        held = {key: fields.pop(key) for key in ("held", "held_colour") if key in fields}
        look = replace(self.look, **held) if held else self.look
        return Scene(category=self.category, look=look, place=place, **fields)

    def photos(self, places: str = "many") -> list[tuple[Rendered, Scene]]:
        """Five photos, in five places or (``"two"``) in two; ValueError for another set."""
        if places not in PHOTO_SETS:
            raise ValueError(f"photos: set '{places}' is unknown; use one of {list(PHOTO_SETS)}")
        scenes = [
            self.scene(place, x=x, half=half, variant=variant)
            for place, (x, half, variant) in zip(PHOTO_SETS[places], _SPOTS, strict=True)
        ]
        return [(render(scene), scene) for scene in scenes]


def _concept(
    name: str,
    colours: tuple[RGB, RGB, RGB],
    pattern: str,
    finish: str,
    badge: tuple[str, RGB] | None,
    hat: tuple[str, RGB] | None,
    form: tuple[float, float] = (1.0, 1.0),
    tuning: bool = False,
) -> Concept:
    """`colours`: body, second, partner; `form`: wide, tall."""
    body, second, partner = colours
    values: dict[str, Any] = {}
    if badge is not None:
        values |= {"badge": badge[0], "badge_colour": badge[1]}
    if hat is not None:
        values |= {"hat": hat[0], "hat_colour": hat[1]}
    look = Look(
        body=body,
        second=second,
        partner=partner,
        pattern=pattern,
        finish=finish,
        wide=form[0],
        tall=form[1],
        **values,
    )
    return Concept(name=name, category=name.split("-")[-1], look=look, tuning=tuning)


def _all() -> tuple[Concept, ...]:
    plain, striped, spotted, checked = "plain", "striped", "spotted", "checked"
    smooth, shiny, fuzzy, wooden = "smooth", "shiny", "fuzzy", "wooden"
    stocky, slim = (1.12, 0.92), (0.9, 1.08)
    make = _concept
    return (
        make(
            "hatted-robot",
            (TEAL, CRIMSON, AMBER),
            spotted,
            smooth,
            ("diamond", AMBER),
            ("hat", CRIMSON),
        ),
        make(
            "crowned-fish",
            (CORAL, INK, CREAM),
            plain,
            shiny,
            ("bar", CREAM),
            ("crown", AMBER),
            stocky,
        ),
        make("horned-car", (LIME, PLUM, CREAM), plain, smooth, ("ring", PLUM), ("horn", CORAL)),
        make(
            "checked-house",
            (LILAC, OLIVE, CREAM),
            checked,
            smooth,
            ("star", AMBER),
            ("ball", CRIMSON),
            slim,
        ),
        make("ringed-cat", (CREAM, RUST, TEAL), striped, fuzzy, ("ring", CRIMSON), ("leaf", FERN)),
        make("bowed-duck", (INK, LIME, MINT), plain, smooth, ("heart", CORAL), ("bow", AMBER)),
        make(
            "wooden-boat", (MINT, RUST, CRIMSON), striped, wooden, ("ring", CREAM), ("ball", AMBER)
        ),
        make(
            "starred-rocket",
            (AMBER, TEAL, PLUM),
            checked,
            shiny,
            ("star", CRIMSON),
            ("ball", LILAC),
        ),
        make("barred-mug", (PLUM, LIME, ROSE), plain, shiny, ("bar", LIME), ("leaf", SKY), stocky),
        make(
            "horned-mushroom", (SKY, CRIMSON, LILAC), spotted, smooth, ("bar", CREAM), ("horn", INK)
        ),
        make(
            "capped-turtle",
            (CRIMSON, SKY, CREAM),
            checked,
            smooth,
            ("diamond", INK),
            ("cap", OLIVE),
        ),
        make(
            "leafy-owl",
            (SLATE, CORAL, MINT),
            spotted,
            fuzzy,
            ("heart", AMBER),
            ("leaf", LIME),
            stocky,
        ),
        make(
            "wild-butterfly",
            (MINT, CORAL, PLUM),
            striped,
            smooth,
            ("ring", AMBER),
            ("ball", CRIMSON),
            tuning=True,
        ),
        make(
            "belled-flower", (ROSE, TEAL, RUST), spotted, smooth, None, ("ball", INK), tuning=True
        ),
        make(
            "caped-robot",
            (RUST, SKY, CREAM),
            checked,
            wooden,
            ("heart", MINT),
            ("bow", PLUM),
            slim,
            tuning=True,
        ),
        make(
            "royal-cat",
            (FERN, AMBER, CREAM),
            plain,
            fuzzy,
            ("bar", CRIMSON),
            ("crown", LILAC),
            stocky,
            tuning=True,
        ),
    )


CONCEPTS: dict[str, Concept] = {concept.name: concept for concept in _all()}
EVALUATION = tuple(concept for concept in CONCEPTS.values() if not concept.tuning)
TUNING = tuple(concept for concept in CONCEPTS.values() if concept.tuning)
