"""Columns: ways to draw the same prompts with the same noise, before training and by concept."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

from comfy_api.v0_0_2 import io

from ..attndb.artifacts.concept import TrainedConcept
from ..attndb.config.applied import AS_TRAINED, Applied, differences
from ..attndb.viz.map_figure import MapFigure
from .compared_methods import BY_NAME
from .host.capture.drawn_figure import SubjectPrompt, drawn_figure
from .host.capture.prompt import encode, prompt_words
from .host.model.concept_patches import apply_to_model
from .host.model.sampling import SamplerSettings
from .host.model.text import corrected_clip
from .host.ui.progress import CountedProgress
from .socket_types import Concept
from .wires import filled_lines

MOST = 12
"""Columns of a figure."""
_STAGES = (1, 2, 3)


@dataclass(frozen=True)
class Column:
    """One way to draw the prompts."""

    concept: TrainedConcept | None
    """None: the model as it was."""
    subject: str
    """What stands in a prompt for {}."""
    placeholder: str
    """The concept's; of the model as it was, the one of the concept beside it."""
    words: tuple[str, ...]
    """Whose maps are shown."""
    name: str
    """Of the concept among the others."""
    applied: Applied = AS_TRAINED
    """How the concept is."""
    told: str = ""
    """The same in words, where columns differ in it."""

    @property
    def label(self) -> str:
        """What stands below its pictures."""
        return f"{self.name}, {self.told}" if self.told else self.name

    @property
    def key(self) -> tuple[str, str, tuple[str, ...], Applied]:
        """Equal for columns that draw the same."""
        concept, applied = self.concept, self.applied
        if concept is None:
            return "", self.subject, self.words, applied
        if not concept.delta and not concept.modules:
            applied = applied.without_weights()
        return concept.digest(), self.subject, self.words, applied


@dataclass(frozen=True)
class Shot:
    """A prompt with {}, and how it is drawn."""

    prompt: str
    settings: SamplerSettings
    negative: str = ""
    """With {} as the prompt."""

    def of(self, column: Column) -> SubjectPrompt:
        """The prompt about a column's subject."""
        return SubjectPrompt(self.prompt, column.subject, column.placeholder, self.negative)


def base_sockets() -> list[io.Input]:
    """The wires to draw with, without concepts, and the concepts."""
    return [
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
    ]


def labels_widget() -> io.Input:
    """Names of the columns."""
    return io.String.Input(
        "labels",
        default="",
        multiline=True,
        tooltip="Names of the columns, one in a line. Empty: by stage or placeholder.",
        advanced=True,
    )


def columns_of(
    sockets: Mapping[str, Any],
    typed: Sequence[str],
    *,
    before: bool,
    applied: Sequence[Applied] = (AS_TRAINED,),
    names: Sequence[str] = (),
) -> list[Column]:
    """The model as it was, if asked for, and the concepts of all sockets, in their order, each in
    each of the ways `applied`. `typed`: words whose maps are shown; none: the new word and its
    category. `names`: of the concepts; none: by what tells them apart."""
    given = [
        concept
        for value in sockets.values()
        for concept in (value if isinstance(value, list) else [value])
        if concept is not None
    ]
    if not given:
        raise ValueError("there is no concept: connect Train Concept, a stage or Load Concept")
    if len(given) > MOST:
        raise ValueError(f"concepts: {len(given)} are connected, and a figure shows {MOST} at most")
    if len(given) * len(applied) > MOST:
        raise ValueError(
            f"strengths and corrections: {len(applied)} ways to draw "
            f"{f'each of {len(given)} concepts' if len(given) > 1 else 'a concept'} are "
            f"{len(given) * len(applied)} columns, and a figure shows {MOST} at most: type fewer"
        )
    columns = [
        Column(c, c.trigger, c.placeholder, _words(c, typed), name, how, words)
        for c, name in zip(given, names or concept_names(given), strict=True)
        for how, words in zip(applied, differences(applied), strict=True)
    ]
    category, words = given[0].category, columns[0].words
    plain = Column(None, category, given[0].placeholder, words, "before training")
    return [plain, *columns] if before else columns


def _words(concept: TrainedConcept, typed: Sequence[str]) -> tuple[str, ...]:
    return tuple(typed) or (concept.placeholder, concept.category)


