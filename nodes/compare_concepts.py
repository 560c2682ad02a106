"""Node that draws the same prompts with several concepts and shows where their words look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from comfy_api.latest import io

from ..attndb.artifacts.concept import TrainedConcept
from ..attndb.attention.prompt_words import split_queries
from ..attndb.viz.heatmaps import HeatmapStyle
from ..attndb.viz.map_figure import MapFigure, comparison
from .compare import CATEGORY, figure_widgets
from .compared import LABELS
from .errors import naming_node
from .host.capture.drawn_figure import drawn_figure
from .host.model.concept_patches import apply_to_model
from .host.model.placeholders import apply_to_clip
from .host.model.sampling import SAMPLERS, SCHEDULERS, SamplerSettings
from .host.ui.progress import CountedProgress
from .socket_types import Concept
from .sockets import MAX_SEED
from .wires import first, one_value

_STAGES = (1, 2, 3)
MOST = 12
"""Columns of a figure."""
_MOST_PROMPTS = 24


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
                io.Model.Input("model", tooltip="The base MODEL, without the concepts."),
                io.Clip.Input("clip", tooltip="The CLIP of the same checkpoint."),
                io.Vae.Input("vae", tooltip="The VAE that decodes the pictures."),
                io.Autogrow.Input(
                    "concepts",
                    template=io.Autogrow.TemplatePrefix(
                        Concept.Input("concept", tooltip="A concept, or several as a list."),
                        prefix="concept_",
                        min=1,
                        max=MOST,
                    ),
                    tooltip="A column for each.",
                ),
                io.String.Input(
                    "prompts",
                    default="a photo of a {}",
                    multiline=True,
                    tooltip="One prompt in a line, a figure for each. {} becomes the concept's "
                    "words, and the plain category before training.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=MAX_SEED,
                    control_after_generate=False,
                    tooltip="The same noise for every column.",
                ),
                io.Int.Input("steps", default=30, min=1, max=1000, tooltip="Sampler steps."),
                io.Float.Input(
                    "cfg", default=7.5, min=0.0, max=100.0, step=0.1, tooltip="Guidance."
                ),
                io.Int.Input(
                    "width", default=512, min=64, max=4096, step=8, tooltip="Of the pictures."
                ),
                io.Int.Input(
                    "height", default=512, min=64, max=4096, step=8, tooltip="Of the pictures."
                ),
                io.Boolean.Input(
                    "before_training",
                    default=True,
                    tooltip="A first column without any concept: the plain category.",
                ),
                io.String.Input(
                    "words",
                    default="",
                    tooltip="Words whose maps are shown, parted by commas, a row for each. Empty: "
                    "the new word and its category.",
                    advanced=True,
                ),
                io.String.Input(
                    "labels",
                    default="",
                    multiline=True,
                    tooltip="Names of the columns, one in a line. Empty: by stage or placeholder.",
                    advanced=True,
                ),
                *figure_widgets(advanced=True),
                io.Combo.Input(
                    "sampler_name",
                    options=SAMPLERS,
                    default="dpmpp_2m",
                    tooltip="The host's sampler.",
                    advanced=True,
                ),
                io.Combo.Input(
                    "scheduler",
                    options=SCHEDULERS,
                    default="normal",
                    tooltip="The host's schedule of noise levels.",
                    advanced=True,
                ),
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
        **shared: Any,
    ) -> io.NodeOutput:
        widgets = {name: one_value(name, value) for name, value in shared.items()}
        typed = split_queries(one_value("words", words))
        columns = _columns(concepts, typed, before=one_value("before_training", before_training))
        lines = _lines(prompts)
        settings = SamplerSettings(
            steps=widgets["steps"],
            cfg=widgets["cfg"],
            width=widgets["width"],
            height=widgets["height"],
            seed=widgets["seed"],
            sampler=widgets["sampler_name"],
            scheduler=widgets["scheduler"],
        )
        style = HeatmapStyle(
            cell=widgets["cell_size"],
            opacity=widgets["opacity"],
            normalization=widgets["normalization"],
        )
        told = [line.strip() for line in one_value("labels", labels).splitlines() if line.strip()]
        names = [*told, *_names([column.concept for column in columns])[len(told) :]]
        wires = (first(model), first(clip), first(vae))
        drawn = _draw(wires, columns, lines, settings)
        shown = list(zip(*(column.words for column in columns), strict=True))
        figures = [
            comparison(panels, names, shown, style, title=line)
            for line, panels in zip(lines, drawn, strict=True)
        ]
        pictures = [panel.pictures for panels in drawn for panel in panels]
        return io.NodeOutput(figures, pictures)


@dataclass(frozen=True)
class _Column:
    """One way to draw the prompts."""

    concept: TrainedConcept | None
    """None: the model as it was."""
    subject: str
    """What stands in a prompt for {}."""
    words: tuple[str, ...]
    """Whose maps are shown."""


def _columns(concepts: Mapping[str, Any], typed: Sequence[str], *, before: bool) -> list[_Column]:
    """The model as it was, if asked for, and the concepts of all sockets, in their order."""
    given = [
        concept
        for value in concepts.values()
        for concept in (value if isinstance(value, list) else [value])
        if concept is not None
    ]
    if not given:
        raise ValueError("there is no concept: connect Train Concept, a stage or Load Concept")
    if len(given) > MOST:
        raise ValueError(f"concepts: {len(given)} are connected, and a figure shows {MOST} at most")
    columns = [_Column(c, c.trigger, _words(c, typed)) for c in given]
    plain = _Column(None, given[0].category, columns[0].words)
    return [plain, *columns] if before else columns


def _words(concept: TrainedConcept, typed: Sequence[str]) -> tuple[str, ...]:
    return tuple(typed) or (concept.placeholder, concept.category)


def _lines(prompts: Any) -> list[str]:
    """Prompts that are not empty, one in a line, of a text or a list of texts."""
    texts = prompts if isinstance(prompts, list) else [prompts]
    lines = [line.strip() for text in texts for line in text.splitlines() if line.strip()]
    if not lines:
        raise ValueError("prompts is empty: write one in a line, with {} for the subject")
    if len(lines) > _MOST_PROMPTS:
        raise ValueError(f"prompts: {len(lines)} lines, and {_MOST_PROMPTS} are drawn at most")
    return lines


def _names(columns: Sequence[TrainedConcept | None]) -> list[str]:
    """What stands below the pictures: how it was trained, where all are one word; else the word."""
    given = [concept for concept in columns if concept is not None]
    ways = [_trained(concept) for concept in given]
    words = [concept.placeholder for concept in given]
    if len(set(words)) == 1 and all(ways):
        names = ways
    elif len(set(words)) == len(words):
        names = words
    else:
        names = [f"{w}, {way}" if way else w for w, way in zip(words, ways, strict=True)]
    return ["before training", *names] if None in columns else names


def _trained(concept: TrainedConcept) -> str:
    """By its last stage's record; empty where it says nothing."""
    stages = concept.record.get("stages") or [{}]
    last = stages[-1] if isinstance(stages[-1], dict) else {}
    if last.get("method") in LABELS:
        return LABELS[last["method"]]
    return f"after stage {last['stage']}" if last.get("stage") in _STAGES else ""


def _draw(
    wires: tuple[Any, Any, Any],
    columns: Sequence[_Column],
    lines: Sequence[str],
    settings: SamplerSettings,
) -> list[list[MapFigure]]:
    """A row of figures for each prompt, a column for each concept."""
    model, clip, vae = wires
    bar, total = CountedProgress(), len(columns) * len(lines) * settings.steps
    rows: list[list[MapFigure]] = [[] for _ in lines]
    for c, column in enumerate(columns):
        own = (model, clip, vae)
        if column.concept is not None:
            applied = apply_to_model(model, column.concept, 1.0)
            own = (applied, apply_to_clip(clip, column.concept), vae)
        for r, line in enumerate(lines):
            before = (c * len(lines) + r) * settings.steps

            def done(steps: int, before: int = before) -> None:
                bar(before + steps, total)

            prompt = line.replace("{}", column.subject)
            rows[r].append(drawn_figure(own, prompt, column.words, settings, done))
    return rows


NODES: list[type[io.ComfyNode]] = [CompareConcepts]
