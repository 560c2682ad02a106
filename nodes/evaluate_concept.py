"""The node that draws a concept over many prompts and scores what it drew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from comfy_api.v0_0_2 import io, ui
from torch import Tensor

from ..attndb.config.applied import all_applied
from ..attndb.evaluation.prompts import prompt_lines
from ..attndb.evaluation.score_table import BEST_BY, BOTH
from ..attndb.evaluation.scores import Reference
from .columns import (
    base_sockets,
    columns_of,
    labels_of,
    labels_widget,
)
from .compare import cell_size_widget
from .drawing import applied_widgets, drawing_widgets, sampler_settings, sampler_widgets
from .errors import naming_node
from .evaluation import Trial, evaluate
from .prompt_set import CATEGORY
from .socket_types import Concept, ImageEncoder
from .socket_types import Scores as ScoresSocket
from .wires import first, one_value, separate_images, separate_masks

MOST_ENCODERS = 4


def encoder_sockets() -> io.Input:
    """One encoder, or several."""
    return io.Autogrow.Input(
        "encoders",
        template=io.Autogrow.TemplatePrefix(
            ImageEncoder.Input("encoder", tooltip="From Load Image Encoder."),
            prefix="encoder_",
            min=1,
            max=MOST_ENCODERS,
        ),
        tooltip="What pictures are compared by: one, or several side by side. The first decides "
        "what is best.",
    )


def given_encoders(sockets: Mapping[str, Any]) -> list[Any]:
    """Of all sockets, in their order. ValueError if there is none."""
    found = [first(value) for value in sockets.values() if first(value) is not None]
    if not found:
        raise ValueError("there is no encoder: connect Load Image Encoder")
    return found


def reference_of(photos: Any, masks: Any) -> Reference:
    """The subject's photos and their masks, of what is on the wires. ValueError without a photo."""
    pictures = [rgb(torch.from_numpy(photo)) for photo in separate_images(photos)]
    return Reference(photos=pictures, masks=[torch.from_numpy(m) for m in separate_masks(masks)])


def rgb(picture: Tensor) -> Tensor:
    """(Y, X, 3) of a picture with 1, 3 or 4 channels."""
    return picture[..., :3].expand(-1, -1, 3)


class EvaluateConcept(io.ComfyNode):
    """Prompts by concepts, as scores."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AttnDBEvaluateConcept",
            display_name="Evaluate Concept",
            category=CATEGORY,
            description="Draws every prompt before training and with each concept, with the same "
            "noise, and scores the pictures: does it look like the photos, does it say what the "
            "prompt says, is the subject there at all? Compare two settings, methods or "
            "checkpoints, and keep the best.",
            search_aliases=[
                *("evaluate", "clip score", "best checkpoint", "compare concepts", "benchmark"),
                *("identity", "text alignment", "metrics", "xy plot"),
            ],
            inputs=[
                *base_sockets(),
                encoder_sockets(),
                io.Image.Input(
                    "photos", tooltip="The subject's photos: what identity is compared with."
                ),
                io.String.Input(
                    "prompts",
                    default="a photo of a {}",
                    multiline=True,
                    tooltip="One prompt in a line, each with {} for the subject. Or connect Prompt "
                    "Set.",
                ),
                io.Int.Input(
                    "images_per_prompt",
                    default=1,
                    min=1,
                    max=64,
                    tooltip="Pictures of each prompt, with the seeds seed, seed + 1, ... More: "
                    "surer numbers.",
                ),
                *drawing_widgets(
                    "Of the first picture of each prompt: the same noise for every column.",
                    "A first row without any concept: the plain category. Its pictures are also "
                    "what 'present' compares with; without it that is not measured.",
                ),
                io.Combo.Input(
                    "best_by",
                    options=list(BEST_BY),
                    default=BOTH,
                    tooltip="What the output 'best' is chosen by. identity and text: their "
                    "geometric mean, which is high only where both are.",
                ),
                io.Mask.Input(
                    "masks",
                    optional=True,
                    tooltip="1 where the subject is, one for each photo: identity is also measured "
                    "on the foreground. That of the pictures is what Mask Subject finds in them.",
                ),
                labels_widget(),
                cell_size_widget("grid"),
                *sampler_widgets(),
                *applied_widgets(),
            ],
            outputs=[
                io.Image.Output(
                    display_name="grid",
                    tooltip="The first picture of each prompt: a row each, a column by concept.",
                ),
                io.String.Output(
                    display_name="table", tooltip="The scores as a table in Markdown."
                ),
                Concept.Output(
                    display_name="best",
                    tooltip="The concept with the best scores, as it was trained: to Save Concept. "
                    "At which of several strengths it is best stands in the table.",
                ),
                ScoresSocket.Output(display_name="scores", tooltip="To Training Report."),
                io.Image.Output(
                    display_name="pictures",
                    is_output_list=True,
                    tooltip="All pictures: concept by concept, prompt by prompt.",
                ),
            ],
            is_input_list=True,
            is_output_node=True,
        )

    @classmethod
    @naming_node
    def execute(
        cls,
        model: Any,
        clip: Any,
        vae: Any,
        concepts: Mapping[str, Any],
        encoders: Mapping[str, Any],
        photos: Any,
        prompts: Any,
        before_training: Any,
        labels: Any,
        masks: Any = None,
        strengths: Any = "1.0",
        corrections: Any = "0.0",
        negative: Any = "",
        **shared: Any,
    ) -> io.NodeOutput:
        widgets = {name: one_value(name, value) for name, value in shared.items()}
        trial = Trial(
            prompts=prompt_lines(prompts),
            images=widgets["images_per_prompt"],
            settings=sampler_settings(widgets),
            reference=reference_of(photos, masks),
            encoders=given_encoders(encoders),
            best_by=widgets["best_by"],
            negative=one_value("negative", negative),
        )
        applied = all_applied(
            one_value("strengths", strengths), one_value("corrections", corrections)
        )
        before = one_value("before_training", before_training)
        columns = columns_of(concepts, (), before=before, applied=applied)
        names = labels_of(columns, one_value("labels", labels))
        found = evaluate((first(model), first(clip), first(vae)), columns, names, trial)
        grid, table = found.grid(widgets["cell_size"])[None], found.table
        pictures = [figure.pictures for row in found.rows for figure in row.figures]
        shown = {**ui.PreviewImage(grid).as_dict(), **ui.PreviewText(table).as_dict()}
        best, scores = found.best.column.concept, tuple(found.scores)
        return io.NodeOutput(grid, table, best, scores, pictures, ui=shown)


NODES: list[Any] = [EvaluateConcept]
