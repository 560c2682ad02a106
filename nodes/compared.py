"""The node that trains the methods which AttnDreamBooth is compared with."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from comfy_api.v0_0_2 import io

from ..attndb.config.compared import COMPARED, published
from ..attndb.config.image_attention import ImageAttentionConfig
from ..attndb.config.mapper import MapperConfig
from ..attndb.config.methods import MethodName
from ..attndb.config.optimizer import OptimizerConfig
from ..attndb.config.orthogonal import OrthogonalConfig
from ..attndb.config.stage import StageConfig
from ..attndb.config.words import TEMPLATES
from .errors import naming_node
from .host.ui.preview import PreviewSettings
from .sockets import (
    extra_sockets,
    recipe_widgets,
    result_sockets,
    shared_widgets,
    wire_sockets,
)
from .training import train_stages, with_shared
from .training_options import TrainingOptions

LABELS: dict[MethodName, str] = {
    "textual_inversion": "Textual Inversion",
    "dreambooth": "DreamBooth",
    "custom_diffusion": "Custom Diffusion",
    "oft": "OFT",
    "neti": "NeTI",
    "vico": "ViCo",
    "ti_dreambooth": "TI+DB",
}
METHOD_OF = {label: method for method, label in LABELS.items()}
THEIRS, OURS = f"published ({len(TEMPLATES)})", "dataset"


def _widgets(method: MethodName) -> list[io.Input]:
    """The settings of one method, with its published defaults."""
    config = published(method)
    rate, borrowed = _RATES.get(method, ""), _BORROWED.get(method, "")
    inputs = recipe_widgets(config, _STEPS[method], rate=rate, borrowed=borrowed)
    if config.words.templates:
        inputs.append(
            io.Combo.Input(
                "templates",
                options=[THEIRS, OURS],
                default=THEIRS,
                tooltip="Training prompts. Published: one of 27 short ones for every sample ('a "
                "rendering of a {}', ...), whatever captions say. dataset: its own, with captions. "
                "Both without the category.",
            )
        )
    if config.words.initial:
        inputs.append(
            io.String.Input(
                "rare_word",
                default=config.words.initial,
                tooltip="An existing word of little meaning, whose embedding the placeholder "
                "has. Give each subject of one graph another one.",
            )
        )
    if "rotations" in config.trains:
        inputs += [
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
    if "mapper" in config.trains:
        inputs += _mapper_widgets(config.mapper)
    if "image attention" in config.trains:
        inputs += _image_attention_widgets(config.image_attention)
    return inputs


def _mapper_widgets(config: MapperConfig) -> list[io.Input]:
    return [
        io.Boolean.Input(
            "bypass",
            default=config.bypass,
            tooltip="Textual bypass: a second vector is added behind the text encoder, for the "
            "values of cross-attention. Published: on.",
        ),
        io.Float.Input(
            "nested_dropout",
            default=config.nested_dropout,
            min=0.0,
            max=1.0,
            step=0.05,
            tooltip="How often the mapper's hidden values are cut off behind a random place, so "
            "that the first of them learn most. Published: 0.5.",
        ),
    ]


def _image_attention_widgets(config: ImageAttentionConfig) -> list[io.Input]:
    return [
        io.Float.Input(
            "image_learning_rate",
            default=config.learning_rate,
            min=1e-8,
            max=1.0,
            step=1e-7,
            round=False,
            tooltip="Constant AdamW rate of the blocks that look at the reference photo; the other "
            "is the word's. Published: 1e-5.",
        ),
        io.Float.Input(
            "map_weight",
            default=config.map_weight,
            min=0.0,
            max=100.0,
            step=1e-5,
            round=False,
            tooltip="How much the word's attention on the reference photo is drawn to that of the "
            "prompt's end. Published: 5e-4. 0: off.",
        ),
    ]


_STAGE_3 = "As in AttnDreamBooth's stage 3: the paper does not say what TI+DB had."
_STEPS: dict[MethodName, str] = {
    "textual_inversion": "Published: 3000 to 6100.",
    "dreambooth": "Published: 800 with prior images, 400 without.",
    "custom_diffusion": "Published: 250 on two GPUs, 500 on one.",
    "oft": "3000 is not a published number: the published script makes 10005 and keeps checkpoints "
    "to choose from.",
    "neti": "Published: 1000, of 4 x 2 samples.",
    "vico": "Published: 510, drawn with those after 300 to 400.",
    "ti_dreambooth": _STAGE_3,
}
_RATES: dict[MethodName, str] = {
    "custom_diffusion": "Published: 1e-5 for every picture of a step: 4e-5 for 2 photos and as "
    "many prior images, 2e-5 without those.",
}
_BORROWED: dict[MethodName, str] = {"ti_dreambooth": _STAGE_3}


def config_of(settings: Mapping[str, Any], shared: Mapping[str, Any]) -> StageConfig:
    """From what the node's widgets say. ValueError names a method that is not known."""
    label = settings["method"]
    if label not in METHOD_OF:
        raise ValueError(f"method = {label!r}: choose one of {', '.join(METHOD_OF)}")
    config = published(METHOD_OF[label])
    words = config.words
    if settings.get("templates") == OURS:
        words = dataclasses.replace(words, templates=())
    if "rare_word" in settings:
        rare = settings["rare_word"].strip()
        if not rare:
            raise ValueError(
                f"rare_word is empty, and {label} names the subject by one: type an existing word "
                f"of little meaning, e.g. {words.initial}"
            )
        words = dataclasses.replace(words, initial=rare)
    if "blocks" in settings:
        orthogonal = OrthogonalConfig(blocks=settings["blocks"], constraint=settings["constraint"])
        config = config.with_(orthogonal=orthogonal)
    if "bypass" in settings:
        mapper = MapperConfig(bypass=settings["bypass"], nested_dropout=settings["nested_dropout"])
        config = config.with_(mapper=mapper)
    if "map_weight" in settings:
        rate, weight = settings["image_learning_rate"], settings["map_weight"]
        image_attention = ImageAttentionConfig(learning_rate=rate, map_weight=weight)
        config = config.with_(image_attention=image_attention)
    return with_shared(config, shared).with_(
        steps=settings["steps"],
        batch_size=settings["batch_size"],
        optimizer=OptimizerConfig(learning_rate=settings["learning_rate"]),
        words=words,
    )


