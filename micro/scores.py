"""Scores that cannot be fooled: each picture against the true rendering of its very prompt."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .concepts import Concept
from .judges import Judges
from .prompts import Prompt
from .world import Rendered, Scene, random_identity, render
from .world.shapes import BODY, HELD
from .world.vocabulary import COLOURS

VERSION = 3
"""Raised whenever a picture gets other scores. In 1 the text asked for the subject's own hat, too;
up to 2 judges decided colours and held things, and failed one true picture in twelve for them."""
UNSCORED = ("held",)
"""Clauses that nothing measures: of true pictures a judge sees what is held in four of five, and
where it is drawn is open."""
DISTRACTORS = 20
LEAST_PIXELS = 24  # a part seen with fewer does not count
FAR = 80.0  # of 255: a part so far from its true look is worth nothing


def _blurred(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(H, W, 3) means of 3 x 3 px: a shift of less than a pixel costs little."""
    x = np.pad(picture.astype(np.float32), ((1, 1), (1, 1), (0, 0)), mode="edge")
    h, w = picture.shape[:2]
    rows = (x[:h] + x[1 : h + 1] + x[2 : h + 2]) / 3
    mean = (rows[:, :w] + rows[:, 1 : w + 1] + rows[:, 2 : w + 2]) / 3
    return mean.astype(np.float32, copy=False)


def part_distances(
    drawn: NDArray[np.float32], true: NDArray[np.float32], parts: NDArray[np.uint8]
) -> dict[int, float]:
    """Role -> mean absolute difference (0..255) on the part's pixels in the true rendering."""
    difference = np.abs(drawn - true).mean(axis=2)
    return {
        int(role): float(difference[parts == role].mean())
        for role in np.unique(parts[parts > 0])
        if (parts == role).sum() >= LEAST_PIXELS
    }


@dataclass(frozen=True)
class Score:
    """One picture: truth 0..1; present, text and joint are yes or no."""

    truth: float
    present: bool
    text: bool
    wrong: tuple[str, ...] = ()  # attributes of the prompt that a judge did not see

    @property
    def joint(self) -> bool:
        return self.present and self.text


class Truth:
    """The true renderings of a prompt for a concept, and of other objects in the same scene.

    A prompt leaves place and size of the subject open: a picture is compared with the layout that
    it is nearest to. Parts that the prompt overrules, and what the subject holds, are no identity.
    """

    def __init__(self, concept: Concept, prompt: Prompt, seed: int = 0) -> None:
        self.concept, self.prompt = concept, prompt
        self.ignored = prompt.overruled_roles() | {HELD}
        self._rng_seed = (seed, *concept.name.encode(), *prompt.place.encode())
        self._coloured: dict[int, dict[str, NDArray[np.float32]]] = {}
        self._others: dict[int, list[tuple[NDArray[np.float32], NDArray[np.uint8]]]] = {}

    @cached_property
    def layouts(self) -> list[tuple[Scene, Rendered, NDArray[np.float32]]]:
        """Scene, rendering and blurred picture of every layout."""
        found = []
        for scene in self.prompt.layouts(self.concept):
            drawn = render(scene)
            found.append((scene, drawn, _blurred(drawn.picture)))
        return found

    def _counted(self, parts: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.where(np.isin(parts, list(self.ignored)), 0, parts).astype(np.uint8)

    def nearest(
        self, drawn: NDArray[np.float32], *, all_parts: bool = False
    ) -> tuple[int, dict[int, float]]:
        """The layout that a picture is nearest to, and its parts' distances in it: of those that
        count, or of all."""
        best, found = 0, None
        for number, (_, true, blurred) in enumerate(self.layouts):
            parts = true.parts if all_parts else self._counted(true.parts)
            distances = part_distances(drawn, blurred, parts)
            if found is None or _mean(distances) < _mean(found):
                best, found = number, distances
        return best, found or {}

    def others(self, layout: int) -> list[tuple[NDArray[np.float32], NDArray[np.uint8]]]:
        """Blurred pictures and counted parts of other objects of the category in this layout."""
        if layout not in self._others:
            scene = self.layouts[layout][0]
            rng = np.random.default_rng((*self._rng_seed, 20))
            found = []
            for _ in range(DISTRACTORS):
                look = replace(random_identity(rng), **self.prompt.overruled())
                drawn = render(replace(scene, look=look))
                found.append((_blurred(drawn.picture), self._counted(drawn.parts)))
            self._others[layout] = found
        return self._others[layout]

    def colour(self, picture: NDArray[np.uint8]) -> str:
        """The colour whose true rendering the body of a picture (H, W, 3) is nearest to, the rest
        as the prompt has it. A judge names the pattern's colour on a patterned body."""
        drawn = _blurred(picture)
        layout, _ = self.nearest(drawn, all_parts=True)
        scene, true, _ = self.layouts[layout]
        if layout not in self._coloured:
            self._coloured[layout] = {
                name: _blurred(render(replace(scene, look=replace(scene.look, body=rgb))).picture)
                for name, rgb in COLOURS.items()
            }
        body, others = true.parts == BODY, self._coloured[layout]
        return min(others, key=lambda name: float(np.abs(drawn - others[name])[body].mean()))

    def identity(self, picture: NDArray[np.uint8]) -> tuple[float, bool]:
        """(truth, present) of a picture (H, W, 3)."""
        drawn = _blurred(picture)
        layout, distances = self.nearest(drawn)
        if not distances:
            return 0.0, False
        truth = float(np.mean([max(0.0, 1 - d / FAR) for d in distances.values()]))
        own = _mean(distances)
        others = (_mean(part_distances(drawn, true, parts)) for true, parts in self.others(layout))
        return truth, all(own < other for other in others)


def _mean(distances: dict[int, float]) -> float:
    return float(np.mean(list(distances.values()))) if distances else float("inf")


def score_pictures(
    pictures: NDArray[np.uint8],
    prompts: Sequence[Prompt],
    concept: Concept,
    judges: Judges,
    truths: dict[Prompt, Truth] | None = None,
) -> list[Score]:
    """A score for each picture (N, 128, 128, 3) of its prompt; `truths` keeps the renderings."""
    truths = truths if truths is not None else {}
    seen = judges.predict(pictures)
    scores = []
    for i, (picture, prompt) in enumerate(zip(pictures, prompts, strict=True)):
        truth = truths.setdefault(prompt, Truth(concept, prompt))
        value, present = truth.identity(picture)
        asked = prompt.asked(concept)
        found = {name: seen[name][i] for name in asked if name not in UNSCORED}
        if "colour" in found:
            found["colour"] = truth.colour(picture)
        wrong = tuple(name for name, value in found.items() if value != asked[name])
        scores.append(Score(value, present, not wrong, wrong))
    return scores


def summary(scores: Sequence[Score]) -> dict[str, float]:
    """Mean truth, present, text and joint, 0..1."""
    return {
        name: float(np.mean([getattr(score, name) for score in scores]))
        for name in ("truth", "present", "text", "joint")
    }
