"""Scores: what is said of a set of pictures of one subject, by one encoder or several."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from . import metrics
from .encoder import Encoder, Features

IDENTITY, BEST, FOREGROUND = "identity", "best photo", "foreground"
TEXT, CONTEXT, PRESENT, OUTDONE = "text", "context", "present", "outdoes"
METRICS: dict[str, str] = {
    IDENTITY: "mean cosine of all pairs of pictures and photos",
    BEST: "mean cosine of each picture with the photo that it is most like",
    FOREGROUND: "identity with grey in place of the background",
    TEXT: "mean cosine with the prompt, the placeholder removed and the category kept",
    CONTEXT: "mean cosine with what the prompt says beside the subject",
    PRESENT: "share of pictures that look more like the subject than every other one of its "
    "category in the same scene",
    OUTDONE: "share of these others that a picture outdoes; 50% is no better than another one",
}
"""What each number means, in the order of the table."""
SHARES = (PRESENT, OUTDONE)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One picture to score."""

    picture: Tensor
    """(Y, X, 3) in 0..1."""
    text: str = ""
    """The prompt without the placeholder; empty: no score of text."""
    context: str = ""
    """What it says beside the subject; empty: no score of it."""
    mask: Tensor | None = None
    """(Y, X): where the subject is."""
    scene: Hashable = None
    """Distractors of the same scene are compared with it."""
    attention: float | None = None
    """How alike the maps of the new word and of its category are, 0..1."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The subject's photos."""

    photos: Sequence[Tensor]
    """(Y, X, 3) each, of any sizes."""
    masks: Sequence[Tensor] = ()
    """(Y, X) for each photo; empty: no score of the foreground."""

    def __post_init__(self) -> None:
        if not self.photos:
            raise ValueError("there is no photo of the subject: connect at least one")
        if self.masks and len(self.masks) != len(self.photos):
            raise ValueError(
                f"{len(self.masks)} masks for {len(self.photos)} photos: connect a mask for each, "
                "or none"
            )


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Means over pictures, a row of the table."""

    label: str
    pictures: int
    by_encoder: Mapping[str, Mapping[str, float | None]]
    """Encoder -> metric -> value; None where there was nothing to measure."""
    attention: float | None = None
    """Mean likeness of the two words' maps."""
    each: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Identity and text of every picture, by the first encoder that has them; text only where every
    picture has one."""
    notes: tuple[str, ...] = field(default=())
    """What a reader of the row has to know."""

    def value(self, metric: str) -> float | None:
        """The metric by the first encoder that has it."""
        found = (values.get(metric) for values in self.by_encoder.values())
        return next((value for value in found if value is not None), None)

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "label": self.label,
            "pictures": self.pictures,
            "attention": self.attention,
            **{name: dict(values) for name, values in self.by_encoder.items()},
        }


def score(
    label: str,
    samples: Sequence[Sample],
    reference: Reference,
    encoders: Sequence[Encoder],
    distractors: Mapping[Hashable, Sequence[Tensor]] | None = None,
) -> Scores:
    """Scores of one set of pictures. `distractors`: pictures of other subjects of the category by
    scene; a picture is none to itself. ValueError without a picture, a photo or an encoder."""
    if not samples:
        raise ValueError("there is no image to score: connect at least one")
    if not encoders:
        raise ValueError("there is no encoder: connect Load Image Encoder")
    by_encoder: dict[str, Mapping[str, float | None]] = {}
    each: dict[str, tuple[float, ...]] = {}
    for encoder in encoders:
        name, number = encoder.name, 2
        while name in by_encoder:
            name, number = f"{encoder.name} {number}", number + 1
        by_encoder[name] = _by(encoder, samples, reference, distractors or {}, each)
    return Scores(
        label=label,
        pictures=len(samples),
        by_encoder=by_encoder,
        each=each,
        attention=metrics.mean([sample.attention for sample in samples]),
    )


def _by(
    encoder: Encoder,
    samples: Sequence[Sample],
    reference: Reference,
    distractors: Mapping[Hashable, Sequence[Tensor]],
    each: dict[str, tuple[float, ...]],
) -> dict[str, float | None]:
    """The metrics by one encoder; what it says of every picture goes into `each` if it is not
    there."""
    features = Features(encoder)
    photos = features.pictures(reference.photos, "photo")
    pictures = features.pictures([sample.picture for sample in samples])
    likeness = metrics.identity(pictures, photos)
    each.setdefault(IDENTITY, tuple(likeness.tolist()))
    values: dict[str, float | None] = {
        IDENTITY: metrics.mean(likeness.tolist()),
        BEST: metrics.mean(metrics.best_identity(pictures, photos).tolist()),
        FOREGROUND: _foreground(features, samples, reference),
    }
    for metric, texts in (
        (TEXT, [sample.text for sample in samples]),
        (CONTEXT, [sample.context for sample in samples]),
    ):
        told = [i for i, text in enumerate(texts) if text]
        values[metric] = None
        if told and encoder.reads_text:
            vectors = features.texts([texts[i] for i in told])
            found = metrics.agreement(pictures[told], vectors).tolist()
            values[metric] = metrics.mean(found)
            if metric == TEXT and len(found) == len(samples):
                each.setdefault(TEXT, tuple(found))
    shares = _outdone(features, samples, likeness.tolist(), distractors, photos)
    there = [share for share in shares if share is not None]
    values[PRESENT] = metrics.mean([float(share == 1.0) for share in there])
    values[OUTDONE] = metrics.mean(shares)
    return values


def _foreground(
    features: Features, samples: Sequence[Sample], reference: Reference
) -> float | None:
    """Mean cosine of pairs, both without their background; pictures and photos whose mask shows
    nothing are left out."""
    if not reference.masks:
        return None
    pairs = zip(reference.photos, reference.masks, strict=True)
    photos = [found for p, m in pairs if (found := metrics.foreground(p, m)) is not None]
    cut = [metrics.foreground(s.picture, s.mask) for s in samples if s.mask is not None]
    pictures = [found for found in cut if found is not None]
    if not photos or not pictures:
        return None
    vectors = features.pictures(pictures), features.pictures(photos, "photo")
    return metrics.mean(metrics.identity(*vectors).tolist())


def _outdone(
    features: Features,
    samples: Sequence[Sample],
    likeness: Sequence[float],
    distractors: Mapping[Hashable, Sequence[Tensor]],
    photos_RD: Tensor,
) -> list[float | None]:
    """Of each picture: the share of its scene's distractors that it outdoes."""
    found: dict[Hashable, list[float]] = {}
    for scene in dict.fromkeys(sample.scene for sample in samples):
        others = distractors.get(scene, ())
        if others:
            vectors = features.pictures(others, "distractor")
            found[scene] = metrics.identity(vectors, photos_RD).tolist()
    shares = []
    for sample, own in zip(samples, likeness, strict=True):
        others = zip(distractors.get(sample.scene, ()), found.get(sample.scene, ()), strict=True)
        values = [value for picture, value in others if picture is not sample.picture]
        shares.append(metrics.outdone(own, values))
    return shares
