"""Node that draws the same prompts with several concepts and shows where their words look."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from comfy_api.v0_0_2 import io

from ..attndb.attention.prompt_words import split_queries
from ..attndb.config.applied import all_applied
from ..attndb.config.lines import asked_lines
from ..attndb.viz.map_figure import MapFigure, comparison
from .columns import (
    Column,
    Shot,
    base_sockets,
    columns_of,
    draw,
    labels_of,
    labels_widget,
)
from .compare import CATEGORY, figure_widgets, heatmap_style
from .drawing import applied_widgets, drawing_widgets, sampler_settings, sampler_widgets
from .errors import naming_node
from .host.model.clip_layer import layer_warning
from .host.ui.status import show_text
from .sockets import reference_socket
from .wires import first, one_value

log = logging.getLogger(__name__)
_MOST_PROMPTS = 24

Words = tuple[str, ...]
"""One for each column, shown in one row."""


class CompareConcepts(io.ComfyNode):
    """Prompts by concepts, pictures over maps."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AttnDBCompareConcepts",
            display_name="Compare Concepts",
            category=CATEGORY,
            description=(
                "The paper's figure for your own subject: draws the same prompt and seed before "
                "training and with each concept, and shows where the new word and its category "
                "look. Connect the concepts output of Train Concept for its three stages, or any "
                "concepts."
            ),
            search_aliases=[
                *("compare stages", "compare concepts", "grid", "xy plot", "contact sheet"),
                *("heatmap", "attention map", "evaluate", "before after"),
            ],
            inputs=[
                *base_sockets(),
                io.String.Input(
                    "prompts",
                    default="a photo of a {}",
                    multiline=True,
                    tooltip="One prompt in a line, a figure for each. {} becomes the concept's "
                    "words, and the plain category before training. Lines that begin with # are "
                    "left out.",
                ),
                *drawing_widgets(),
                io.String.Input(
                    "words",
                    default="",
                    tooltip="Words whose maps are shown, separated by commas, a row for each. "
                    "Empty: the new word and its category.",
                    advanced=True,
                ),
                labels_widget(),
                *figure_widgets(advanced=True),
                *sampler_widgets(),
                reference_socket(),
                *applied_widgets(),
            ],
            outputs=[
                io.Image.Output(
                    display_name="IMAGE",
                    is_output_list=True,
                    tooltip="A figure for each prompt: pictures over maps, a column each.",
                ),
                io.Image.Output(
                    display_name="pictures",
                    is_output_list=True,
                    tooltip="The pictures alone, prompt by prompt, in the order of the columns.",
                ),
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
        concepts: Mapping[str, Any],
        prompts: Any,
        before_training: Any,
        words: Any,
        labels: Any,
        reference: Any = None,
        strengths: Any = "1.0",
        corrections: Any = "0.0",
        negative: Any = "",
        **shared: Any,
    ) -> io.NodeOutput:
        widgets = {name: one_value(name, value) for name, value in shared.items()}
        typed = split_queries(one_value("words", words))
        applied = all_applied(
            one_value("strengths", strengths), one_value("corrections", corrections)
        )
        before = one_value("before_training", before_training)
        columns = columns_of(concepts, typed, before=before, applied=applied)
        lines = _lines(prompts)
        settings = sampler_settings(widgets)
        style = heatmap_style(widgets)
        names = labels_of(columns, one_value("labels", labels))
        wires = (first(model), first(clip), first(vae))
        photo = first(reference) if reference else None
        unwanted = one_value("negative", negative)
        shots = [Shot(line, settings, unwanted) for line in lines]
        shown = list(zip(*(column.words for column in columns), strict=True))
        if not typed and all(column.subject == column.words[0] for column in columns):
            del shown[1:]  # none was trained with its category, so none says it
        by_column = draw(wires, columns, shots, photo, _reads, len(shown))
        drawn = list(zip(*by_column, strict=True))
        given = [column.concept for column in columns if column.concept is not None]
        warnings = dict.fromkeys(filter(None, (layer_warning(wires[1], c) for c in given)))
        if warnings:
            log.warning("Compare Concepts: %s", "; ".join(warnings))
            show_text("\n".join(warnings))
        figures = [
            comparison(row, names, _standing(shown, row), style, title=line)
            for line, row in zip(lines, drawn, strict=True)
        ]
        pictures = [figure.pictures for row in drawn for figure in row]
        return io.NodeOutput(figures, pictures)


def _reads(column: Column, words: Collection[str]) -> bool:
    """Whether maps of these words are shown."""
    return not set(column.words).isdisjoint(words)


def _standing(shown: Sequence[Words], row: Sequence[MapFigure]) -> list[Words]:
    """The words that a prompt's figures have maps of. A word is given for each column."""
    return [
        words
        for words in shown
        if any(figure.has(word) for figure, word in zip(row, words, strict=True))
    ]


def _lines(prompts: Any) -> list[str]:
    """Prompts, one in a line, of a text or a list of texts. ValueError for none, or too many."""
    lines = asked_lines(prompts)
    if not lines:
        raise ValueError("prompts is empty: write one in a line, with {} for the subject")
    if len(lines) > _MOST_PROMPTS:
        raise ValueError(f"prompts: {len(lines)} lines, and {_MOST_PROMPTS} are drawn at most")
    return lines


NODES: list[type[io.ComfyNode]] = [CompareConcepts]
