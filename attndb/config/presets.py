"""The published recipes, and those of the embedded model and of SDXL (docs/formulas.md, The three
stages)."""

from __future__ import annotations

from dataclasses import replace

from .data import DataConfig
from .optimizer import OptimizerConfig
from .regularization import Regularization
from .stage import StageConfig

Recipe = tuple[StageConfig, StageConfig, StageConfig]

LORA_FACTOR = 10.0
"""Rate of a LoRA by that of whole weights. A step of a LoRA moves a matrix as far (Frobenius norm)
as one of the whole weights at sqrt(inputs / rank) times the rate: 4 to 27 for Stable Diffusion at
rank 16, 4 to 12 for attndb-micro at rank 8, where 6 was better than 20 in a search. The DreamBooth
examples of diffusers lie 20 apart (1e-4 and 5e-6)."""


def _stage(stage: int, steps: int, batch: int, rate: float, mean: float, var: float) -> StageConfig:
    return StageConfig(
        stage=stage,
        steps=steps,
        batch_size=batch,
        optimizer=OptimizerConfig(learning_rate=rate),
        regularization=Regularization(mean_weight=mean, variance_weight=var),
    )


def paper() -> Recipe:
    """The published recipe: 60 + 100 + 500 steps at batch 8."""
    return (
        _stage(1, 60, 8, 1e-3, 0.1, 0.0),
        _stage(2, 100, 8, 2e-5, 2.0, 5.0),
        _stage(3, 500, 8, 2e-6, 2.0, 5.0),
    )


def fast() -> Recipe:
    """The published fast recipe: stage 3 takes 200 steps at batch 4 and rate 1e-5."""
    first, second, _ = paper()
    return first, second, _stage(3, 200, 4, 1e-5, 2.0, 5.0)


def lora() -> Recipe:
    """The paper's recipe as a LoRA of rank 16: megabytes instead of gigabytes, and half of the
    memory that whole weights take at least. Derived, not measured on Stable Diffusion."""
    return _as_lora(paper(), 16)


def _as_lora(recipe: Recipe, rank: int) -> Recipe:
    """Stages 2 and 3 as a LoRA, at LORA_FACTOR times the rates of whole weights."""
    first, *later = recipe
    second, third = (_thin(c, rank, LORA_FACTOR * c.optimizer.learning_rate) for c in later)
    return first, second, third


def _thin(stage: StageConfig, rank: int, rate: float) -> StageConfig:
    """A stage as a LoRA, at a rate of its own."""
    return stage.with_(lora_rank=rank, optimizer=replace(stage.optimizer, learning_rate=rate))


def micro() -> Recipe:
    """For attndb-micro (128 px, 12 M): 120 + 100 + 300 steps at batch 4.

    Steps and rates of the best of six trials on the tuning concepts, by truth and joint
    (benchmarks/search_recipes.py, recorded in benchmarks/contest/recipes.json).
    """
    data = DataConfig(resolution=128, augmentation="none")
    return (
        _stage(1, 120, 4, 5e-3, 0.1, 0.0).with_(data=data),
        _stage(2, 100, 4, 1e-4, 2.0, 5.0).with_(data=data),
        _stage(3, 300, 4, 5e-5, 2.0, 5.0).with_(data=data),
    )


def micro_lora() -> Recipe:
    """For attndb-micro as a LoRA of rank 8: 120 + 100 + 600 steps at batch 4, found as preset micro
    was."""
    first, second, third = micro()
    return first, _thin(second, 8, 1e-3), _thin(third, 8, 3e-4).with_(steps=600)


def micro_turbo() -> Recipe:
    """For attndb-micro in less than a quarter of preset micro's FLOPs: 40 + 32 + 396 steps at batch
    1, three times its rates, with a warm-up of a tenth and a cosine.

    The best of 18 trials that cost no more, on the tuning concepts (benchmarks/search_turbo.py,
    recorded in benchmarks/contest/turbo.json). On the twelve evaluation concepts it keeps the
    subject as well, and obeys perhaps a little less (docs/evaluation.md).
    """

    def short(stage: StageConfig, steps: int) -> StageConfig:
        own = stage.optimizer
        optimizer = replace(
            own,
            learning_rate=3 * own.learning_rate,
            schedule="cosine",
            warmup_steps=steps // 10,
        )
        return stage.with_(steps=steps, batch_size=1, optimizer=optimizer)

    first, second, third = micro()
    return short(first, 40), short(second, 32), short(third, 396)


def sdxl() -> Recipe:
    """For SDXL, which the paper does not have: 60 + 100 + 500 steps at batch 4 and 1024 px. Derived
    from the published recipe, not measured; every number has its reason here.

    - 1024 px: what SDXL was made at.
    - batch 4 instead of 8: each sample has four times the pixels; the published fast recipe halves
      its batch, too.
    - regulariser 0.2 / 0 and 4 / 10, twice the published weights: it is summed over the batch,
      which is half as large, and so stays as strong against L_diff. It is a mean over layers, heads
      and pixels, so 70 layers and larger maps change nothing.
    - stage 1, 60 steps at 1e-3, as published: AdamW moves a number by its rate whatever the size of
      the gradient, and the words of both text encoders are of SD 2.1's order of size.
    - stages 2 and 3, half the published rates (1e-5, 1e-6): keys and values read 2048 numbers
      instead of 1024, and what layers give adds up over 70 of them instead of 16.
    - steps as published: the subject is as new to this model.
    """
    data = DataConfig(resolution=1024)
    return (
        _stage(1, 60, 4, 1e-3, 0.2, 0.0).with_(data=data),
        _stage(2, 100, 4, 1e-5, 4.0, 10.0).with_(data=data),
        _stage(3, 500, 4, 1e-6, 4.0, 10.0).with_(data=data),
    )


def sdxl_lora() -> Recipe:
    """For SDXL as a LoRA of rank 16. Derived, not measured."""
    return _as_lora(sdxl(), 16)


PRESETS = {
    "paper": paper,
    "fast": fast,
    "lora": lora,
    "micro": micro,
    "micro-turbo": micro_turbo,
    "micro-lora": micro_lora,
    "sdxl": sdxl,
    "sdxl-lora": sdxl_lora,
}
AS_LORA = {
    "paper": "lora",
    "fast": "lora",
    "micro": "micro-lora",
    "micro-turbo": "micro-lora",
    "sdxl": "sdxl-lora",
}
"""The preset that is a LoRA, of the same model."""
