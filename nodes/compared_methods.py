"""The methods that AttnDreamBooth is compared with, as the node offers them: one class each."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from comfy_api.v0_0_2 import io

from ..attndb.config.compared import published
from ..attndb.config.image_attention import ImageAttentionConfig
from ..attndb.config.mapper import MapperConfig
from ..attndb.config.methods import MethodName
from ..attndb.config.optimizer import OptimizerConfig
from ..attndb.config.orthogonal import OrthogonalConfig
from ..attndb.config.stage import StageConfig
from ..attndb.config.words import TEMPLATES
from .sockets import recipe_widgets

THEIRS, OURS = f"published ({len(TEMPLATES)})", "dataset"
_STAGE_3 = "As in AttnDreamBooth's stage 3: the paper does not say what TI+DB had."


class ComparedMethod:
    """A method in the menu of the node: what it is called, its widgets, and how they are read."""

    name: MethodName
    """Its name in attndb/config."""
    label: str
    """In the menu, and over what it drew."""
    steps: str
    """What was published of the steps."""
    rate = ""
    """What was published of the rate besides the number."""
    borrowed = ""
    """Where rate and batch are from, if they were not published."""

    def widgets(self) -> list[io.Input]:
        """Its settings, with the published defaults."""
        config = published(self.name)
        recipe = recipe_widgets(config, self.steps, rate=self.rate, borrowed=self.borrowed)
        return [*recipe, *self.own_widgets(config)]

    def config(self, settings: Mapping[str, Any]) -> StageConfig:
        """The published settings with what its widgets say. ValueError names what cannot be."""
        return self.with_own(published(self.name), settings).with_(
            steps=settings["steps"],
            batch_size=settings["batch_size"],
            optimizer=OptimizerConfig(learning_rate=settings["learning_rate"]),
        )

    def own_widgets(self, config: StageConfig) -> list[io.Input]:
        """Those that not every method has; `config`: with their defaults."""
        return []

    def with_own(self, config: StageConfig, settings: Mapping[str, Any]) -> StageConfig:
        """The config with what its own widgets say."""
        return config


class _OfTemplates(ComparedMethod):
    """Learns a word from short prompts without the category."""

    def own_widgets(self, config: StageConfig) -> list[io.Input]:
        return [
            io.Combo.Input(
                "templates",
                options=[THEIRS, OURS],
                default=THEIRS,
                tooltip="Training prompts. Published: one of 27 short ones for every sample ('a "
                "rendering of a {}', ...), whatever captions say. dataset: its own, with captions. "
                "Both without the category.",
            )
        ]

    def with_own(self, config: StageConfig, settings: Mapping[str, Any]) -> StageConfig:
        if settings["templates"] != OURS:
            return config
        return config.with_(words=dataclasses.replace(config.words, templates=()))


class _OfARareWord(ComparedMethod):
    """Names the subject by a word that exists."""

    def own_widgets(self, config: StageConfig) -> list[io.Input]:
        return [
            io.String.Input(
                "rare_word",
                default=config.words.initial,
                tooltip="An existing word of little meaning, whose embedding the placeholder "
                "has. Give each subject of one graph another one.",
            )
        ]

    def with_own(self, config: StageConfig, settings: Mapping[str, Any]) -> StageConfig:
        rare = settings["rare_word"].strip()
        if not rare:
            raise ValueError(
                f"rare_word is empty, and {self.label} names the subject by one: type an existing "
                f"word of little meaning, e.g. {config.words.initial}"
            )
        return config.with_(words=dataclasses.replace(config.words, initial=rare))


class _TextualInversion(_OfTemplates):
    name = "textual_inversion"
    label = "Textual Inversion"
    steps = "Published: 3000 to 6100."


class _DreamBooth(_OfARareWord):
    name = "dreambooth"
    label = "DreamBooth"
    steps = "Published: 800 with prior images, 400 without."


class _CustomDiffusion(_OfARareWord):
    name = "custom_diffusion"
    label = "Custom Diffusion"
    steps = "Published: 250 on two GPUs, 500 on one."
    rate = (
        "Published: 1e-5 for every picture of a step: 4e-5 for 2 photos and as many prior images, "
        "2e-5 without those."
    )


class _OFT(_OfARareWord):
    name = "oft"
    label = "OFT"
    steps = (
        "3000 is not a published number: the published script makes 10005 and keeps checkpoints "
        "to choose from."
    )

    def own_widgets(self, config: StageConfig) -> list[io.Input]:
        return [
            *super().own_widgets(config),
            io.Int.Input(
                "blocks",
                default=config.orthogonal.blocks,
                min=1,
                max=64,
                tooltip="Groups of a layer's inputs, each turned by a rotation of its own. "
                "Published: 4.",
            ),
            io.Float.Input(
                "constraint",
                default=config.orthogonal.constraint,
                min=0.0,
                max=1.0,
                step=1e-6,
                round=False,
                tooltip="How far a rotation may go. Published: 6e-5 (COFT). 0: no limit (OFT).",
            ),
        ]

    def with_own(self, config: StageConfig, settings: Mapping[str, Any]) -> StageConfig:
        orthogonal = OrthogonalConfig(blocks=settings["blocks"], constraint=settings["constraint"])
        return super().with_own(config, settings).with_(orthogonal=orthogonal)


class _NeTI(_OfTemplates):
    name = "neti"
    label = "NeTI"
    steps = "Published: 1000, of 4 x 2 samples."

    def own_widgets(self, config: StageConfig) -> list[io.Input]:
        return [
            *super().own_widgets(config),
            io.Boolean.Input(
                "bypass",
                default=config.mapper.bypass,
                tooltip="Textual bypass: a second vector is added behind the text encoder, for the "
                "values of cross-attention. Published: on.",
            ),
            io.Float.Input(
                "nested_dropout",
                default=config.mapper.nested_dropout,
                min=0.0,
                max=1.0,
                step=0.05,
                tooltip="How often the mapper's hidden values are cut off behind a random place, "
                "so that the first of them learn most. Published: 0.5.",
            ),
        ]

    def with_own(self, config: StageConfig, settings: Mapping[str, Any]) -> StageConfig:
        mapper = MapperConfig(bypass=settings["bypass"], nested_dropout=settings["nested_dropout"])
        return super().with_own(config, settings).with_(mapper=mapper)


class _ViCo(_OfTemplates):
    name = "vico"
    label = "ViCo"
    steps = "Published: 510, drawn with those after 300 to 400."

    def own_widgets(self, config: StageConfig) -> list[io.Input]:
        return [
            *super().own_widgets(config),
            io.Float.Input(
                "image_learning_rate",
                default=config.image_attention.learning_rate,
                min=1e-8,
                max=1.0,
                step=1e-7,
                round=False,
                tooltip="Constant AdamW rate of the blocks that look at the reference photo; the "
                "other is the word's. Published: 1e-5.",
            ),
            io.Float.Input(
                "map_weight",
                default=config.image_attention.map_weight,
                min=0.0,
                max=100.0,
                step=1e-5,
                round=False,
                tooltip="How much the word's attention on the reference photo is drawn to that of "
                "the prompt's end. Published: 5e-4. 0: off.",
            ),
        ]

    def with_own(self, config: StageConfig, settings: Mapping[str, Any]) -> StageConfig:
        attention = ImageAttentionConfig(
            learning_rate=settings["image_learning_rate"], map_weight=settings["map_weight"]
        )
        return super().with_own(config, settings).with_(image_attention=attention)


class _TIDreamBooth(ComparedMethod):
    name = "ti_dreambooth"
    label = "TI+DB"
    steps = borrowed = _STAGE_3


METHODS: tuple[ComparedMethod, ...] = (
    *(_TextualInversion(), _DreamBooth(), _CustomDiffusion(), _OFT(), _NeTI(), _ViCo()),
    _TIDreamBooth(),
)
"""In the order of the menu."""
BY_NAME = {method.name: method for method in METHODS}
BY_LABEL = {method.label: method for method in METHODS}
