"""Evaluation: prompts drawn before training and with each concept, and what the pictures score."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..attndb.attention import map_metrics
from ..attndb.config.choices import require, require_choice
from ..attndb.config.drawing import MAX_SEED
from ..attndb.evaluation.prompts import context, whole
from ..attndb.evaluation.score_table import BEST_BY, BOTH, best_row, merit, score_table, won
from ..attndb.evaluation.scores import IDENTITY, TEXT, Reference, Sample, Scores, score
from ..attndb.viz.evaluation_grid import evaluation_grid
from ..attndb.viz.map_figure import MapFigure
from .columns import Column, Shot, draw
from .host.capture.subject_mask import Sought, SubjectMaskSettings, sought, subject_masks
from .host.model.added_parts import looks_at_a_photo
from .host.model.clip_layer import layer_warning
from .host.model.reference_image import photo_latent
from .host.model.sampling import SamplerSettings
from .host.ui.images import from_image
from .host.ui.progress import stops_at_cancel


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What every column draws, and how that is judged."""

    prompts: Sequence[str]
    """Each with {} for the subject."""
    images: int
    """Pictures of each prompt, with seeds one after the other."""
    settings: SamplerSettings
    """Of the first picture of each prompt."""
    reference: Reference
    """The subject's photos."""
    encoders: Sequence[Any]
    """What pictures are compared by; the first decides what is best."""
    best_by: str
    """One of BEST_BY."""
    negative: str = ""
    """What the pictures should not show, with {} for the subject."""

    def __post_init__(self) -> None:
        require(self.images >= 1, "images_per_prompt", self.images, "use 1 or more")
        check_best_by(self.best_by, self.encoders)

    @property
    def shots(self) -> list[Shot]:
        """The pictures that a column draws, prompt by prompt."""
        first = self.settings.seed
        each = [
            dataclasses.replace(self.settings, seed=(first + number) % (MAX_SEED + 1))
            for number in range(self.images)
        ]
        return [Shot(prompt, s, self.negative) for prompt in self.prompts for s in each]


@dataclass(frozen=True)
class Row:
    """A column, what it drew, and its scores."""

    column: Column
    figures: Sequence[MapFigure]
    """One for each of the trial's shots."""
    scores: Scores


@dataclass(frozen=True)
class Evaluation:
    """The rows of a trial, and which concept is the best."""

    trial: Trial
    rows: Sequence[Row]

    @property
    def scores(self) -> list[Scores]:
        """Of every row."""
        return [row.scores for row in self.rows]

    @property
    def best(self) -> Row:
        """The row of the best concept."""
        concepts = self._of_concepts
        return concepts[best_row([row.scores for row in concepts], self.trial.best_by)]

    @property
    def table(self) -> str:
        """All scores as Markdown, and the verdict below them."""
        return f"{score_table(self.scores)}\n\n{self.verdict}"

    @property
    def verdict(self) -> str:
        """Which concept is the best, and by how much."""
        by, best = self.trial.best_by, self.best
        told = f"Best by {by}: {best.scores.label} ({merit(best.scores, by):.3f})"
        others = [row.scores for row in self._of_concepts if row is not best]
        others = [scores for scores in others if merit(scores, by) is not None]
        if not others:
            return f"{told}."
        second = max(others, key=lambda scores: merit(scores, by) or 0.0)
        told += f"; next is {second.label} ({merit(second, by):.3f})."
        pairs = {metric: won(best.scores, second, metric) for metric in (IDENTITY, TEXT)}
        ahead = [f"{m} in {pair[0]} of {pair[1]}" for m, pair in pairs.items() if pair and pair[1]]
        return (
            f"{told} Pictures in which it is ahead of that: {', '.join(ahead)}." if ahead else told
        )

    @property
    def _of_concepts(self) -> list[Row]:
        return [row for row in self.rows if row.column.concept is not None]

    def grid(self, cell: int) -> Tensor:
        """(Y, X, 3): the first picture of each prompt, a row each, a column by concept."""
        trial, labels = self.trial, [scores.label for scores in self.scores]
        firsts = range(0, len(trial.prompts) * trial.images, trial.images)
        pictures = [[_picture(row.figures[number]) for row in self.rows] for number in firsts]
        return evaluation_grid(trial.reference.photos, trial.prompts, pictures, labels, cell)


def check_best_by(by: str, encoders: Sequence[Any]) -> None:
    """ValueError unless the encoders give what the best is chosen by."""
    require_choice("best_by", by, BEST_BY)
    if by in (BOTH, TEXT) and not any(encoder.reads_text for encoder in encoders):
        raise ValueError(
            f"best_by = {by!r} needs an encoder that reads texts (CLIP with its text half): "
            "connect one, or set best_by to identity"
        )


