"""The node that loads what pictures are compared by."""

from __future__ import annotations

from typing import Any

from comfy_api.v0_0_2 import io

from ..attndb.config.choices import require_choice
from .errors import naming_node
from .host.image_encoders import WiredEncoder, encoder_state, folder_encoder, micro_encoder
from .host.linked import LinkedFiles
from .prompt_set import CATEGORY
from .socket_types import ImageEncoder

FOLDER, WIRES, TOY = "folder of CLIP, DINO or DINOv2", "CLIP_VISION on the wire", "toy model"
_linked = LinkedFiles(encoder_state)


class LoadImageEncoder(io.ComfyNode):
    """An encoder for scores."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AttnDBLoadImageEncoder",
            display_name="Load Image Encoder",
            category=CATEGORY,
            description="What pictures are compared by in Evaluate Concept and Score Images: CLIP "
            "(identity and text), DINO or DINOv2 (identity). From a local Hugging Face folder, "
            "from ComfyUI's own CLIP_VISION, or the small CLIP of the toy model. Nothing is "
            "downloaded.",
            search_aliases=[
                *("clip score", "clip-i", "clip-t", "dino", "dinov2", "identity score"),
                *("image similarity", "metric"),
            ],
            inputs=[
                io.Combo.Input(
                    "encoder",
                    options=[FOLDER, WIRES, TOY],
                    default=FOLDER,
                    tooltip="Where it comes from. toy model: for pictures of the embedded model "
                    "only.",
                ),
                io.String.Input(
                    "folder",
                    default="",
                    tooltip="A folder below ComfyUI's models/, e.g. models/clip_vision/"
                    "clip-vit-base-patch32: type clip-vit-base-patch32. It holds config.json, "
                    "model.safetensors, preprocessor_config.json and, for CLIP, vocab.json and "
                    "merges.txt.",
                ),
                io.ClipVision.Input(
                    "clip_vision",
                    optional=True,
                    tooltip="From Load CLIP Vision, for 'CLIP_VISION on the wire'.",
                ),
                io.Clip.Input(
                    "clip",
                    optional=True,
                    tooltip="The text half of the same CLIP, with its projection, from Load CLIP: "
                    "for scores of text. Not the CLIP of an SD checkpoint. Not connected: scores "
                    "of identity alone.",
                ),
            ],
            outputs=[
                ImageEncoder.Output(
                    "encoder", tooltip="To Evaluate Concept or Score Images; several can be."
                )
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, encoder: object = None, folder: object = None, **_: object) -> str:
        """Changes when the folder's files do. What comes over a wire is None here."""
        if encoder is not None and encoder != FOLDER:
            return ""
        return _linked.state() if None in (encoder, folder) else encoder_state(folder)

    @classmethod
    @naming_node
    def execute(
        cls, encoder: str, folder: str, clip_vision: Any = None, clip: Any = None
    ) -> io.NodeOutput:
        require_choice("encoder", encoder, (FOLDER, WIRES, TOY))
        if encoder == TOY:
            return io.NodeOutput(micro_encoder())
        if encoder == FOLDER:
            with _linked.reading(folder):
                return io.NodeOutput(folder_encoder(folder))
        if clip_vision is None:
            raise ValueError(f"encoder = {WIRES!r}: connect Load CLIP Vision to clip_vision")
        return io.NodeOutput(WiredEncoder(clip_vision, clip))


NODES: list[Any] = [LoadImageEncoder]
