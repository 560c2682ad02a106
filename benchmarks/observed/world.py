"""World: the embedded model with its subjects, and the scores that trainings are observed by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ...attndb.artifacts.concept import TrainedConcept
from ...attndb.data.dataset import ConceptDataset
from ...micro.concepts import CONCEPTS, EVALUATION, TUNING
from ...micro.prompts import PROMPTS
from ...micro.sampling import GUIDANCE, STEPS
from ...micro.scores import VERSION
from ...micro.weight_files import FOLDER, card_hashes
from ..contest.studio import Studio

SEED = 1000
"""Of the noise of all pictures."""


class World(Protocol):
    """What trainings are observed on."""

    wires: tuple[Any, Any, Any]
    """MODEL, CLIP and VAE."""
    context: str
    """A prompt with a place that no photo shows; `{}` for the subject."""
    subjects: Sequence[str]
    """Names of its concepts; the first is taken unless others are named."""
    asked: Mapping[str, Any]
    """What its scores depend on: weights, prompts, how is drawn and scored."""

    def dataset(self, concept: str) -> ConceptDataset:
        """The photos of a concept."""
        ...

    def scores(self, concept: str, learned: TrainedConcept | None) -> dict[str, float]:
        """Among others `identity` and `text`, 0..1, of pictures of the learned concept; of the
        plain category without one."""
        ...


class MicroWorld:
    """attndb-micro: identity against the true rendering of each prompt, text by its judges."""

    def __init__(self, output: Path, prompts: int, folder: Path = FOLDER) -> None:
        chosen = evenly(PROMPTS, prompts)
        self.studio = Studio(output, chosen, images=1, folder=folder)
        self.wires: tuple[Any, Any, Any] = (self.studio.model, self.studio.clip, self.studio.vae)
        self.subjects: Sequence[str] = tuple(c.name for c in (*EVALUATION, *TUNING))
        sample_of = CONCEPTS[self.subjects[0]]
        self.context = PROMPTS[0].text("{}", sample_of)
        self.asked: Mapping[str, Any] = {
            "prompts": [prompt.text("{}", sample_of) for prompt in chosen],
            "weights": card_hashes(folder),
            "sampling": [STEPS, GUIDANCE],
            "scores": VERSION,
        }

    def dataset(self, concept: str) -> ConceptDataset:
        """Its five photos in five places."""
        return self.studio.dataset(CONCEPTS[concept], "many")

    def scores(self, concept: str, learned: TrainedConcept | None) -> dict[str, float]:
        """`identity` is the table's truth; all the table's other scores as well."""
        chosen = CONCEPTS[concept]
        pictures = self.studio.draw(chosen, learned, 0.0, SEED)
        values = self.studio.score(pictures, chosen, "many").values
        return {"identity": values["truth"], **values}


def evenly(of: Sequence[Any], count: int) -> list[Any]:
    """`count` of them, spread over all; all if there are no more."""
    places = np.linspace(0, len(of) - 1, min(count, len(of))).round().astype(int)
    return [of[place] for place in places]
