"""`python demo/category.py`: what keeps the category, on the embedded model, as a table.

The same subject is learned with nothing, with prior images, with prior by prediction and with the
weight anchor; then the plain category and the subject in new scenes are drawn and measured.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

if not __package__:  # started as a program: it goes on as a part of the package
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "devkit"))
    from pack import run_program

    run_program(__file__)

import argparse
import logging
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..attndb.config.presets import micro
from ..attndb.config.stage import StageConfig
from ..attndb.data.dataset import ConceptDataset
from ..devkit.host_path import host_on_path
from ..devkit.in_process import Graph, host_folders, trained_stage
from ..micro.concepts import CONCEPTS
from ..micro.sampling import sample
from ..micro.shipped import load_judges, load_micro_clip
from ..micro.text import host_captions

log = logging.getLogger(__name__)

SCENES = {
    "a photo of a {} in a forest": ("forest", "photo"),
    "a photo of a {} in space": ("space", "photo"),
    "a sketch of a {} in the desert": ("desert", "sketch"),
    "pixel art of a {} on the beach": ("beach", "pixel"),
}
"""Prompts that no photo shows, and their place and style."""
PRIOR_IMAGES = 64


@dataclass(frozen=True)
class Way:
    """One row of the table."""

    name: str
    settings: Mapping[str, float]
    """Fields of StageConfig, in stages 2 and 3."""
    prior_images: bool = False


class Measured:
    """The embedded model and one subject: trains, draws, judges."""

    def __init__(self, name: str, share: float, seed: int) -> None:
        self.concept, self.seed = CONCEPTS[name], seed
        self.graph = Graph()
        self.model, self.clip, self.vae = self.graph("AttnDBLoadMicroModel")
        self.stages = [c.with_(seed=seed, steps=round(c.steps * share)) for c in micro()]
        self.photos = np.stack([drawn.picture for drawn, _ in self.concept.photos()])
        self.scores, self.judges = load_micro_clip(host_captions()), load_judges()
        category = self.concept.category
        self.plain = f"a photo of a {category}"
        self.before = self.drawn(None, [self.plain] * 24)
        self.dataset: ConceptDataset = self.graph(
            "AttnDBConceptDatasetFromImages",
            images=torch.from_numpy(self.photos).float() / 255.0,
            category=category,
            placeholder=f"<my-{category}>",
        )[0]
        log.info("stage 1, which has no weights to hold")
        self.begun = self.stage(self.stages[0], self.dataset, None)

    def drawn(self, concept: Any, prompts: list[str], seed: int = 0) -> NDArray[np.uint8]:
        """Pictures (N, 128, 128, 3), with a concept applied."""
        model, clip = self.model, self.clip
        if concept is not None:
            model, clip, *_ = self.graph(
                "AttnDBApplyConcept", model=model, clip=clip, concept=concept
            )
        return sample(model, clip, self.vae, prompts, seed=1000 + seed).numpy()

    def row(self, way: Way) -> str:
        """A line of the table, in Markdown."""
        dataset, concept, start = self.dataset, self.begun, time.process_time()
        if way.prior_images:
            images = self.drawn(None, [self.plain] * PRIOR_IMAGES, seed=5000)
            dataset = self.graph(
                "AttnDBAddPriorImages", dataset=dataset, images=torch.from_numpy(images) / 255.0
            )[0]
        for config in self.stages[1:]:
            concept = self.stage(config.with_(**way.settings), dataset, concept)
        seconds = time.process_time() - start
        plain = self.drawn(concept, [self.plain] * len(self.before))
        change = float(np.abs(plain.astype(float) - self.before).mean()) / 255.0
        identity, place, style = self.subject(concept)
        weights = sum(float(d.float().square().sum()) for d in concept.delta.values())
        values = (
            way.name,
            f"{change:.3f}",
            f"{self.scores.identity(self.photos, plain):.2f}",
            f"{identity:.2f}",
            f"{place:.0%} / {style:.0%}",
            f"{weights:.1f}",
            f"{seconds:.0f} s",
        )
        return f"| {' | '.join(values)} |"

    def subject(self, concept: Any, each: int = 6) -> tuple[float, float, float]:
        """Of `each` pictures in every scene: likeness to the photos, and the shares that show the
        place and the style of the prompt."""
        trigger = f"{self.dataset.placeholder} {self.dataset.category}"
        wanted = [scene for scene in SCENES for _ in range(each)]
        pictures = self.drawn(concept, [text.format(trigger) for text in wanted])
        seen = self.judges.predict(pictures)
        place, style = (
            sum(a == SCENES[text][i] for a, text in zip(seen[kind], wanted, strict=True))
            for i, kind in enumerate(("place", "style"))
        )
        identity = float(self.scores.identity(self.photos, pictures))
        return identity, place / len(wanted), style / len(wanted)

    def trained(self) -> Any:
        """The concept after all stages, with nothing that holds the category."""
        concept = self.begun
        for config in self.stages[1:]:
            concept = self.stage(config, self.dataset, concept)
        return concept

    def base_row(self) -> str:
        """Of the model before any training."""
        identity = self.scores.identity(self.photos, self.before)
        return f"| untrained base | 0 | {identity:.2f} | | | 0 | |"

    def stage(self, config: StageConfig, dataset: Any, concept: Any) -> Any:
        return trained_stage((self.model, self.clip, self.vae), dataset, config, concept)[0]


HEAD = (
    "| held by | category: mean change of a pixel (0..1) | category: likeness to the subject | "
    "subject: identity | place / style obeyed | squared change of weights | CPU time |\n"
    "|---|---|---|---|---|---|---|\n"
)


def main(arguments: Sequence[str]) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="category.py", description=str(__doc__).split("\n")[0])
    parser.add_argument("--concept", choices=sorted(CONCEPTS), default="hatted-robot")
    parser.add_argument("--share", type=float, default=0.5, help="of the steps of preset micro")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--anchor", type=float, nargs="*", default=[0.1, 0.01])
    parser.add_argument("--prediction", type=float, nargs="*", default=[1.0])
    options = parser.parse_args(arguments)
    host_on_path(cpu=not torch.cuda.is_available())
    with TemporaryDirectory() as folder, torch.inference_mode():  # no run of before answers
        host_folders(Path(folder))
        measured = Measured(options.concept, options.share, options.seed)
        ways = [
            Way("nothing", {}),
            Way(f"{PRIOR_IMAGES} prior images, weight 1", {}, prior_images=True),
            *(Way(f"prior_prediction {w:g}", {"prior_prediction": w}) for w in options.prediction),
            *(Way(f"weight_anchor {w:g}", {"weight_anchor": w}) for w in options.anchor),
        ]
        sys.stdout.write(HEAD + measured.base_row() + "\n")
        for way in ways:
            sys.stdout.write(measured.row(way) + "\n")
            sys.stdout.flush()
    return 0
