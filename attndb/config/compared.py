"""The methods that AttnDreamBooth is compared with, as they were published (docs/methods.md).

Of TI+DB nothing was published: it has the steps, batch and rate of stage 3. Of OFT no number of
steps was: its script makes 10,005 and keeps checkpoints to choose from. ViCo's makes 510 and draws
with those of steps 300 to 400. Custom Diffusion's rate is 1e-5 for every picture of a step, prior
images included: 1e-5 x (2 + 2).
"""

from __future__ import annotations

from .methods import MethodName
from .optimizer import OptimizerConfig
from .regularization import Regularization
from .stage import StageConfig
from .words import TEMPLATES, WordsConfig

UNTIED = Regularization(mean_weight=0.0, variance_weight=0.0)
"""None of them ties attention maps."""


def published(method: MethodName) -> StageConfig:
    """The settings of a compared method, published where any were."""
    return _PUBLISHED[method]


def _of(method: MethodName, steps: int, batch: int, rate: float, words: WordsConfig) -> StageConfig:
    return StageConfig(
        method=method,
        stage=1,
        steps=steps,
        batch_size=batch,
        optimizer=OptimizerConfig(learning_rate=rate),
        regularization=UNTIED,
        words=words,
    )


_PUBLISHED: dict[MethodName, StageConfig] = {
    config.method: config
    for config in (
        _of(
            "textual_inversion",
            *(3000, 4, 2e-3),
            WordsConfig(templates=TEMPLATES, with_category=False),
        ),
        _of("dreambooth", 800, 1, 5e-6, WordsConfig(initial="sks")),
        _of("custom_diffusion", 500, 2, 4e-5, WordsConfig(initial="ktn")),
        _of("oft", 3000, 1, 6e-5, WordsConfig(initial="qwe")),
        _of("neti", 1000, 8, 8e-3, WordsConfig(templates=TEMPLATES, with_category=False)),
        _of("vico", 400, 4, 5e-3, WordsConfig(templates=TEMPLATES, with_category=False)),
        _of("ti_dreambooth", 500, 8, 2e-6, WordsConfig()),
    )
}
COMPARED: tuple[MethodName, ...] = tuple(_PUBLISHED)
"""In the order of menus."""