class TrainComparedMethod(io.ComfyNode):
    """One of the methods that AttnDreamBooth is compared with."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AttnDBTrainComparedMethod",
            display_name="Train Compared Method",
            category="AttnDreamBooth/training",
            description="Trains the subject by another published method, to be compared with "
            "AttnDreamBooth on the same photos: " + ", ".join(METHOD_OF) + ". Defaults are the "
            "published ones, but for those of TI+DB and the steps of OFT, which say so.",
            search_aliases=[
                *("dreambooth", "textual inversion", "baseline", "compare methods"),
                *("ti+db", "neti", "vico"),
                *("train", "fine-tune", "finetune", "personalization", "prior preservation"),
            ],
            inputs=[
                *wire_sockets(),
                io.DynamicCombo.Input(
                    "method",
                    options=[
                        io.DynamicCombo.Option(LABELS[method], _widgets(method))
                        for method in COMPARED
                    ],
                    tooltip="What is trained, and how. The settings below it are the method's own.",
                ),
                *shared_widgets(512),
                *extra_sockets(),
            ],
            outputs=result_sockets(),
        )

    @classmethod
    @naming_node
    def execute(
        cls,
        model: Any,
        clip: Any,
        vae: Any,
        dataset: Any,
        method: Mapping[str, Any],
        category_tie: str,
        checkpoint_every: int,
        options: TrainingOptions | None = None,
        preview: PreviewSettings | None = None,
        **shared: Any,
    ) -> io.NodeOutput:
        config = config_of(method, shared)
        title = LABELS[config.method]
        trained = train_stages(
            (model, clip, vae),
            dataset,
            [(title, config)],
            title,
            category_tie=category_tie,
            checkpoint_every=checkpoint_every,
            options=options,
            preview=preview,
        )
        return io.NodeOutput(*trained.values)


NODES: list[type[io.ComfyNode]] = [TrainComparedMethod]
