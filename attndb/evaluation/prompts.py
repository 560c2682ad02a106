"""Prompts of an evaluation: the sets, what is refused, and what a text score reads of one.

`{}` stands for the subject.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..config.lines import asked_lines
from ..config.printable import quoted

SHORT = (
    "a photo of a {}",
    "a {} floats on a river",
    "a {} in Times Square",
    "a {} in the marketplace",
    "a {} on a stone wall in the countryside",
    "a {} was buried at the bottom of the river",
    "a {} with the Eiffel Tower in the background",
    "a red {} in the garden",
    "a pink {} by the lake",
    "a white {} seen from the bottom",
    "a black {} seen from the back",
    "a purple {} on the dining table",
    "a {} with a wheat field in the background",
    "a {} in a snowy mountain landscape",
    "a {} depicted with rough, textured brushstrokes",
    "a {} depicted in the style of a Renaissance painting",
    "a {} painted like a Picasso abstract",
    "a {} painted in the style of an Abstract Expressionist painting",
    "a {} in the style of Van Gogh's Starry Night",
    "a {} with intricate Baroque carvings",
    "a curious {} exploring ancient ruins by the beach",
    "a brave {} crossing a shallow river in the wilderness",
    "a {} wearing a superhero costume, complete with cape and mask",
    "a cake with cream shaped like a {} on top",
)
COMPLEX = (
    "An oil painting of a {} dressed as a musketeer in an old French town",
    "A {} as a Jedi casting a long shadow in a sunlit, empty desert",
    "Light seeps out from the inside of a clear {} under the moonlight on a serene beach",
    "Cyberpunk style of a {} as a robot against the backdrop of a futuristic cityscape at night, "
    "illuminated by neon lights",
)
TOY = (
    "a photo of a {} in a forest",
    "a photo of a {} in space",
    "a photo of a {} underwater",
    "a photo of a {} on a stage",
    "a photo of a {} in the desert at sunset",
    "a photo of a {} in a forest in the fog",
    "a photo of a {} next to a small blue boat in the desert",
    "a photo of a {} holding a yellow lantern in space",
    "a sketch of a {} on the beach",
    "a watercolour of a {} in the city at night",
    "pixel art of a {} on a stage",
    "a photo of a red {} in a forest",
)
"""In the words of the embedded model."""

SETS: dict[str, tuple[str, ...]] = {
    f"short ({len(SHORT)})": SHORT,
    f"complex ({len(COMPLEX)})": COMPLEX,
    f"short and complex ({len(SHORT) + len(COMPLEX)})": (*SHORT, *COMPLEX),
    f"toy model ({len(TOY)})": TOY,
}
"""By the name that a user chooses."""

MOST = 200
_LONGEST = 1000
_SHUT, _OPEN = "\0\1", "\0\2"
"""For brackets that a user wrote as brackets."""
_EMBEDDING = re.compile(r"(?:,?\s+|^)embedding:[^\s,]*")
_SUBJECT = re.compile(r"(?:\bof\s+)?(?:\b(?:a|an|the|my)\s+)?\{\}(?:'s\b)?", re.IGNORECASE)


def prompt_lines(texts: str | Iterable[str]) -> tuple[str, ...]:
    """Prompts, one in a line, each once; empty lines and lines that begin with # are left out.
    ValueError names a line without exactly one `{}`, one that is too long, or too many of them."""
    prompts = tuple(dict.fromkeys(asked_lines(texts)))
    if not prompts:
        raise ValueError("prompts is empty: write one in a line, with {} for the subject")
    if len(prompts) > MOST:
        raise ValueError(f"prompts: {len(prompts)} lines, and {MOST} are the most")
    for prompt in prompts:
        if len(prompt) > _LONGEST:
            raise ValueError(
                f"prompt {quoted(prompt, 60)} has {len(prompt)} characters, and {_LONGEST} are the "
                "most: shorten it"
            )
        if prompt.count("{}") != 1:
            raise ValueError(
                f"prompt {quoted(prompt, 120)} needs {{}} exactly once: it is where the subject's "
                "words go, e.g. 'a photo of a {} in the snow'"
            )
    return prompts


def spoken(prompt: str) -> str:
    """What a prompt says, without what only steers the drawing: weights in round brackets, which
    the host reads so (`(red:1.3)` is `red`, `\\(` a bracket), and embeddings."""
    hidden = prompt.replace("\\)", _SHUT).replace("\\(", _OPEN)
    plain = _unweighted(hidden).replace(_SHUT, ")").replace(_OPEN, "(")
    return _EMBEDDING.sub("", plain).lstrip(" ,") if "embedding:" in plain else plain


def _unweighted(text: str) -> str:
    said = ""
    for part in _bracketed(text):
        if len(part) > 1 and part[0] == "(" and part[-1] == ")":
            inner, colon, weight = part[1:-1].rpartition(":")
            part = _unweighted(inner if inner and _is_number(weight) else inner + colon + weight)
        said += part
    return said


def _bracketed(text: str) -> list[str]:
    """The text in parts: what stands in brackets, with them, and what does not."""
    parts, depth = [""], 0
    for letter in text:
        if letter == "(" and depth == 0:
            parts.append("")
        depth += (letter == "(") - (letter == ")")
        parts[-1] += letter
        if letter == ")" and depth == 0:
            parts.append("")
    return parts


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def whole(prompt: str, category: str) -> str:
    """What the prompt says with the category in place of the subject's words: what text scores
    compare with."""
    return spoken(prompt).replace("{}", category)


def context(prompt: str) -> str:
    """What the prompt says beside the subject: without `{}`, its article and an `of` before it.
    Empty if it says nothing."""
    rest = " ".join(_SUBJECT.sub(" ", spoken(prompt)).split())
    return re.sub(r"\s+,", ",", rest).strip(" ,.")
