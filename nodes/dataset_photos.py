"""The node that gives a dataset's photos, masks and captions to any other node."""

from __future__ import annotations

from typing import Any

from comfy_api.v0_0_2 import io
from PIL import Image

from ..attndb.config.choices import require
from ..attndb.data.dataset import ConceptDataset
from .errors import naming_node
from .host.ui.images import to_image, to_mask
from .host.ui.progress import CountedProgress
from .socket_types import Dataset


class DatasetPhotos(io.ComfyNode):
    """What a dataset holds, as lists."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AttnDBDatasetPhotos",
            display_name="Dataset Photos",
            category="AttnDreamBooth/dataset",
            description="The photos of a dataset as images, upright and in sRGB as the training "
            "reads them, with their masks and captions: for Evaluate Concept, Score Images and "
            "nodes of other packs, without loading the folder a second time.",
            search_aliases=[
                *(
                    "dataset to images",
                    "unpack dataset",
                    "photos",
                    "get images",
                    "reference images",
                ),
                *("training images", "dataset masks", "dataset captions"),
            ],
            inputs=[
                Dataset.Input("dataset", tooltip="Photos and words of the subject."),
                io.Int.Input(
                    "longest_side",
                    default=1024,
                    min=64,
                    max=8192,
                    step=8,
                    tooltip="Larger photos are made this large, so that a folder of phone photos "
                    "fits into memory. Smaller ones stay as they are.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "photos",
                    is_output_list=True,
                    tooltip="A list, since their sizes may differ; without prior images.",
                ),
                io.Mask.Output(
                    "masks",
                    is_output_list=True,
                    tooltip="1 where the subject is, one for each photo; 1 everywhere on a photo "
                    "without a mask.",
                ),
                io.String.Output(
                    "captions",
                    is_output_list=True,
                    tooltip="The training prompt of each photo, {} for the subject: its caption, "
                    "else the first line of the template.",
                ),
            ],
        )

    @classmethod
    @naming_node
    def execute(cls, dataset: ConceptDataset, longest_side: int) -> io.NodeOutput:
        require(longest_side >= 64, "longest_side", longest_side, "use 64 or more pixels")
        progress = CountedProgress()
        photos: list[Any] = []
        masks: list[Any] = []
        for number, photo in enumerate(dataset.photos, start=1):
            small = _shrunk(photo.image, longest_side)
            mask = photo.mask and _shrunk(photo.mask, longest_side)
            photos.append(to_image([small]))
            masks.append(to_mask(mask or Image.new("L", small.size, 255)))
            progress(number, len(dataset.photos))
        captions = [photo.caption or dataset.templates[0] for photo in dataset.photos]
        return io.NodeOutput(photos, masks, captions)


def _shrunk(picture: Image.Image, longest_side: int) -> Image.Image:
    """The same of both a photo and its mask: they stay of one size."""
    if max(picture.size) <= longest_side:
        return picture
    scale = longest_side / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


NODES: list[Any] = [DatasetPhotos]
