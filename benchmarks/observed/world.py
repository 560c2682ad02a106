"""World: one version of the embedded model, with its subjects and what tells them apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from ...attndb.artifacts.concept import TrainedConcept
from ...attndb.data.dataset import ConceptDataset
from ...devkit.in_process import Graph, host_folders
from ...micro import concepts as first
from ...micro import weight_files
from ...micro.clip import load_micro_clip
from ...micro.judges import load_judges
from ...micro.micro2 import concepts as second
from ...micro.micro2.prompts import PROMPTS
from ...micro.micro2.shipped import FOLDER as SECOND
from ...micro.micro2.world import SIZE as SECOND_SIZE
from ...micro.sampling import sample
from ...micro.text import CaptionEncoder
from ...micro.world import PLACES, SIZE, STYLES
from ..contest.studio import Studio, photo_dataset

SEED = 1000
"""Of the noise of all pictures."""
Wires = tuple[Any, Any, Any]


class World(Protocol):
    """What trainings are observed on."""

    size: int
    """Of its pictures, in pixels."""
    wires: Wires
    """MODEL, CLIP and VAE."""
    context: str
    """A prompt with a place that no photo shows; `{}` for the subject."""
    subjects: Sequence[str]
    """Names of its concepts; the first is taken unless others are named."""
    asked: Mapping[str, Any]
    """What its scores depend on: weights and prompts."""

    def dataset(self, concept: str) -> ConceptDataset:
        """The photos of a concept."""
        ...

    def scores(self, concept: str, learned: TrainedConcept | None) -> dict[str, float]:
        """Among others `identity` and `text`, 0..1, of pictures of the learned concept; of the
        plain category without one."""
        ...


class FirstWorld:
    """attndb-micro: identity by the micro CLIP, text by the judges of place and style."""

    def __init__(self, output: Path, prompts: int, folder: Path | None = None) -> None:
        from ...nodes.host.model.micro import load_micro

        folder = folder or weight_files.FOLDER
        host_folders(output)
        self.size, self.graph = SIZE, Graph()
        self.context = f"a photo of a {{}} {PLACES['forest']}"
        self.subjects = tuple(first.CONCEPTS)
        unseen = [place for place in PLACES if place not in first.PHOTO_PLACES]
        scenes = [(style, place) for place in unseen for style in STYLES]
        self._scenes = evenly(scenes, prompts)
        self.asked = {"scenes": self._scenes, "weights": weight_files.card_hashes(folder)}
        self.wires: Wires = load_micro(folder=folder)
        tokenizer = self.wires[1].tokenizer.clip_l.tokenizer
        self._judges = load_judges(folder)
        self._clip = load_micro_clip(CaptionEncoder(tokenizer), folder)

    def dataset(self, concept: str) -> ConceptDataset:
        """Its five photos."""
        chosen = first.CONCEPTS[concept]
        photos = np.stack([picture for picture, *_ in chosen.photos()])
        return photo_dataset(self.graph, photos, chosen.category)

    def scores(self, concept: str, learned: TrainedConcept | None) -> dict[str, float]:
        """`identity`: mean cosine with the photos. `text`: share of pictures in which the judges
        see the place and the style that were asked for."""
        chosen = first.CONCEPTS[concept]
        model, clip, words = _applied(self.graph, self.wires, learned, chosen.category)
        texts = [f"{STYLES[s][0]} a {words} {PLACES[place]}" for s, place in self._scenes]
        pictures = sample(model, clip, self.wires[2], texts, seed=SEED)
        photos = torch.from_numpy(np.stack([picture for picture, *_ in chosen.photos()]))
        seen = self._judges.predict(pictures)
        right = zip(self._scenes, seen["style"], seen["place"], strict=True)
        return {
            "identity": self._clip.identity(photos, pictures),
            "text": float(np.mean([asked == (style, place) for asked, style, place in right])),
        }


class SecondWorld:
    """attndb-micro 2: identity against the true rendering of each prompt, text by its judges."""

    def __init__(self, output: Path, prompts: int, folder: Path | None = None) -> None:
        folder = folder or SECOND
        chosen = evenly(PROMPTS, prompts)
        self.studio = Studio(output, chosen, images=1, folder=folder)
        self.size, self.wires = SECOND_SIZE, (self.studio.model, self.studio.clip, self.studio.vae)
        names = [c.name for c in second.EVALUATION] + [c.name for c in second.TUNING]
        self.subjects = tuple(names)
        sample_of = second.CONCEPTS[names[0]]
        self.context = PROMPTS[0].text("{}", sample_of)
        self.asked = {
            "prompts": [prompt.text("{}", sample_of) for prompt in chosen],
            "weights": weight_files.card_hashes(folder),
        }

    def dataset(self, concept: str) -> ConceptDataset:
        """Its five photos in five places."""
        return self.studio.dataset(second.CONCEPTS[concept], "many")

    def scores(self, concept: str, learned: TrainedConcept | None) -> dict[str, float]:
        """`identity` is the table's truth; all the table's other scores as well."""
        chosen = second.CONCEPTS[concept]
        pictures = self.studio.draw(chosen, learned, 0.0, SEED)
        values = self.studio.score(pictures, chosen, "many").values
        return {"identity": values["truth"], **values}


WORLDS: Mapping[str, type[FirstWorld | SecondWorld]] = {"1": FirstWorld, "2": SecondWorld}


def newest() -> str:
    """The second world where its weights are shipped, else the first."""
    return "2" if (SECOND / weight_files.MODEL).is_file() else "1"


def evenly(of: Sequence[Any], count: int) -> list[Any]:
    """`count` of them, spread over all; all if there are no more."""
    places = np.linspace(0, len(of) - 1, min(count, len(of))).round().astype(int)
    return [of[place] for place in places]


def _applied(
    graph: Graph, wires: Wires, learned: TrainedConcept | None, category: str
) -> tuple[Any, Any, str]:
    """MODEL and CLIP to draw with, and the words to write."""
    model, clip, _ = wires
    if learned is None:
        return model, clip, category
    model, clip, *_ = graph("AttnDBApplyConcept", model=model, clip=clip, concept=learned)
    return model, clip, learned.trigger
