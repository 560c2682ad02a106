"""The node that adds prior images to a concept dataset."""

from __future__ import annotations

from typing import Any

from comfy_api.v0_0_2 import io

from ..attndb.data.dataset import ConceptDataset
from ..attndb.data.photo_file import photos_from_arrays
from ..attndb.data.prior import DEFAULT_PRIOR_PROMPT
from .errors import naming_node
from .socket_types import Dataset
from .wires import one_value, separate_images


class AddPriorImages(io.ComfyNode):
    """Pictures of the category, for prior preservation."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AttnDBAddPriorImages",
            display_name="Add Prior Images",
            category="AttnDreamBooth/dataset",
            description="Prior preservation (DreamBooth): stages 2 and 3 also train on pictures of "
            "the plain category, so that the model keeps its idea of it. Draw them in the graph "
            "with the base model, or load them. Not part of the published AttnDreamBooth recipe.",
            search_aliases=["prior preservation", "class images", "regularization images"],
            inputs=[
                Dataset.Input("dataset", tooltip="Photos and words of the subject."),
                io.Image.Input(
                    "images",
                    tooltip="Pictures of the category as a batch or a list, e.g. drawn by KSampler "
                    "from 'a photo of a cat' with the base model. 100 to 200 are usual.",
                ),
                io.String.Input(
                    "prompt",
                    default=DEFAULT_PRIOR_PROMPT,
                    tooltip="What the images show: the prompt they were drawn from. {} becomes "
                    "the dataset's category. Without the placeholder.",
                ),
                io.Float.Input(
                    "weight",
                    default=1.0,
                    min=0.0,
                    max=1000.0,
                    step=0.05,
                    tooltip="What the loss of these images counts next to the subject's; above 0. "
                    "DreamBooth: 1.",
                ),
            ],
            outputs=[
                Dataset.Output(
                    "dataset", tooltip="The dataset with prior images: connect to the stages."
                )
            ],
            is_input_list=True,
        )

    @classmethod
    @naming_node
    def execute(cls, dataset: Any, images: Any, prompt: Any, weight: Any) -> io.NodeOutput:
        subject: ConceptDataset = one_value("dataset", dataset)
        photos = photos_from_arrays(separate_images(images), name="prior image")
        added = subject.with_prior(photos, one_value("prompt", prompt), one_value("weight", weight))
        return io.NodeOutput(added)


NODES: list[type[io.ComfyNode]] = [AddPriorImages]
