"""Nodes for a trained concept: apply it, save it, load it."""

from __future__ import annotations

import logging
from typing import Any

from comfy_api.v0_0_2 import io, ui

from ..attndb.artifacts.concept import TrainedConcept
from ..attndb.artifacts.concept_files import load_concept
from ..attndb.artifacts.file_name import check_new_name
from .errors import naming_node
from .host.concept_store import METADATA, PRECISIONS, save_concept_as
from .host.foreign_concept import (
    NO_WEIGHTS,
    foreign_concept,
    foreign_embeddings,
    foreign_loras,
    foreign_state,
    foreign_unets,
)
from .host.linked import LinkedFiles
from .host.model.clip_layer import layer_warning
from .host.model.concept_patches import apply_to_model
from .host.model.text import corrected_clip
from .host.paths import concept_state, embedding_path, find_concept, saved_concepts, weights_path
from .host.ui.status import show_text
from .socket_types import Concept
from .sockets import reference_socket, strength_widget

log = logging.getLogger(__name__)
CATEGORY = "AttnDreamBooth/concept"


def say_layer(node: str, clip: Any, concept: TrainedConcept) -> None:
    """Says in the log and under the node if CLIP ends at another layer than the training's."""
    if warning := layer_warning(clip, concept):
        log.warning("%s: %s", node, warning)
        show_text(warning)


class ApplyConcept(io.ComfyNode):
    """A concept onto MODEL and CLIP."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AttnDBApplyConcept",
            display_name="Apply Concept",
            category=CATEGORY,
            description="Adds a trained concept to a MODEL and a CLIP. Then write '<placeholder> "
            "category' in any stock CLIP Text Encode. Several concepts with different placeholders "
            "can be chained.",
            search_aliases=[
                "use concept",
                "apply lora",
                "load lora",
                "textual inversion",
                "subject",
            ],
            essentials_category="Image Generation",
            inputs=[
                io.Model.Input(
                    "model", tooltip="A MODEL of the family the concept was trained on."
                ),
                io.Clip.Input("clip", tooltip="The CLIP that encodes the prompts."),
                Concept.Input("concept", tooltip="A concept from a stage or from Load Concept."),
                strength_widget(
                    "How much of the U-Net's change is added. 0: the untouched model, 1: "
                    "the trained one. The placeholder is known to CLIP at every strength."
                ),
                io.Float.Input(
                    "correction",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    round=False,
                    optional=True,  # prompts that were saved before go on working
                    tooltip="Turns the learned word towards its category's while drawing (no "
                    "training), for prompts that are not obeyed. 0: off, 0.2: the published "
                    "default of this correction (TEA), 1: the category's word itself.",
                    advanced=True,
                ),
                reference_socket(),
            ],
            outputs=[
                io.Model.Output("model", tooltip="MODEL with the concept."),
                io.Clip.Output(
                    "clip",
                    tooltip="CLIP that understands the placeholder. In a checkpoint that Save "
                    "Checkpoint writes it is plain text: there write embedding:name, of the file "
                    "that Save Concept keeps.",
                ),
                io.String.Output(
                    "trigger", tooltip="The words to write in prompts, e.g. '<my-sloth> sloth'."
                ),
            ],
        )

    @classmethod
    @naming_node
    def execute(
        cls,
        model: Any,
        clip: Any,
        concept: TrainedConcept,
        strength: float,
        correction: float = 0.0,
        reference: dict[str, Any] | None = None,
    ) -> io.NodeOutput:
        applied = apply_to_model(model, concept, strength, reference)
        knows = corrected_clip(clip, concept, correction)
        say_layer("Apply Concept", clip, concept)
        return io.NodeOutput(applied, knows, concept.trigger)


class SaveConcept(io.ComfyNode):
    """A concept into models/embeddings and models/loras."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AttnDBSaveConcept",
            display_name="Save Concept",
            category=CATEGORY,
            description="Saves the embedding (for 'embedding:name' in any prompt) and the weight "
            "change (for the stock Load LoRA node; a LoRA also for Forge, A1111 and diffusers). No "
            "other concept's file is overwritten: a different one of the same name is saved as "
            "name-2.",
            search_aliases=[
                "lora",
                "save lora",
                "save embedding",
                "export",
                "textual inversion",
                "keep",
            ],
            inputs=[
                Concept.Input("concept", tooltip="The concept to keep."),
                io.String.Input(
                    "name",
                    default="my-subject",
                    tooltip="File name without extension; sub-folders with '/'. The same name is "
                    "used in models/embeddings and models/loras.",
                ),
                io.Combo.Input(
                    "precision",
                    options=list(PRECISIONS),
                    default="as trained",
                    optional=True,  # prompts that were saved before go on working
                    tooltip="Of the weight file: fp16 and bf16 are half as large as fp32. The "
                    "embedding is always fp32. as trained: fp32 for an fp32 checkpoint, else fp16.",
                    advanced=True,
                ),
                io.Combo.Input(
                    "metadata",
                    options=list(METADATA),
                    default="record",
                    optional=True,
                    tooltip="record: how it was made, the trigger words, the names of the photos "
                    "and a small picture of the first. for managers: also what model managers and "
                    "ComfyUI's asset browser read, and a preview picture beside each file. no "
                    "photos: neither picture nor names.",
                    advanced=True,
                ),
            ],
            outputs=[
                io.String.Output("name", tooltip="The name the concept was saved under."),
                Concept.Output("concept", tooltip="The concept, unchanged, to chain on."),
            ],
            is_output_node=True,
        )

    @classmethod
    @naming_node
    def execute(
        cls,
        concept: TrainedConcept,
        name: str,
        precision: str = "as trained",
        metadata: str = "record",
    ) -> io.NodeOutput:
        wanted = check_new_name(name)
        saved = save_concept_as(concept, wanted, precision, metadata)
        embedding, weights = embedding_path(saved), weights_path(saved)
        written = [str(embedding), *([str(weights)] if concept.delta else [])]
        log.info("Save Concept: %s", ", ".join(written))
        lines = [f"embedding:{saved}" + (f" + LoRA {saved}" if concept.delta else ""), *written]
        if concept.modules:
            lines.insert(1, "Load Concept and Apply Concept draw it; that embedding alone does not")
        if saved != wanted:
            lines.insert(0, f"{wanted} is taken by another file: saved as {saved}")
        files = ["embeddings", *(["loras"] if concept.delta else [])]
        told = {
            "name": saved,
            "trigger": concept.trigger,
            "files": [f"{kind}/{saved}.safetensors" for kind in files],  # below models/
        }
        shown = {**ui.PreviewText("\n".join(lines)).as_dict(), "attndb": [told]}
        return io.NodeOutput(saved, concept, ui=shown)


