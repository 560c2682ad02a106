"""What is asked of a subject in the evaluation: sentences, and the scenes that they mean."""

from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from .concepts import Concept
from .judges import NONE
from .world import Companion, Scene
from .world.captions import companion_phrase
from .world.casting import HALVES, X_CENTRES
from .world.scene import stands
from .world.shapes import BADGE, BODY, HAT, HELD, SECOND
from .world.vocabulary import COLOURS, LIGHTS, PLACES, POSES, STYLES

# Fields of a look, and the parts of the subject that they decide.
ROLES_OF = {
    **{"body": BODY, "pattern": BODY, "partner": BODY, "second": SECOND},
    **{"hat": HAT, "hat_colour": HAT, "badge": BADGE, "badge_colour": BADGE},
    **{"held": HELD, "held_colour": HELD},
}


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """One thing to ask; `{}` of `text` stands for the subject's words."""

    kind: str  # short | long | second | recolour
    place: str
    style: str = "photo"
    light: str = "day"
    pose: str = "standing"
    second: tuple[str, str, str] | None = None  # relation, colour, category (if not the subject's)
    held: tuple[str, str] | None = None  # colour, thing
    hat: tuple[str, str] | None = None  # colour, hat: takes the place of the subject's own
    colour: str | None = None  # takes the place of the body's colour

    def _companion(self, concept: Concept, side: int = 1) -> Companion | None:
        if self.second is None:
            return None
        relation, colour, category = self.second
        if category == concept.category:
            category = "boat" if category == "mug" else "mug"
        return Companion(
            category=category, colour=colour, rgb=COLOURS[colour], relation=relation, side=side
        )

    def text(self, subject: str, concept: Concept) -> str:
        """The sentence for a subject's words, such as "<my-cat> cat"."""
        words = f"{self.colour} {subject}" if self.colour else subject
        tail = []
        if self.hat is not None:
            tail.append(f"wearing a {self.hat[0]} {self.hat[1]}")
        if self.held is not None:
            tail.append(f"holding a {self.held[0]} {self.held[1]}")
        tail.append(POSES[self.pose])
        scene = self.scene(concept)
        if scene.companion is not None:
            tail.append(companion_phrase(scene))
        tail += [PLACES[self.place], LIGHTS[self.light]]
        return " ".join(w for w in (STYLES[self.style][0], "a", words, *tail) if w)

    def overruled(self) -> dict[str, Any]:
        """Fields of the subject's look that the sentence sets."""
        fields: dict[str, Any] = {}
        if self.colour is not None:
            fields["body"] = COLOURS[self.colour]
        if self.hat is not None:
            fields |= {"hat": self.hat[1], "hat_colour": COLOURS[self.hat[0]]}
        if self.held is not None:
            fields |= {"held": self.held[1], "held_colour": COLOURS[self.held[0]]}
        return fields

    def overruled_roles(self) -> frozenset[int]:
        """Parts whose identity does not count."""
        return frozenset(ROLES_OF[name] for name in self.overruled())

    def scene(self, concept: Concept, **fields: Any) -> Scene:
        """The concept in the scene that the sentence means; `fields` are x, half, side, variant."""
        look = replace(concept.look, **self.overruled())
        companion = self._companion(concept, fields.pop("side", 1))
        return Scene(
            category=concept.category,
            look=look,
            place=self.place,
            style=self.style,
            light=self.light,
            pose=self.pose,
            companion=companion,
            **fields,
        )

    def layouts(self, concept: Concept) -> list[Scene]:
        """Every place and size of the base world that the sentence leaves open, each once."""
        sides = (1, -1) if self.second is not None else (1,)
        found: dict[Any, Scene] = {}
        for x, half, side in product(X_CENTRES, HALVES, sides):
            scene = self.scene(concept, x=x, half=half, side=side)
            found.setdefault(stands(scene), scene)
        return list(found.values())

    def asked(self, concept: Concept) -> dict[str, str]:
        """Attribute -> value that a judge must see: what the sentence says, nothing of the subject
        but its category."""
        values = {"category": concept.category, "place": self.place, "style": self.style}
        values["light"] = self.light
        companion = self._companion(concept)
        values["second"] = companion.category if companion else NONE
        if companion is not None:
            values["relation"] = companion.relation
        if self.colour is not None:
            values["colour"] = self.colour
        if self.hat is not None:
            values["hat"] = self.hat[1]
        if self.held is not None:
            values["held"] = self.held[1]
        return values


def _prompts() -> tuple[Prompt, ...]:
    p = Prompt
    near, top, front = "next to", "on top of", "in front of"
    return (
        p(kind="short", place="forest"),
        p(kind="short", place="space"),
        p(kind="short", place="meadow", style="sketch"),
        p(kind="short", place="stage", style="pixel"),
        p(kind="short", place="desert", style="watercolour"),
        p(kind="short", place="underwater"),
        p(kind="long", place="desert", light="sunset", held=("red", "balloon")),
        p(kind="long", place="forest", light="fog", pose="jumping"),
        p(kind="long", place="snow", light="night", held=("yellow", "lantern")),
        p(kind="long", place="beach", light="sunset", style="watercolour", pose="leaning"),
        p(kind="long", place="city", light="rain", held=("blue", "flag"), style="sketch"),
        p(kind="long", place="meadow", light="night", style="pixel", held=("pink", "balloon")),
        p(kind="second", place="stage", second=(near, "blue", "boat")),
        p(kind="second", place="desert", second=(top, "green", "turtle")),
        p(kind="second", place="space", second=(front, "white", "house")),
        p(kind="second", place="snow", light="sunset", second=(near, "red", "car")),
        p(kind="second", place="forest", light="rain", second=(top, "purple", "mushroom")),
        p(kind="second", place="beach", style="sketch", second=(near, "orange", "fish")),
        p(kind="second", place="room", style="watercolour", second=(front, "yellow", "rocket")),
        p(kind="second", place="underwater", style="pixel", second=(near, "pink", "duck")),
        p(kind="recolour", place="room", colour="red"),
        p(kind="recolour", place="forest", colour="blue", light="sunset"),
        p(kind="recolour", place="beach", colour="green", second=(near, "white", "mug")),
        p(kind="recolour", place="city", colour="black", held=("yellow", "flag")),
        p(kind="recolour", place="stage", hat=("green", "crown")),
        p(kind="recolour", place="snow", hat=("blue", "bow"), light="fog"),
    )


PROMPTS = _prompts()
