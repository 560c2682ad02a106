"""TrainingReport: the report of a concept: words, settings, pictures, maps, curves, scores."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image
from torch import Tensor

from ..artifacts.concept import TrainedConcept
from ..config.printable import printable
from .concept_facts import all_settings, loss_curves, short_settings, words_of
from .report import Report, Row, Section, to_picture
from .score_table import meanings_of, score_rows
from .scores import Scores

MOST_PICTURES = 60
"""Of one section: a page and a picture of thousands cannot be opened."""
NOTHING_RECORDED = "The concept's file says nothing of a training: it came from another program."


def training_report(
    concept: TrainedConcept,
    *,
    photos: Sequence[Tensor] = (),
    pictures: Sequence[Tensor] = (),
    maps: Sequence[Tensor] = (),
    scores: Sequence[Scores] = (),
    text: str = "",
) -> Report:
    """Of what there is. Pictures are (Y, X, 3) in 0..1; photos may be of different sizes."""
    settings = short_settings(concept)
    rows: Sequence[Row] = score_rows(scores) if scores else ()
    strip = [("", photo_strip(photos))] if photos else []
    return Report(
        title=f"{printable(concept.placeholder, 80)}: {printable(concept.category, 80)}",
        sections=(
            Section(title="The concept", rows=words_of(concept), head=False, text=text),
            Section(title="Photos", pictures=strip),
            Section(title="Pictures", pictures=_shown(pictures)),
            Section(title="Scores", rows=rows),
            Section(
                title="What the scores mean",
                text=meanings_of(scores) if scores else "",
                folded=True,
            ),
            Section(title="Attention maps", pictures=_shown(maps)),
            Section(title="Losses", pictures=loss_curves(concept)),
            Section(title="Settings", rows=settings, text="" if settings else NOTHING_RECORDED),
            Section(title="All settings", rows=all_settings(concept), folded=True),
        ),
    )


def _shown(pictures: Sequence[Tensor]) -> list[tuple[str, Image.Image]]:
    shown = [("", to_picture(picture)) for picture in pictures[:MOST_PICTURES]]
    if (more := len(pictures) - len(shown)) > 0:
        shown[-1] = (f"and {more} more", shown[-1][1])
    return shown


def photo_strip(photos: Sequence[Tensor], height: int = 256) -> Image.Image:
    """The photos side by side, all of one height; at most eight."""
    shown = [to_picture(photo) for photo in photos[:8]]
    scaled = [p.resize((max(1, round(p.width * height / p.height)), height)) for p in shown]
    strip = Image.new("RGB", (sum(p.width + 10 for p in scaled) - 10, height), (24, 24, 28))
    left = 0
    for picture in scaled:
        strip.paste(picture, (left, 0))
        left += picture.width + 10
    return strip