def labels_of(columns: Sequence[Column], typed: str) -> list[str]:
    """A name for each column: those that were typed, one in a line, then ours."""
    own = filled_lines(typed)[: len(columns)]
    return [*own, *(column.label for column in columns[len(own) :])]


def concept_names(given: Sequence[TrainedConcept]) -> list[str]:
    """What tells concepts apart: how each was trained, where all are one word; else the word. Those
    that are still alike are numbered."""
    ways = [_trained(concept) for concept in given]
    words = [concept.placeholder for concept in given]
    if len(set(words)) == 1 and all(ways):
        names = ways
    elif len(set(words)) == len(words):
        names = words
    else:
        names = [f"{w}, {way}" if way else w for w, way in zip(words, ways, strict=True)]
    alike = [names[: n + 1].count(name) for n, name in enumerate(names)]
    return [name if n == 1 else f"{name} ({n})" for name, n in zip(names, alike, strict=True)]


def _trained(concept: TrainedConcept) -> str:
    """By its last stage's record; empty where it says nothing."""
    stages = concept.record.get("stages") or [{}]
    last = stages[-1] if isinstance(stages[-1], dict) else {}
    done = last.get("after_steps")
    more = f", step {done}" if type(done) is int else ""
    if last.get("method") in BY_NAME:
        return f"{BY_NAME[last['method']].label}{more}"
    return f"after stage {last['stage']}{more}" if last.get("stage") in _STAGES else ""


def draw(
    wires: tuple[Any, Any, Any],
    columns: Sequence[Column],
    shots: Sequence[Shot],
    reference: Mapping[str, Any] | None = None,
    read: Callable[[Column, Collection[str]], bool] = lambda *_: True,
    rows: int = 0,
) -> Iterator[list[MapFigure]]:
    """A figure for each shot, column by column. Columns that draw the same are drawn once. `wires`:
    MODEL, CLIP and VAE without the concepts; they stay as they are. `reference`: LATENT of a photo,
    for concepts that look at one. `read`: whether anything reads a column's maps, if they are of
    these words; to capture them takes a part of the sampling's time. `rows`: so many of each
    column's words are to be shown; ValueError for those that no prompt of any column holds."""
    different = {column.key: column for column in columns}
    # all of them now: one that does not fit is an error before hours of drawing
    ready = {key: _with_concept(wires, column, reference) for key, column in different.items()}
    if rows:
        clips = {key: clip for key, (_, clip, _) in ready.items()}
        _check_words([(column, clips[column.key]) for column in columns], shots, rows)
    steps = sum(shot.settings.steps for shot in shots)
    bar, total = CountedProgress(), len(different) * steps
    drawn: dict[Any, list[MapFigure]] = {}
    before = 0
    for column in columns:
        if column.key in drawn:
            yield drawn[column.key]
            continue
        own, figures = ready.pop(column.key), []
        # two are kept, the prompt and the negative: the pictures of a prompt follow each other
        encoded = lru_cache(maxsize=2)(partial(encode, own[1]))
        for shot in shots:

            def done(steps: int, before: int = before) -> None:
                bar(before + steps, total)

            asked = (shot.of(column), column.words, shot.settings, done, partial(read, column))
            figures.append(drawn_figure(own, encoded, *asked))
            before += shot.settings.steps
        drawn[column.key] = figures
        yield figures


def _check_words(columns: Sequence[tuple[Column, Any]], shots: Sequence[Shot], rows: int) -> None:
    """ValueError for one of the first words of all columns, each with its CLIP, that none of their
    prompts holds."""
    texts = [
        (column.words, prompt_words(clip, shot.of(column).text))
        for column, clip in columns
        for shot in shots
    ]
    for row in range(rows):
        if not any(prompt.places(words[row]) for words, prompt in texts):
            words, prompt = texts[0]
            known = ", ".join(word.label for word in prompt.all())
            raise ValueError(
                f"there is no map of {words[row]!r}, for no prompt holds it; the words of the "
                f"first are: {known}"
            )


def _with_concept(
    wires: tuple[Any, Any, Any], column: Column, reference: Mapping[str, Any] | None
) -> tuple[Any, Any, Any]:
    """MODEL, CLIP and VAE with a column's concept. ValueError if it is not for them."""
    model, clip, vae = wires
    if column.concept is None:
        return wires
    applied = apply_to_model(model, column.concept, column.applied.strength, reference)
    return applied, corrected_clip(clip, column.concept, column.applied.correction), vae
