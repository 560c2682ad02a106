"""Studio: the embedded model, its judges and scores. Trains a contestant, draws, and scores."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...attndb.artifacts.concept import TrainedConcept
from ...attndb.config.choices import Precision
from ...attndb.data.dataset import ConceptDataset
from ...attndb.training.session import train_stage
from ...attndb.training.stage_request import StageRequest
from ...devkit.in_process import Graph, host_folders
from ...micro.concepts import Concept
from ...micro.gate import through
from ...micro.prompts import PROMPTS, Prompt
from ...micro.sampling import GUIDANCE, STEPS, sample
from ...micro.scores import Score, Truth, score_pictures, summary
from ...micro.shipped import load_autoencoder, load_judges, load_micro_clip
from ...micro.text import host_captions
from ...micro.weight_files import FOLDER
from ...micro.world import render
from .contestant import Contestant
from .rows import digest_of


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What one contestant did with one concept: 0..1 each, means over all pictures."""

    values: dict[str, float]
    """truth, present, text, joint, clip_i, clip_t."""
    by_kind: dict[str, dict[str, float]]
    """The first four for short, long, second and recolour prompts."""
    missed: dict[str, int]
    """Attribute -> pictures in which a judge did not see what the prompt asked for."""


def photo_dataset(graph: Graph, photos: NDArray[np.uint8], category: str) -> ConceptDataset:
    """Photos (N, Y, X, 3) of something of this category, as the node makes one of them."""
    return graph(
        "AttnDBConceptDatasetFromImages",
        images=torch.from_numpy(photos).float() / 255.0,
        category=category,
        placeholder=f"<my-{category}>",
    )[0]


class Studio:
    """Everything that all rows share. `output`: where ComfyUI keeps runs; a temporary folder."""

    def __init__(
        self,
        output: Path,
        prompts: Sequence[Prompt] = PROMPTS,
        *,
        images: int = 4,
        precision: Precision = "auto",
        folder: Path = FOLDER,
    ) -> None:
        from ...nodes.host.model.micro import load_micro

        host_folders(output)
        self.prompts = [prompt for prompt in prompts for _ in range(images)]
        self.precision: Precision = precision
        self.graph = Graph()
        self.model, self.clip, self.vae = load_micro(folder=folder)
        self.judges, self.coder = load_judges(folder), load_autoencoder(folder)
        self.clip_scores = load_micro_clip(host_captions(), folder)
        self._truths: dict[str, dict[Prompt, Truth]] = {}
        self._seconds: dict[str, float] = {}

    def dataset(self, concept: Concept, places: str) -> ConceptDataset:
        """A photo set of a concept, as the node makes one of it."""
        photos = np.stack([drawn.picture for drawn, _ in concept.photos(places)])
        return photo_dataset(self.graph, photos, concept.category)

    def train(
        self, contestant: Contestant, concept: Concept, places: str, seed: int
    ) -> tuple[TrainedConcept, float]:
        """The learned concept and the seconds that it took; a stage that another contestant
        trained before is answered from its run folder, and counts what it took then."""
        from ...nodes.host.ui.plan import plan_of
        from ...nodes.host.workbench import HostWorkbench

        dataset = self.dataset(concept, places)
        total, learned, asked = 0.0, None, [concept.name, places, str(seed)]
        for number, config in enumerate(contestant.stages, 1):
            config = config.with_(seed=seed, precision=self.precision)
            title = f"{contestant.name}, {concept.name}, stage {number}"
            bench = HostWorkbench(self.model, self.clip, self.vae, plan_of([title], [config]))
            request = StageRequest(dataset=dataset, config=config, concept=learned, title=title)
            start = time.monotonic()
            learned, _ = train_stage(bench, request)
            asked.append(digest_of(config.identity()))
            total += self._seconds.setdefault(" ".join(asked), time.monotonic() - start)
        assert learned is not None
        return learned, total

    def draw(
        self, concept: Concept, learned: TrainedConcept | None, correction: float, seed: int
    ) -> NDArray[np.uint8]:
        """Pictures (N, 128, 128, 3) of all prompts; of the plain category without a learned one.

        A concept whose pictures look at a photo gets the first of the five.
        """
        from ...nodes.host.model.added_parts import looks_at_a_photo

        model, clip, words = self.model, self.clip, concept.category
        if learned is not None:
            given: dict[str, Any] = {"concept": learned, "correction": correction}
            if looks_at_a_photo(learned):
                photo = torch.from_numpy(concept.photos()[0][0].picture).float()[None] / 255.0
                given["reference"] = {"samples": self.vae.encode(photo)}
            model, clip, *_ = self.graph("AttnDBApplyConcept", model=model, clip=clip, **given)
            words = learned.trigger
        texts = [prompt.text(words, concept) for prompt in self.prompts]
        drawn = sample(*(model, clip, self.vae, texts), seed=seed, steps=STEPS, guidance=GUIDANCE)
        return drawn.numpy()

    def true(self, concept: Concept) -> NDArray[np.uint8]:
        """The oracle: true renderings of all prompts, through the autoencoder."""
        scenes = []
        for i, prompt in enumerate(self.prompts):
            layouts = prompt.layouts(concept)
            scenes.append(layouts[i % len(layouts)])
        return through(self.coder)(np.stack([render(scene).picture for scene in scenes]))

    def score(self, pictures: NDArray[np.uint8], concept: Concept, places: str) -> Scored:
        """Scores of one picture for each prompt."""
        truths = self._truths.setdefault(concept.name, {})
        scores = score_pictures(pictures, self.prompts, concept, self.judges, truths)
        values = summary(scores)
        photos = np.stack([drawn.picture for drawn, _ in concept.photos(places)])
        values["clip_i"] = self.clip_scores.identity(photos, pictures)
        values["clip_t"] = float(
            np.mean(
                [
                    self.clip_scores.text(prompt.text(concept.category, concept), picture[None])
                    for prompt, picture in zip(self.prompts, pictures, strict=True)
                ]
            )
        )
        return Scored(values=values, by_kind=self._by_kind(scores), missed=_missed(scores))

    def _by_kind(self, scores: Sequence[Score]) -> dict[str, dict[str, float]]:
        kinds: dict[str, list[Score]] = {}
        for prompt, score in zip(self.prompts, scores, strict=True):
            kinds.setdefault(prompt.kind, []).append(score)
        return {kind: summary(some) for kind, some in kinds.items()}


def _missed(scores: Sequence[Score]) -> dict[str, int]:
    found: dict[str, int] = {}
    for score in scores:
        for name in score.wrong:
            found[name] = found.get(name, 0) + 1
    return dict(sorted(found.items()))
