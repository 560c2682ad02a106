"""The node that finds the subject on photos, with the model's own attention."""

from __future__ import annotations

import logging
from typing import Any

from comfy_api.v0_0_2 import io

from ..attndb.data.dataset import check_category
from .errors import naming_node
from .host.capture.subject_mask import SubjectMaskSettings, sought, subject_masks
from .host.ui.progress import CountedProgress
from .wires import first, one_value, separate_images

log = logging.getLogger(__name__)

_SMALL, _LARGE = 0.02, 0.9


class MaskSubject(io.ComfyNode):
    """Masks of a word on photos."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AttnDBMaskSubject",
            display_name="Mask Subject",
            category="AttnDreamBooth/dataset",
            description="Finds the subject on photos with the model's own attention to its "
            "category, so that nobody has to paint: one forward pass for each photo. Coarse, as "
            "attention is: look at it in Preview Dataset.",
            search_aliases=[
                "segment",
                "segmentation",
                "mask",
                "attention mask",
                "remove background",
            ],
            inputs=[
                io.Model.Input("model", tooltip="The base MODEL. It stays as it is."),
                io.Clip.Input("clip", tooltip="The CLIP of the same checkpoint."),
                io.Vae.Input("vae", tooltip="The VAE that turns the photos into latents."),
                io.Image.Input(
                    "images", tooltip="The photos: a batch, or a list whose sizes may differ."
                ),
                io.String.Input(
                    "category",
                    default="",
                    tooltip="The plain word for the subject, e.g. dog: the mask is where the model "
                    "sees it. The same as in the dataset node.",
                ),
                io.Float.Input(
                    "noise",
                    default=0.1,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="Where on the noise schedule the model looks: 0.05 to 0.3 work; with "
                    "much noise it sees less of the photo.",
                    advanced=True,
                ),
                io.Float.Input(
                    "grow",
                    default=0.0,
                    min=0.0,
                    max=0.5,
                    step=0.01,
                    tooltip="Make the mask larger on every side, by this share of the photo's "
                    "shorter side.",
                    advanced=True,
                ),
                io.Int.Input(
                    "resolution",
                    default=512,
                    min=64,
                    max=2048,
                    step=8,
                    tooltip="Shorter side at which the model looks: 512 for SD 1.5 and 2.1-base, "
                    "768 for 2.1-768, 1024 for SDXL. Smaller photos stay as they are.",
                    advanced=True,
                ),
            ],
            outputs=[
                io.Mask.Output(
                    "masks",
                    is_output_list=True,
                    tooltip="1 where the subject is, one for each photo: to Concept Dataset From "
                    "Images.",
                )
            ],
            is_input_list=True,
        )

    @classmethod
    @naming_node
    def execute(
        cls,
        model: Any,
        clip: Any,
        vae: Any,
        images: Any,
        category: Any,
        noise: Any,
        grow: Any,
        resolution: Any,
    ) -> io.NodeOutput:
        word = one_value("category", category).strip()
        check_category(word)
        photos = separate_images(images)
        if not photos:
            raise ValueError("there is no image: connect the photos of the subject")
        settings = SubjectMaskSettings(
            noise=one_value("noise", noise),
            grow=one_value("grow", grow),
            resolution=one_value("resolution", resolution),
        )
        subject, wires = sought(first(clip), word), (first(model), first(vae))
        masks = subject_masks(wires, photos, subject, settings, CountedProgress())
        for number, mask in enumerate(masks, start=1):
            share = float(mask.mean())
            if not _SMALL < share < _LARGE:
                log.warning(
                    "image %d: the mask of %r covers %.0f %% of it: is it there? Another word for "
                    "it may be found better",
                    number,
                    word,
                    100 * share,
                )
        return io.NodeOutput([mask[None] for mask in masks])


NODES: list[type[io.ComfyNode]] = [MaskSubject]
