"""Contestant: a method with its settings for the embedded model, as one row of the table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ...attndb.config.compared import COMPARED, published
from ...attndb.config.data import DataConfig
from ...attndb.config.methods import MethodName
from ...attndb.config.presets import micro_turbo, paper
from ...attndb.config.regularization import Regularization
from ...attndb.config.stage import StageConfig
from ...attndb.config.words import WordsConfig
from ...micro.world import SIZE

RECIPES = Path(__file__).with_name("recipes.json")
"""What the search found: method -> [steps, rate] of each stage, and how."""
OURS: MethodName = "attndreambooth"
OUR_TITLE = "AttnDreamBooth"
LoraKind = Literal["dreambooth lora", "attndreambooth lora"]
Kind = MethodName | LoraKind
LORAS: Mapping[LoraKind, MethodName] = {
    "dreambooth lora": "dreambooth",
    "attndreambooth lora": OURS,
}
"""A LoRA of the first is what most people train."""
LORA_RANK = 8
"""On every matrix and convolution, most of which are 128 wide."""
BATCH = 4
TITLES: Mapping[Kind, str] = {
    OURS: OUR_TITLE,
    "attndreambooth lora": f"{OUR_TITLE} LoRA",
    "textual_inversion": "Textual Inversion",
    "dreambooth": "DreamBooth",
    "dreambooth lora": "DreamBooth LoRA",
    "ti_dreambooth": "TI+DB",
    "custom_diffusion": "Custom Diffusion",
    "oft": "OFT",
    "neti": "NeTI",
    "vico": "ViCo",
}
KNOWN_TEMPLATES = ("a photo of a {}", "a picture of a {}", "a {}")
"""Of the embedded model's own words: most words of the published templates it does not know."""


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """What is trained, stage by stage, and how it is applied."""

    name: str
    stages: tuple[StageConfig, ...]
    correction: float = 0.0
    """Embedding correction of *Apply Concept*."""

    @property
    def pairs(self) -> list[tuple[int, float]]:
        """(steps, learning rate) of each stage."""
        return [(c.steps, _rate(c)) for c in self.stages]

    @property
    def samples(self) -> int:
        """Training samples of all stages: what the training costs, but for the regulariser."""
        return sum(c.steps * c.batch_size for c in self.stages)


Pairs = Sequence[tuple[int, float]]
"""(steps, learning rate) of each stage."""


def contestant(kind: Kind, pairs: Pairs, name: str = "") -> Contestant:
    """A method or its LoRA, with so many steps at such rates, and else as published, at batch 4.

    Without prior images: every method sees the photos alone. A method with templates of its own
    gets KNOWN_TEMPLATES. OFT is without COFT's limit, which grows with the square of a layer's
    width and holds these narrow layers still. The rate of ViCo is that of its image attention: at
    the published 1e-5 the blocks of this model stay what they were, with any rate of the word.
    ValueError for another number of stages than the method has.
    """
    stages = _published(kind)
    if len(pairs) != len(stages):
        raise ValueError(f"{kind} has {len(stages)} stage(s), but there are {len(pairs)} pairs")
    data = DataConfig(resolution=SIZE, augmentation="none")
    unlimited = {"constraint": 0.0} if kind == "oft" else {}
    return Contestant(
        name=name or TITLES.get(kind, kind),
        stages=tuple(
            _at_rate(stage, rate).with_(
                steps=steps,
                batch_size=BATCH,
                data=data,
                words=_known_words(stage.words),
                orthogonal=replace(stage.orthogonal, **unlimited),
            )
            for stage, (steps, rate) in zip(stages, pairs, strict=True)
        ),
    )


def _published(kind: Kind) -> tuple[StageConfig, ...]:
    if kind in ("dreambooth lora", "attndreambooth lora"):
        whole = _published(LORAS[kind])
        return tuple(c.with_(lora_rank=LORA_RANK) if c.trains_denoiser else c for c in whole)
    return paper() if kind == OURS else (published(kind),)


def _at_rate(stage: StageConfig, rate: float) -> StageConfig:
    if stage.method == "vico":
        return stage.with_(image_attention=replace(stage.image_attention, learning_rate=rate))
    return stage.with_(optimizer=replace(stage.optimizer, learning_rate=rate))


def _rate(stage: StageConfig) -> float:
    is_vico = stage.method == "vico"
    return (stage.image_attention if is_vico else stage.optimizer).learning_rate


def _known_words(words: WordsConfig) -> WordsConfig:
    return replace(words, templates=KNOWN_TEMPLATES) if words.templates else words


def recipes(path: Path = RECIPES) -> dict[str, list[tuple[int, float]]]:
    """Kind -> (steps, rate) of each stage, from the record of the search."""
    found = json.loads(path.read_text(encoding="utf-8"))["recipes"]
    return {
        method: [(int(steps), float(rate)) for steps, rate in pairs]
        for method, pairs in found.items()
    }


def ablations(ours: Contestant) -> list[Contestant]:
    """Without each stage, and without the regulariser."""
    first, second, third = ours.stages
    untied = Regularization(mean_weight=0.0, variance_weight=0.0)

    def without(name: str, *stages: StageConfig) -> Contestant:
        return Contestant(name=f"without {name}", stages=stages)

    return [
        without("stage 1", first.with_(steps=0), second, third),
        without("stage 2", first, second.with_(steps=0), third),
        without("stage 3", first, second, third.with_(steps=0)),
        without("the regulariser", *(c.with_(regularization=untied) for c in ours.stages)),
    ]


def faster(ours: Contestant) -> Contestant:
    """What the published fast recipe is to the paper's: stage 3 with two fifths of the steps, half
    of the batch, and five times the rate."""
    *first, third = ours.stages
    short = third.with_(
        steps=max(1, third.steps * 2 // 5),
        batch_size=max(1, third.batch_size // 2),
        optimizer=replace(third.optimizer, learning_rate=5 * third.optimizer.learning_rate),
    )
    return Contestant(name="fast", stages=(*first, short))


def beyond(ours: Contestant) -> list[Contestant]:
    """Ideas beyond the paper that the pack has (docs/formulas.md, Beyond the
    paper), and the regulariser as strong as at the published batch: it is summed over the batch,
    and ours is smaller."""
    first, *later = ours.stages
    published = [c.batch_size for c in paper()]

    def held(**settings: float) -> tuple[StageConfig, ...]:
        return (first, *(c.with_(**settings) for c in later))

    def tied(stage: StageConfig, batch: int) -> StageConfig:
        own, factor = stage.regularization, batch / stage.batch_size
        mean, variance = factor * own.mean_weight, factor * own.variance_weight
        stronger = replace(own, mean_weight=mean, variance_weight=variance)
        return stage.with_(regularization=stronger)

    as_published = tuple(tied(*pair) for pair in zip(ours.stages, published, strict=True))
    return [
        Contestant(name="+ regulariser of batch 8", stages=as_published),
        Contestant(name="+ weight anchor 0.01", stages=held(weight_anchor=0.01)),
        Contestant(name="+ prior by prediction", stages=held(prior_prediction=1.0)),
        Contestant(name="+ embedding correction 0.2", stages=ours.stages, correction=0.2),
    ]


def all_contestants(found: Mapping[str, Pairs]) -> list[Contestant]:
    """Rows of the full table, in its order: AttnDreamBooth first."""
    ours = contestant(OURS, found[OURS])
    rivals = [contestant(kind, found[kind]) for kind in (*COMPARED, *LORAS) if kind in found]
    turbo = Contestant(name="turbo", stages=micro_turbo())
    return [ours, *rivals, *ablations(ours), faster(ours), turbo, *beyond(ours)]
