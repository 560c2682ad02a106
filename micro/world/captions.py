"""English sentences about scenes: style, subject, and up to four clauses."""

import numpy as np

from .casting import pick
from .scene import Scene
from .vocabulary import (
    BADGES,
    HATS,
    LIGHTS,
    PATTERNS,
    PLACES,
    POSES,
    STYLES,
)

UNKNOWN_WORD = "sks"  # any word outside the vocabulary; it lands on the unknown row
CLAUSES = 4
_SIZE_WORD = {"next to": "small ", "on top of": "small ", "in front of": "big "}


def _thing(colour: str | None, noun: str) -> str:
    words = f"{colour} {noun}" if colour else noun
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def companion_phrase(scene: Scene) -> str:
    """For example "next to a small blue boat"."""
    friend = scene.companion
    assert friend is not None
    noun = f"{friend.colour} {friend.category}"
    return f"{friend.relation} a {_SIZE_WORD[friend.relation]}{noun}"


def clauses(scene: Scene) -> dict[str, str]:
    """Every clause that is true of the scene, by what it is about, in the order of a sentence."""
    look, words = scene.look, scene.words
    found: dict[str, str] = {}
    if look.hat in HATS:
        found["hat"] = f"wearing {_thing(words.hat, look.hat or '')}"
    if look.held is not None:
        found["held"] = f"holding {_thing(words.held, look.held)}"
    if words.partner is not None:
        found["partner"] = f"with {words.partner} {PATTERNS[look.pattern]}"
    if look.badge in BADGES:
        found["badge"] = f"with {_thing(words.badge, look.badge or '')} badge"
    if scene.pose != "standing":
        found["pose"] = POSES[scene.pose]
    if scene.companion is not None:
        found["companion"] = companion_phrase(scene)
    found["place"] = PLACES[scene.place]
    if scene.light != "day":
        found["light"] = LIGHTS[scene.light]
    return found


def subject_words(scene: Scene) -> dict[str, str]:
    """Words of the subject itself, in the order of a sentence."""
    look, words = scene.look, scene.words
    found: dict[str, str] = {}
    if look.finish != "smooth":
        found["finish"] = look.finish
    if words.partner is None:  # else the clause "with ... spots" says it
        found["pattern"] = look.pattern
    if words.colour is not None:
        found["colour"] = words.colour
        if words.second is not None:
            found["second"] = f"and {words.second}"
    return found


def sentence(style: str, subject: str, tail: list[str]) -> str:
    """Style words, article, subject and clauses; the style may be left out."""
    article = "an" if subject[:1] in "aeiou" else "a"
    return " ".join(word for word in (style, article, subject, *tail) if word)


_WEIGHT = ("companion", "place", "hat", "light", "held", "partner", "badge", "pose")


def kept_clauses(scene: Scene) -> list[str]:
    """What `full_caption` speaks of beside the subject: at most four clauses, the weightiest."""
    return sorted(clauses(scene), key=_WEIGHT.index)[:CLAUSES]


def full_caption(scene: Scene) -> str:
    """The plain sentence with all words of the subject and the weightiest clauses."""
    found, kept = clauses(scene), kept_clauses(scene)
    words = " ".join([*subject_words(scene).values(), scene.category])
    tail = [text for name, text in found.items() if name in kept]
    return sentence(STYLES[scene.style][0], words, tail)


_SAID = {  # how often a true word is said
    **{"finish": 0.85, "pattern": 0.8, "colour": 0.9, "second": 0.8},
    **{"hat": 0.85, "held": 0.9, "partner": 0.8, "badge": 0.75, "pose": 0.85},
    **{"companion": 0.9, "place": 0.92, "light": 0.9},
}


def random_caption(scene: Scene, rng: np.random.Generator) -> str:
    """A sentence with words and clauses left out at random; never wrong, often incomplete."""

    def said(name: str) -> bool:
        return rng.random() < _SAID[name]

    style = pick(rng, STYLES[scene.style]) if rng.random() < 0.92 else ""
    words = [UNKNOWN_WORD] if rng.random() < 0.06 else []
    described = subject_words(scene)
    if "colour" in described and not said("colour"):
        described.pop("colour")
        described.pop("second", None)
    words += [text for name, text in described.items() if name == "colour" or said(name)]
    words.append(scene.category if rng.random() < 0.98 else "thing")
    tail = [text for name, text in clauses(scene).items() if said(name)]
    while len(tail) > CLAUSES:
        tail.pop(int(rng.integers(len(tail))))
    if rng.random() < 0.25:
        tail = [tail[i] for i in rng.permutation(len(tail))]
    return sentence(style, " ".join(words), tail)


def caption_words() -> tuple[str, ...]:
    """All words that a caption can hold, sorted."""
    from .vocabulary import ALL_COLOURS, CATEGORIES, FINISHES, HELD, RELATIONS

    phrases = [
        *("a an and of with thing small big badge wearing holding".split()),
        *(word for pair in STYLES.values() for phrase in pair for word in phrase.split()),
        *(word for table in (PLACES, LIGHTS, POSES) for v in table.values() for word in v.split()),
        *(word for phrase in RELATIONS for word in phrase.split()),
        *(word for word in PATTERNS.values() if word),
    ]
    return tuple(
        sorted({*phrases, *PATTERNS, *ALL_COLOURS, *CATEGORIES, *FINISHES, *HATS, *HELD, *BADGES})
    )
