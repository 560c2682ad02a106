"""A scene: everything that decides a picture, and the words that name it."""

from dataclasses import dataclass, field

from .vocabulary import (
    BADGES,
    CATEGORIES,
    FINISHES,
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

SIZE = 128  # px of a scene, both ways
VARIANTS = 4  # fixed versions of every place
GROUND = 112.0  # where things stand
WHITE: RGB = (246, 246, 246)


@dataclass(frozen=True, kw_only=True)
class Look:
    """What a subject looks like, in free colours."""

    body: RGB
    second: RGB  # limbs, roofs, fins
    partner: RGB = WHITE  # second colour of the pattern
    pattern: str = "plain"
    finish: str = "smooth"
    badge: str | None = None
    badge_colour: RGB = WHITE
    hat: str | None = None
    hat_colour: RGB = WHITE
    held: str | None = None
    held_colour: RGB = WHITE
    wide: float = 1.0  # proportions: no word names them
    tall: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Words:
    """Names of the colours of a look; None where no word fits."""

    colour: str | None = None
    second: str | None = None
    partner: str | None = None
    badge: str | None = None
    hat: str | None = None
    held: str | None = None


@dataclass(frozen=True, kw_only=True)
class Companion:
    """The second object: always plain and smooth."""

    category: str
    colour: str  # its name
    rgb: RGB
    relation: str  # of the subject to it
    side: int = 1  # 1: to the right of the subject, -1: to its left


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One subject in a place; positions and sizes in px."""

    category: str
    look: Look
    place: str
    words: Words = field(default_factory=Words)
    style: str = "photo"
    light: str = "day"
    pose: str = "standing"
    companion: Companion | None = None
    x: float = 64.0
    half: float = 34.0  # half the subject's height
    variant: int = 0

    def __post_init__(self) -> None:
        look = self.look
        for name, value, known in (
            ("category", self.category, CATEGORIES),
            ("place", self.place, PLACES),
            ("style", self.style, STYLES),
            ("light", self.light, LIGHTS),
            ("pose", self.pose, POSES),
            ("pattern", look.pattern, PATTERNS),
            ("finish", look.finish, FINISHES),
            ("badge", look.badge, (None, *BADGES, *NAMELESS_BADGES)),
            ("hat", look.hat, (None, *HATS, *NAMELESS_HATS)),
            ("held", look.held, (None, *HELD)),
        ):
            if value not in known:
                raise ValueError(
                    f"Scene: {name} '{value}' is not in the world; use one of {list(known)}"
                )
        if self.companion is not None and self.companion.relation not in RELATIONS:
            raise ValueError(
                f"Scene: relation '{self.companion.relation}' is not in the world; "
                f"use one of {list(RELATIONS)}"
            )
        if self.light != "day" and self.place in INDOORS:
            raise ValueError(
                f"Scene: light '{self.light}' needs an outdoor place, not {self.place}"
            )
        if not 0 <= self.variant < VARIANTS:
            raise ValueError(f"Scene: variant {self.variant} must be in 0..{VARIANTS - 1}")


@dataclass(frozen=True, kw_only=True)
class Stand:
    """Where one object is drawn: centre, half its height, angle in radians, foot line."""

    x: float
    y: float
    half: float
    angle: float = 0.0
    foot: float = GROUND


def stands(scene: Scene) -> tuple[Stand, Stand | None]:
    """Where the subject and its companion are drawn."""
    half, x, foot = scene.half, scene.x, GROUND
    other, friend = None, scene.companion
    if friend is not None and friend.relation == "next to":
        half, x = min(half, 32.0), 64.0 - 18.0 * friend.side
        other = Stand(x=64.0 + 38.0 * friend.side, y=GROUND - 19.0, half=20.0, foot=GROUND + 1)
    elif friend is not None and friend.relation == "on top of":
        half = 28.0
        other = Stand(x=x, y=GROUND - 16.0, half=19.0, foot=GROUND + 3)
        foot = GROUND - 29.0
    elif friend is not None:
        half, x = min(half, 30.0), 64.0 - 14.0 * friend.side
        other = Stand(x=64.0 + 26.0 * friend.side, y=GROUND - 46.0, half=38.0, foot=GROUND - 9)
    lift = 14.0 if scene.pose == "jumping" else 0.0
    angle = 0.3 if scene.pose == "leaning" else 0.0
    y = foot - 0.95 * half * scene.look.tall - lift
    return Stand(x=x, y=y, half=half, angle=angle, foot=foot), other
