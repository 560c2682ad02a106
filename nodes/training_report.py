"""The node that writes a report of a concept."""

from __future__ import annotations

import logging
from typing import Any

import torch
from comfy_api.v0_0_2 import io, ui
from torch import Tensor

from ..attndb.artifacts.concept import TrainedConcept
from ..attndb.artifacts.file_name import check_new_name
from ..attndb.evaluation.report import HTML, png, report_html, report_picture, to_picture
from ..attndb.evaluation.scores import Scores
from ..attndb.evaluation.training_report import training_report
from .errors import naming_node
from .host.report_files import report_folder, save_report
from .prompt_set import CATEGORY
from .socket_types import Concept
from .socket_types import Scores as ScoresSocket
from .wires import one_value, separate_images

log = logging.getLogger(__name__)


class TrainingReport(io.ComfyNode):
    """A concept as report.html and report.png."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AttnDBTrainingReport",
            display_name="Training Report",
            category=CATEGORY,
            description="Writes what was trained, how, and what came out as one HTML file that "
            "opens without a server and can be sent to somebody, and as a picture: words, photos, "
            "pictures, scores, attention maps, loss curves, settings.",
            search_aliases=[
                *("report", "html", "share results", "export report", "training summary"),
                *("loss curve", "evaluate"),
            ],
            inputs=[
                Concept.Input(
                    "concept", tooltip="What was trained: its settings and losses are in it."
                ),
                io.String.Input(
                    "name",
                    default="my-subject",
                    tooltip="Name of the folder in output/reports; sub-folders with '/'.",
                ),
                io.String.Input(
                    "text",
                    default="",
                    multiline=True,
                    tooltip="What else you want to say, at its top.",
                ),
                io.Image.Input(
                    "photos", optional=True, tooltip="The subject's photos: eight are shown."
                ),
                io.Image.Input(
                    "pictures",
                    optional=True,
                    tooltip="The contact sheet: grid of Evaluate Concept, or any pictures: 60 are "
                    "shown.",
                ),
                ScoresSocket.Input(
                    "scores", optional=True, tooltip="From Evaluate Concept or Score Images."
                ),
                io.Image.Input(
                    "attention_maps",
                    optional=True,
                    tooltip="From Compare Concepts, Attention Maps or Compare Attention.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="picture", tooltip="The report as one picture."),
                io.String.Output(display_name="file", tooltip="Path of the HTML file."),
            ],
            is_input_list=True,
            is_output_node=True,
        )

    @classmethod
    @naming_node
    def execute(
        cls,
        concept: Any,
        name: Any,
        text: Any,
        photos: Any = None,
        pictures: Any = None,
        scores: Any = None,
        attention_maps: Any = None,
    ) -> io.NodeOutput:
        wanted = check_new_name(one_value("name", name))
        report = training_report(
            _only(concept),
            photos=_pictures(photos),
            pictures=_pictures(pictures),
            scores=_rows(scores),
            maps=_pictures(attention_maps),
            text=one_value("text", text),
        )
        picture = report_picture(report)
        folder = save_report(wanted, report_html(report), png(to_picture(picture)))
        log.info("Training Report: %s", folder / HTML)
        lines = [str(folder / HTML), "Open it in a browser, or send it: it needs nothing else"]
        if folder != report_folder(wanted):
            lines.insert(0, f"{wanted} exists and is another report: written as {folder.name}")
        shown = {
            **ui.PreviewImage(picture[None]).as_dict(),
            **ui.PreviewText("\n".join(lines)).as_dict(),
        }
        return io.NodeOutput(picture[None], str(folder / HTML), ui=shown)


def _only(concepts: Any) -> TrainedConcept:
    """The concept on the wire. ValueError for several: a report of the first would say nothing of
    what the others learned, e.g. of Train Concept's stages 2 and 3."""
    given = concepts if isinstance(concepts, list) else [concepts]
    different = {concept.digest(): concept for concept in given}
    if len(different) != 1:
        raise ValueError(
            f"concept is a list of {len(given)}: a report is of one. Connect the output concept of "
            "Train Concept instead of concepts, or best of Evaluate Concept"
        )
    return given[0]


def _pictures(images: Any) -> list[Tensor]:
    """Every picture of the batches on a wire; none where it is not connected."""
    return [] if images is None else [torch.from_numpy(p) for p in separate_images(images)]


def _rows(scores: Any) -> list[Scores]:
    """The rows of one evaluation, or of several."""
    groups = scores if isinstance(scores, list) else [scores]
    return [row for group in groups if group is not None for row in group]


NODES: list[Any] = [TrainingReport]