_loaded, _imported = LinkedFiles(concept_state), LinkedFiles(foreign_state)


class LoadConcept(io.ComfyNode):
    """A saved concept."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AttnDBLoadConcept",
            display_name="Load Concept",
            category=CATEGORY,
            description="Loads a concept that Save Concept kept in models/embeddings and "
            "models/loras, with its placeholder, category and training record.",
            search_aliases=["load lora", "load embedding", "textual inversion", "subject"],
            inputs=[
                io.Combo.Input(
                    "name",
                    options=saved_concepts(),
                    tooltip="A saved concept. One that is saved now is there after the run.",
                )
            ],
            outputs=[
                Concept.Output("concept", tooltip="To Apply Concept, or to a stage to go on."),
                io.String.Output(
                    "trigger", tooltip="The words to write in prompts, e.g. '<my-sloth> sloth'."
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, name: str) -> bool:
        return True

    @classmethod
    def fingerprint_inputs(cls, name: str | None = None) -> str:
        """Changes when the files do. What comes over a wire is None here."""
        return _loaded.state() if name is None else concept_state(name)

    @classmethod
    @naming_node
    def execute(cls, name: str) -> io.NodeOutput:
        with _loaded.reading(name):
            concept = load_concept(*find_concept(name))
        return io.NodeOutput(concept, concept.trigger)


class ImportConcept(io.ComfyNode):
    """A concept from other programs' files."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AttnDBImportConcept",
            display_name="Import Concept",
            category=CATEGORY,
            description="Makes a concept of an embedding and a LoRA or U-Net of other programs: "
            "the published AttnDreamBooth code's files, A1111, kohya sd-scripts, OneTrainer, "
            "diffusers.",
            search_aliases=["load embedding", "textual inversion", "convert lora", "diffusers"],
            inputs=[
                io.Model.Input("model", tooltip="A MODEL of the family the files are for."),
                io.Combo.Input(
                    "embedding",
                    options=foreign_embeddings(),
                    tooltip="A file in models/embeddings, or learned_embeds in models/diffusers. "
                    "Code in .bin and .pt files is never run.",
                ),
                io.Combo.Input(
                    "lora",
                    options=foreign_loras(),
                    default=NO_WEIGHTS,
                    tooltip="A LoRA in models/loras that belongs to it. Of its keys those of the "
                    "U-Net are taken.",
                ),
                io.String.Input(
                    "category",
                    default="",
                    tooltip="The plain word for what the subject is, e.g. dog.",
                ),
                io.String.Input(
                    "placeholder",
                    default="",
                    tooltip="The word that stands for it in prompts. Empty: as the file calls it.",
                ),
                io.Combo.Input(
                    "unet",
                    options=foreign_unets(),
                    default=NO_WEIGHTS,
                    optional=True,  # prompts that were saved before go on working
                    tooltip="Instead of a LoRA: a folder in models/diffusers with a trained U-Net, "
                    "or a file in models/diffusion_models. What it has otherwise than the MODEL, "
                    "which has to be the checkpoint it was trained from, becomes the concept's.",
                ),
            ],
            outputs=[
                Concept.Output("concept", tooltip="To Apply Concept, or to Save Concept."),
                io.String.Output(
                    "trigger", tooltip="The words to write in prompts, e.g. '<my-sloth> sloth'."
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, embedding: str, lora: str, unet: str = NO_WEIGHTS) -> bool:
        return True

    @classmethod
    def fingerprint_inputs(
        cls,
        embedding: str | None = None,
        lora: str | None = None,
        unet: str | None = NO_WEIGHTS,
        **_: object,
    ) -> str:
        """Changes when the files do. What comes over a wire is None here."""
        if None in (embedding, lora, unet):
            return _imported.state() + foreign_state(embedding, lora, unet)
        return foreign_state(embedding, lora, unet)

    @classmethod
    @naming_node
    def execute(
        cls,
        model: Any,
        embedding: str,
        lora: str,
        category: str,
        placeholder: str,
        unet: str = NO_WEIGHTS,
    ) -> io.NodeOutput:
        with _imported.reading(embedding, lora, unet):
            concept = foreign_concept(model, embedding, lora, placeholder, category, unet)
        return io.NodeOutput(concept, concept.trigger)


NODES: list[type[io.ComfyNode]] = [ApplyConcept, SaveConcept, LoadConcept, ImportConcept]
