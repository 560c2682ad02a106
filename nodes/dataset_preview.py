"""The node that shows what a training will see of a dataset."""

from __future__ import annotations

import logging
from typing import Any

from comfy_api.v0_0_2 import io, ui

from ..attndb.config.choices import Augmentation, CategoryToken
from ..attndb.config.data import DataConfig
from ..attndb.config.presets import PRESETS
from ..attndb.data.dataset import ConceptDataset
from ..attndb.dataset_preview import dataset_preview
from .errors import naming_node
from .host.capture.prompt import training_token_lines
from .host.ui.status import show_text
from .socket_types import Dataset, Options
from .sockets import shared_widgets
from .training_options import NO_OPTIONS, TrainingOptions

log = logging.getLogger(__name__)

_SHARED = ("augmentation", "mask_fill", "latent_pool", "category_tie")
"""Widgets of the training nodes that decide what is seen, besides seed and resolution."""


class PreviewDataset(io.ComfyNode):
    """Crops, masks, words and advice."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        shared = {widget.id: widget for widget in shared_widgets(512)}
        return io.Schema(
            node_id="AttnDBPreviewDataset",
            display_name="Preview Dataset",
            category="AttnDreamBooth/dataset",
            description="Shows what training will see: crops of every photo as the augmentation "
            "makes them, under a veil where a mask leaves them out of the loss, the training "
            "prompts with their tokens, and warnings of what usually goes wrong. It trains "
            "nothing and loads no model.",
            search_aliases=[
                *("preview crops", "augmentation", "check photos", "show tokens", "blurred"),
                *("dataset preview", "training images", "masks", "captions"),
            ],
            inputs=[
                Dataset.Input("dataset", tooltip="Photos and words of the subject."),
                io.Clip.Input(
                    "clip",
                    optional=True,
                    tooltip="The CLIP of the checkpoint: shows the prompts as its tokens, with "
                    "[V] for the placeholder. Not connected: the prompts as they are written.",
                ),
                Options.Input(
                    "options",
                    optional=True,
                    tooltip="From Training Options, as connected to the training: parts of the "
                    "augmentation.",
                ),
                shared["seed"],
                shared["resolution"],
                io.Int.Input(
                    "crops",
                    default=4,
                    min=1,
                    max=8,
                    tooltip="Crops of each photo: those that stage 1 of the published recipe draws "
                    "first with this seed. Later stages draw others in the same way.",
                ),
                *(shared[name] for name in _SHARED),
            ],
            outputs=[
                io.Image.Output(
                    "picture", tooltip="The photos and their crops, one photo in a row."
                ),
                io.String.Output("text", tooltip="The same in words, warnings last."),
            ],
            is_output_node=True,
        )

    @classmethod
    @naming_node
    def execute(
        cls,
        dataset: ConceptDataset,
        seed: int,
        resolution: int,
        crops: int,
        augmentation: Augmentation,
        mask_fill: bool,
        latent_pool: int,
        category_tie: CategoryToken,
        clip: Any = None,
        options: TrainingOptions | None = None,
    ) -> io.NodeOutput:
        data = DataConfig(
            resolution=resolution,
            augmentation=augmentation,
            mask_fill=mask_fill,
            latent_pool=latent_pool,
        )
        stage = PRESETS["paper"]()[0].with_(seed=seed, data=data)
        config = (options or NO_OPTIONS).for_preset().applied(stage)
        tokens = {} if clip is None else training_token_lines(clip, dataset, category_tie)
        preview = dataset_preview(dataset, config, crops, tokens)
        for line in preview.advice:
            log.warning("%s", line)
        show_text("\n".join(preview.advice) or "no warning")
        picture = preview.picture[None]
        shown = {**ui.PreviewImage(picture).as_dict(), **ui.PreviewText(preview.text).as_dict()}
        return io.NodeOutput(picture, preview.text, ui=shown)


NODES: list[type[io.ComfyNode]] = [PreviewDataset]
