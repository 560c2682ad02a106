"""The presets are the published recipe; a bad setting is refused by its name."""

from __future__ import annotations

import ast
import inspect
import json
from itertools import pairwise

import pytest

from attndreambooth.attndb.config.data import DataConfig
from attndreambooth.attndb.config.optimizer import OptimizerConfig
from attndreambooth.attndb.config.presets import PRESETS
from attndreambooth.attndb.config.regularization import Regularization
from attndreambooth.attndb.config.stage import RUNTIME_FIELDS, StageConfig
from attndreambooth.attndb.config.words import TEMPLATES, WordsConfig
from attndreambooth.attndb.training.stage_request import StageRequest

PUBLISHED = {  # docs/formulas.md, The three stages: steps, rate, batch, lambda_mu, lambda_sigma
    "paper": [(60, 1e-3, 8, 0.1, 0.0), (100, 2e-5, 8, 2.0, 5.0), (500, 2e-6, 8, 2.0, 5.0)],
    "fast": [(60, 1e-3, 8, 0.1, 0.0), (100, 2e-5, 8, 2.0, 5.0), (200, 1e-5, 4, 2.0, 5.0)],
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_preset_is_the_published_table(name):
    recipe = PRESETS[name]()
    for number, (stage, wanted) in enumerate(zip(recipe, PUBLISHED[name], strict=True), start=1):
        regularization, optimizer = stage.regularization, stage.optimizer
        assert stage.stage == number
        assert wanted == (
            stage.steps,
            optimizer.learning_rate,
            stage.batch_size,
            regularization.mean_weight,
            regularization.variance_weight,
        )
        assert (optimizer.betas, optimizer.eps, optimizer.weight_decay) == (
            (0.9, 0.999),
            1e-8,
            0.01,
        )
        assert regularization.layers == "all" and stage.data.resolution == 512
        assert stage.data.augmentation == "reference"
    assert [stage.trains for stage in recipe] == [{"embedding"}, {"cross-attention"}, {"unet"}]


@pytest.mark.parametrize(("thin", "whole"), [("lora", "paper"), ("sdxl-lora", "sdxl")])
def test_a_preset_as_a_lora_is_the_whole_one_at_a_loras_rates(thin, whole):
    [embedding, *stages], [same, *wholes] = PRESETS[thin](), PRESETS[whole]()
    assert embedding == same
    for stage, base in zip(stages, wholes, strict=True):
        rate = stage.optimizer.learning_rate
        assert (stage.lora_rank, rate) == (16, pytest.approx(10 * base.optimizer.learning_rate))
        assert stage.with_(lora_rank=0, optimizer=base.optimizer) == base


def test_a_stage_becomes_json_and_a_changed_copy():
    stage = PRESETS["paper"]()[0]
    assert json.loads(json.dumps(stage.as_dict()))["optimizer"]["learning_rate"] == 1e-3
    assert stage.with_(seed=5).seed == 5 and stage.seed == 0


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Regularization(mean_weight=-1.0), "mean_weight = -1.0"),
        (lambda: Regularization(variance_weight=-1.0), "variance_weight = -1.0"),
        (lambda: Regularization(mean_weight=float("nan")), "mean_weight = nan"),
        (lambda: Regularization(layers="side"), "layers = 'side'"),
        (lambda: OptimizerConfig(learning_rate=0.0), "learning_rate = 0.0"),
        (
            lambda: OptimizerConfig(learning_rate=2e-6, name="Prodigy"),
            "learning_rate = 2e-06.*use 1",
        ),
        (lambda: OptimizerConfig(learning_rate=1.0, betas=(0.9, 1.0)), "betas"),
        (lambda: OptimizerConfig(learning_rate=1.0, eps=0.0), "eps = 0.0"),
        (lambda: DataConfig(resolution=100), "resolution = 100.*multiple of 8"),
        (lambda: DataConfig(resolution=24), "resolution = 24"),
        (lambda: DataConfig(augmentation="wild"), "augmentation = 'wild'"),
        (lambda: DataConfig(latent_pool=-2), "latent_pool = -2"),
        (lambda: PRESETS["paper"]()[0].with_(stage=4), "stage = 4"),
        (lambda: PRESETS["paper"]()[0].with_(steps=-1), "steps = -1"),
        (lambda: PRESETS["paper"]()[0].with_(batch_size=0), "batch_size = 0"),
        (lambda: PRESETS["paper"]()[0].with_(vectors=0), "vectors = 0"),
        (lambda: PRESETS["paper"]()[0].with_(precision="fp8"), "precision = 'fp8'"),
        (lambda: PRESETS["paper"]()[0].with_(words=WordsConfig(templates=TEMPLATES)), "words = "),
        (lambda: PRESETS["paper"]()[2].with_(words=WordsConfig(with_category=False)), "words = "),
    ],
)
def test_a_bad_setting_is_refused_by_name_and_value(make, told):
    with pytest.raises(ValueError, match=told):
        make()


def test_a_regularization_without_weights_is_not_active():
    assert not Regularization(mean_weight=0, variance_weight=0).active
    assert Regularization(mean_weight=0, variance_weight=1).active
    assert isinstance(PRESETS["fast"]()[0], StageConfig)


def texts_of(kind: type) -> dict[str, str]:
    """What stands below each field of a dataclass."""
    [made] = ast.parse(inspect.getsource(kind)).body
    assert isinstance(made, ast.ClassDef)
    return {
        ast.unparse(field.target): str(ast.literal_eval(text.value))
        for field, text in pairwise(made.body)
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr)
    }


def test_a_field_says_whether_it_is_only_how_a_training_runs():
    told = texts_of(StageConfig)
    assert {name for name, text in told.items() if "Runtime" in text} == {*RUNTIME_FIELDS}
    ways = {"checkpoint_every", "keep_state", "concepts_every", "concepts_kept"}
    assert {name for name, text in texts_of(StageRequest).items() if "Runtime" in text} == ways
