"""The node that trains the methods which AttnDreamBooth is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from comfy_api.v0_0_2 import io

from ..attndb.config.stage import StageConfig
from .compared_methods import BY_LABEL, BY_NAME, METHODS
from .errors import naming_node
from .host.ui.preview import PreviewSettings
from .sockets import (
    extra_sockets,
    result_sockets,
    shared_widgets,
    wire_sockets,
)
from .training import train_stages, with_shared
from .training_options import TrainingOptions


def config_of(settings: Mapping[str, Any], shared: Mapping[str, Any]) -> StageConfig:
    """From what the node's widgets say. ValueError names a method that is not known."""
    label = settings["method"]
    if label not in BY_LABEL:
        raise ValueError(f"method = {label!r}: choose one of {', '.join(BY_LABEL)}")
    return with_shared(BY_LABEL[label].config(settings), shared)


class TrainComparedMethod(io.ComfyNode):
    """One of the methods that AttnDreamBooth is compared with."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AttnDBTrainComparedMethod",
            display_name="Train Compared Method",
            category="AttnDreamBooth/training",
            description="Trains the subject by another published method, to be compared with "
            "AttnDreamBooth on the same photos: " + ", ".join(BY_LABEL) + ". Defaults are the "
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
                        io.DynamicCombo.Option(method.label, method.widgets()) for method in METHODS
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
        title = BY_NAME[config.method].label
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
