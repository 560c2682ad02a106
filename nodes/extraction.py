"""The node that makes a concept thin."""

from __future__ import annotations

import torch
from comfy_api.v0_0_2 import io, ui

from ..attndb.artifacts.concept import TrainedConcept
from ..attndb.artifacts.lora_extraction import ExtractionConfig, extract_concept, extraction_table
from ..attndb.artifacts.weight_file import weight_file_keys
from .errors import naming_node
from .host.ui.progress import CountedProgress
from .socket_types import Concept


class ExtractLoRA(io.ComfyNode):
    """A concept's weight change as a LoRA."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AttnDBExtractLoRA",
            display_name="Extract LoRA",
            category="AttnDreamBooth/concept",
            description="Makes a concept of whole weights a small one: every weight's change "
            "becomes the nearest LoRA of a rank (singular value decomposition; convolutions too). "
            "Save Concept writes it for the stock Load LoRA and other programs. The table says "
            "what is lost.",
            search_aliases=["svd", "lora extraction", "resize lora", "compress", "small file"],
            inputs=[
                Concept.Input("concept", tooltip="A trained concept; it is not changed."),
                io.Int.Input(
                    "rank",
                    default=32,
                    min=1,
                    max=1280,
                    tooltip="Largest rank of a weight. 4 to 128 is usual: the file grows with it.",
                ),
                io.Float.Input(
                    "energy",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    round=False,
                    tooltip="Share of every change's squared norm to keep, 0.9 for example: each "
                    "weight gets the smallest rank that keeps it, at most the rank above. 0: every "
                    "weight gets the rank above, or its own where that is less.",
                ),
                io.Boolean.Input(
                    "biases_and_norms",
                    default=False,
                    tooltip="Keep the changes of biases and norms, which are no matrices, whole: "
                    "the stock Load LoRA and Forge read them. Off: nothing but pairs of thin "
                    "matrices, for diffusers, which refuses a file with more, and A1111. On the "
                    "toy model they make no difference.",
                    advanced=True,
                ),
            ],
            outputs=[
                Concept.Output("concept", tooltip="The thin concept: to Save Concept."),
                io.String.Output(
                    "table", tooltip="Rank, relative error and kept energy: of all, then by weight."
                ),
                io.LoraModel.Output(
                    "lora",
                    tooltip="The weights as the stock Load LoRA Model takes them: what Load LoRA "
                    "reads of the file that Save Concept writes.",
                ),
            ],
        )

    @classmethod
    @naming_node
    def execute(
        cls, concept: TrainedConcept, rank: int, energy: float, biases_and_norms: bool
    ) -> io.NodeOutput:
        config = ExtractionConfig(rank=rank, energy=energy, keep_vectors=biases_and_norms)
        with torch.inference_mode(False), torch.no_grad():
            thin, extraction = extract_concept(concept, config, CountedProgress())
        table = extraction_table(extraction)
        tensors = weight_file_keys(thin.delta, thin.base_family)
        lora = {key: value.contiguous() for key, value in tensors.items()}
        return io.NodeOutput(thin, table, lora, ui=ui.PreviewText(table))


NODES: list[type[io.ComfyNode]] = [ExtractLoRA]