def evaluate(
    wires: tuple[Any, Any, Any],
    columns: Sequence[Column],
    labels: Sequence[str],
    trial: Trial,
    told: Callable[[Scores], None] = lambda scores: None,
) -> Evaluation:
    """Draws the trial's pictures with each column and scores them, column by column. `wires`:
    MODEL, CLIP and VAE without the concepts. `told` of every row as soon as it is scored."""
    shots = trial.shots
    subjects: dict[str, Sought] = {}
    if trial.reference.masks:  # before anything is drawn for nothing
        categories = dict.fromkeys(column.words[1] for column in columns)
        subjects = {category: sought(wires[1], category) for category in categories}
    masks: dict[Any, Sequence[Tensor | None]] = {}
    others: dict[Any, list[Tensor]] = {}
    rows = []
    drawn = draw(wires, columns, shots, _photo(columns, wires[2], trial), _compares_maps)
    for number, (column, figures) in enumerate(zip(columns, drawn, strict=True)):
        if column.key not in masks:  # columns that draw the same are looked at once
            subject = subjects.get(column.words[1])
            masks[column.key] = _masks(wires, subject, figures)
        pictures = zip(shots, figures, masks[column.key], strict=True)
        own = [_sample(column, *picture) for picture in pictures]
        if column.concept is None:  # the first column: what the others are compared with
            _add_distractors(others, own)
        scores = score(labels[number], own, trial.reference, trial.encoders, others)
        warning = "" if column.concept is None else layer_warning(wires[1], column.concept)
        notes = (*_notes(columns, labels, number), *filter(None, [warning]))
        rows.append(Row(column, figures, dataclasses.replace(scores, notes=notes)))
        told(rows[-1].scores)
    return Evaluation(trial, rows)


def _photo(columns: Sequence[Column], vae: Any, trial: Trial) -> dict[str, Tensor] | None:
    """LATENT of the subject's first photo, where a concept looks at one (ViCo)."""
    if not any(c.concept is not None and looks_at_a_photo(c.concept) for c in columns):
        return None
    side = min(trial.settings.width, trial.settings.height)
    return photo_latent(vae, from_image(trial.reference.photos[0][None]), side)


def _masks(
    wires: tuple[Any, Any, Any], subject: Sought | None, figures: Sequence[MapFigure]
) -> Sequence[Tensor | None]:
    """Where the subject is on a column's pictures, as Mask Subject finds it with the model before
    training: one judge for all. It costs a pass for each picture, a twentieth of what drawing it
    does. None for each where none is looked for."""
    if subject is None:
        return [None] * len(figures)
    pictures = [_picture(figure).numpy() for figure in figures]
    look = SubjectMaskSettings(resolution=min(pictures[0].shape[:2]))
    return subject_masks((wires[0], wires[2]), pictures, subject, look, stops_at_cancel)


def _compares_maps(column: Column, words: Collection[str]) -> bool:
    """Whether the maps of a column's figure are read, if they are of these words: how much that of
    the concept's word is like that of its category."""
    return column.concept is not None and set(column.words) <= set(words)


def _sample(column: Column, shot: Shot, figure: MapFigure, mask: Tensor | None) -> Sample:
    subject, category = column.words
    agree = None
    if _compares_maps(column, [word.label for word in figure.maps.words]):
        maps = figure.maps.of(subject), figure.maps.of(category)
        agree = float(map_metrics.similarity(*maps).mean())
    return Sample(
        picture=_picture(figure),
        text=whole(shot.prompt, category),
        context=context(shot.prompt),
        mask=mask,
        scene=shot.prompt,
        attention=agree,
    )


def _picture(figure: MapFigure) -> Tensor:
    """(Y, X, 3)."""
    picture = figure.picture(0)
    assert picture is not None, "a drawn figure has a picture"
    return picture.float().cpu()


def _add_distractors(others: dict[Any, list[Tensor]], plain: Sequence[Sample]) -> None:
    """What was drawn before training, by scene."""
    for sample in plain:
        others.setdefault(sample.scene, []).append(sample.picture)


def _notes(columns: Sequence[Column], labels: Sequence[str], number: int) -> tuple[str, ...]:
    """What a reader of a column's scores has to know."""
    column, notes = columns[number], []
    twin = next((n for n in range(number) if columns[n].key == column.key), None)
    if twin is not None:
        same = columns[twin].applied == column.applied
        why = "" if same else ", of which no weight was trained, so that a strength says nothing"
        notes.append(f"the very same concept as {labels[twin]}{why}; it was drawn once")
    if column.words[1] != columns[0].words[1]:
        notes.append(
            f"its category is {column.words[1]}, that of {labels[0]} {columns[0].words[1]}: "
            "text and present are not measured by the same words"
        )
    return tuple(notes)
