"""The node that draws a concept over many prompts and scores what it drew."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from comfy_api.v0_0_2 import io, ui
from torch import Tensor

from ..attndb.attention import map_metrics
from ..attndb.config.choices import require, require_choice
from ..attndb.evaluation.prompts import context, prompt_lines, whole
from ..attndb.evaluation.score_table import BEST_BY, BOTH, best_row, merit, score_table, won
from ..attndb.evaluation.scores import IDENTITY, TEXT, Reference, Sample, Scores, score
from ..attndb.viz.evaluation_grid import evaluation_grid
from ..attndb.viz.map_figure import MapFigure
from .columns import (
    Column,
    Shot,
    base_sockets,
    columns_of,
    draw,
    drawing_widgets,
    labels_of,
    labels_widget,
    sampler_settings,
    sampler_widgets,
)
from .compare import cell_size_widget
from .errors import naming_node
from .host.model.added_parts import looks_at_a_photo
from .host.model.reference_image import photo_latent
from .host.model.sampling import SamplerSettings
from .host.ui.images import from_image
from .prompt_set import CATEGORY
from .socket_types import Concept, ImageEncoder
from .socket_types import Scores as ScoresSocket
from .sockets import MAX_SEED
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
                    "on the foreground. That of the pictures is where the category's attention is.",
                ),
                labels_widget(),
                cell_size_widget("grid"),
                *sampler_widgets(),
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
                    tooltip="The concept with the best scores: to Save Concept.",
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
        **shared: Any,
    ) -> io.NodeOutput:
        widgets = {name: one_value(name, value) for name, value in shared.items()}
        lines = prompt_lines(prompts)
        given = given_encoders(encoders)
        by = widgets["best_by"]
        require_choice("best_by", by, tuple(BEST_BY))
        check_best_by(by, given)
        reference = reference_of(photos, masks)
        columns = columns_of(concepts, (), before=one_value("before_training", before_training))
        names = labels_of(columns, one_value("labels", labels))
        settings, count = sampler_settings(widgets), widgets["images_per_prompt"]
        shots = shots_of(lines, settings, count)
        photo = photo_of(columns, first(vae), reference, settings)
        drawn = draw((first(model), first(clip), first(vae)), columns, shots, photo)
        figures = [list(figures) for figures in zip(*drawn, strict=True)]  # by column
        rows = scored(columns, names, figures, shots, reference, given)
        concepts_at = [n for n, column in enumerate(columns) if column.concept is not None]
        best = concepts_at[best_row([rows[n] for n in concepts_at], by)]
        table = f"{score_table(rows)}\n\n{verdict(rows, concepts_at, best, by)}"
        first_of_each = [[pictured(f[r * count]) for f in figures] for r in range(len(lines))]
        cell = widgets["cell_size"]
        grid = evaluation_grid(reference.photos, lines, first_of_each, names, cell)[None]
        pictures = [figure.pictures for column in figures for figure in column]
        shown = {**ui.PreviewImage(grid).as_dict(), **ui.PreviewText(table).as_dict()}
        return io.NodeOutput(grid, table, columns[best].concept, tuple(rows), pictures, ui=shown)


def check_best_by(by: str, encoders: Sequence[Any]) -> None:
    """ValueError unless the encoders give what the best is chosen by."""
    if by in (BOTH, TEXT) and not any(encoder.reads_text for encoder in encoders):
        raise ValueError(
            f"best_by = {by!r} needs an encoder that reads texts (CLIP with its text half): "
            "connect one, or set best_by to identity"
        )


def shots_of(lines: Sequence[str], settings: SamplerSettings, count: int) -> list[Shot]:
    """Each prompt so many times, with seeds one after the other. ValueError for none."""
    require(count >= 1, "images_per_prompt", count, "use 1 or more")
    return [
        Shot(line, dataclasses.replace(settings, seed=(settings.seed + n) % (MAX_SEED + 1)))
        for line in lines
        for n in range(count)
    ]


def photo_of(
    columns: Sequence[Column], vae: Any, reference: Reference, settings: SamplerSettings
) -> dict[str, Tensor] | None:
    """LATENT of the subject's first photo, where a concept looks at one (ViCo)."""
    if not any(c.concept is not None and looks_at_a_photo(c.concept) for c in columns):
        return None
    side = min(settings.width, settings.height)
    return photo_latent(vae, from_image(reference.photos[0][None]), side)


def pictured(figure: MapFigure) -> Tensor:
    """The picture of a figure, (Y, X, 3)."""
    picture = figure.picture(0)
    assert picture is not None, "a drawn figure has a picture"
    return picture.float().cpu()


def scored(
    columns: Sequence[Column],
    names: Sequence[str],
    figures: Sequence[Sequence[MapFigure]],
    shots: Sequence[Shot],
    reference: Reference,
    encoders: Sequence[Any],
) -> list[Scores]:
    """A row of scores for each column. What was drawn before training are the distractors."""
    samples = [
        [_sample(c, shot, f) for shot, f in zip(shots, own, strict=True)]
        for c, own in zip(columns, figures, strict=True)
    ]
    others: dict[Any, list[Tensor]] = {}
    for column, own in zip(columns, samples, strict=True):
        if column.concept is None:
            for sample in own:
                others.setdefault(sample.scene, []).append(sample.picture)
    rows = []
    for number, (column, own) in enumerate(zip(columns, samples, strict=True)):
        row = score(names[number], own, reference, encoders, others)
        twin = next((n for n in range(number) if columns[n].key == column.key), None)
        notes = []
        if twin is not None:
            notes.append(f"the very same concept as {names[twin]}; it was drawn once")
        if column.words[1] != columns[0].words[1]:
            notes.append(
                f"its category is {column.words[1]}, that of {names[0]} {columns[0].words[1]}: "
                "text and present are not measured by the same words"
            )
        rows.append(dataclasses.replace(row, notes=tuple(notes)))
    return rows


def _sample(column: Column, shot: Shot, figure: MapFigure) -> Sample:
    category = column.words[1]
    subject, other = (_map(figure, word) for word in column.words[:2])
    agree = None
    if column.concept is not None and subject is not None and other is not None:
        agree = float(map_metrics.similarity(subject, other).mean())
    word = next((w for w in (category, column.words[0]) if _map(figure, w) is not None), None)
    return Sample(
        picture=pictured(figure),
        text=whole(shot.prompt, category),
        context=context(shot.prompt),
        mask=None if word is None else figure.mask(word, binary=True)[0],
        scene=shot.prompt,
        attention=agree,
    )


def _map(figure: MapFigure, word: str) -> Tensor | None:
    try:
        return figure.maps.of(word)
    except ValueError:
        return None


def verdict(rows: Sequence[Scores], concepts: Sequence[int], best: int, by: str) -> str:
    """Which is best, and by how much."""
    own = merit(rows[best], by)
    others = [n for n in concepts if n != best and merit(rows[n], by) is not None]
    told = f"Best by {by}: {rows[best].label} ({own:.3f})"
    if not others:
        return f"{told}."
    second = max(others, key=lambda n: merit(rows[n], by) or 0.0)
    told += f"; next is {rows[second].label} ({merit(rows[second], by):.3f})."
    pairs = {m: won(rows[best], rows[second], m) for m in (IDENTITY, TEXT)}
    counts = [f"{m} in {pair[0]} of {pair[1]}" for m, pair in pairs.items() if pair and pair[1]]
    return f"{told} Pictures in which it is ahead of that: {', '.join(counts)}." if counts else told


NODES: list[Any] = [EvaluateConcept]
