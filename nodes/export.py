"""The node that writes a concept in diffusers' layout."""

from __future__ import annotations

import logging
from typing import Any

from comfy_api.v0_0_2 import io, ui

from ..attndb.artifacts.concept import TrainedConcept
from ..attndb.artifacts.file_name import check_new_name
from ..attndb.artifacts.tensor_file import FILE_PRECISIONS
from ..attndb.config.choices import require_choice
from .errors import naming_node
from .host.diffusers_export import export_folder, export_to_diffusers
from .socket_types import Concept

log = logging.getLogger(__name__)
PRECISIONS = {"as the MODEL": None, **FILE_PRECISIONS}


class ExportToDiffusers(io.ComfyNode):
    """A concept into output/diffusers."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AttnDBExportToDiffusers",
            display_name="Export to Diffusers",
            category="AttnDreamBooth/concept",
            description="Writes a folder that Hugging Face diffusers loads: the embedding "
            "(load_textual_inversion) and the MODEL's whole U-Net with the concept in it "
            "(UNet2DConditionModel.from_pretrained). An existing folder is never overwritten: "
            "another export of the same name is written as name-2.",
            search_aliases=[
                "save diffusers",
                "hugging face",
                "huggingface",
                "from_pretrained",
                "save unet",
                "save pipeline",
            ],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="The MODEL that the concept was trained on; LoRAs on it are merged "
                    "too. It may have the concept already: then that is not added again.",
                ),
                Concept.Input("concept", tooltip="The concept to export, at strength 1."),
                io.String.Input(
                    "name",
                    default="my-subject",
                    tooltip="Name of the folder in output/diffusers; sub-folders with '/'.",
                ),
                io.Combo.Input(
                    "precision",
                    options=list(PRECISIONS),
                    default="as the MODEL",
                    tooltip="Of the U-Net's file: 3.4 GB in fp32, half of that in fp16 and bf16. "
                    "as the MODEL: fp32 for an fp32 checkpoint, else fp16.",
                    advanced=True,
                ),
            ],
            outputs=[
                io.String.Output("folder", tooltip="The path of the folder that was written."),
                Concept.Output("concept", tooltip="The concept, unchanged, to chain on."),
            ],
            is_output_node=True,
        )

    @classmethod
    @naming_node
    def execute(
        cls, model: Any, concept: TrainedConcept, name: str, precision: str
    ) -> io.NodeOutput:
        wanted = check_new_name(name)
        require_choice("precision", precision, tuple(PRECISIONS))
        folder = export_to_diffusers(model, concept, wanted, PRECISIONS[precision])
        log.info("Export to Diffusers: %s", folder)
        lines = [str(folder), "How to load it: README.md in the folder"]
        if folder != export_folder(wanted):
            lines.insert(0, f"{wanted} exists and is another export: written as {folder.name}")
        return io.NodeOutput(str(folder), concept, ui=ui.PreviewText("\n".join(lines)))


NODES: list[type[io.ComfyNode]] = [ExportToDiffusers]
